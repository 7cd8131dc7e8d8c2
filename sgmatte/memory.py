"""Too little memory for a large photo: known for what it is, and met with less demanding ways before it is given up."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

Answer = TypeVar("Answer")

WORDS = ("can't allocate memory", "not enough memory", "out of memory")  # torch's on Linux, on Windows, on a GPU


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: Python's, NumPy's, torch's on a CPU or on a GPU."""
    if isinstance(error, MemoryError):  # NumPy's is one too
        return True
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one; on a CPU, the message alone tells
        text = str(error)
        return type(error).__name__ == "OutOfMemoryError" or any(words in text for words in WORDS)
    return False


def first_that_fits(ways: Iterable[tuple[str, Callable[[], Answer]]]) -> tuple[Answer, str | None]:
    """The answer of the first way that there is enough memory for, and its name; None in place of the first one's name.

    Raises:
        RuntimeError, MemoryError: there is not enough for the last way either; whatever else a way raises, at once.
    """
    shortage: BaseException | None = None
    for name, way in ways:
        try:
            return way(), name if shortage else None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            shortage = error.with_traceback(None)  # its frames hold the tensors that there is no room for
        _give_back()
    assert shortage
    raise shortage


def _give_back() -> None:
    """Return to the system what nobody holds any more."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # glibc keeps what was freed; others have no such thing
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
