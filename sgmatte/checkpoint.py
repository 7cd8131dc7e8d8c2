"""What `torch.save` wrote, read without running anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

from sgmatte.errors import WeightError


def checkpoint(file: Path) -> Any:
    """What is in a file of `torch.save`; see `unpickled`."""
    try:
        with file.open("rb") as stream:
            return unpickled(stream, str(file))
    except OSError as error:
        raise WeightError(f"{file}: {error.strerror}") from error


def unpickled(stream: IO[bytes], name: str) -> Any:
    """What `torch.save` put into `stream`, on the CPU: tensors, numbers, text and plain containers, nothing else.

    Raises:
        WeightError: `name` is damaged, is no such file, or needs other objects, which could run any code.
    """
    import torch

    try:
        with torch.serialization.safe_globals(_numbers_of_numpy()):
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle made the reader stumble over
        needed = re.search(r"GLOBAL (\S+)", str(error))
        why = f" (it needs {needed[1]}, which could run code)" if needed else ""
        raise WeightError(f"{name}: not a plain torch state dict{why}; nothing else is unpickled") from error


def _numbers_of_numpy() -> list[Any]:
    """What single numbers of numpy are pickled as: training scripts like to note their best score as one."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    kinds = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
