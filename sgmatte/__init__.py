"""Portrait enhancement and matting, from Python in the words of the command line; see docs/python.md.

Importing this package is cheap: torch is loaded by the modules that compute, at the first use of a name of theirs.
"""

import os
from typing import TYPE_CHECKING, Any

# MKL may otherwise sum in an order that depends on where in memory the numbers lie, and a photo's bytes change from run
# to run. It reads this once, when torch is loaded.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if TYPE_CHECKING:
    from sgmatte.api import Session, composite, enhance, invert, matte, trimap
    from sgmatte.arrays import Composite, Enhanced, Inversion, Matte, Trimap
    from sgmatte.errors import SgmatteError

__version__ = "0.1.0"
__all__ = [
    "Composite",
    "Enhanced",
    "Inversion",
    "Matte",
    "Session",
    "SgmatteError",
    "Trimap",
    "__version__",
    "composite",
    "enhance",
    "invert",
    "matte",
    "trimap",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from sgmatte import api, errors

    return getattr(errors if name == "SgmatteError" else api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
