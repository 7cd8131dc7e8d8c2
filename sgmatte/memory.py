"""Too little memory for a large photo: known for what it is, and met with smaller parts before anything is given up."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: Python's, NumPy's, torch's on a CPU or on a GPU."""
    if isinstance(error, MemoryError):  # NumPy's is one too
        return True
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one; on a CPU, the message alone tells
        text = str(error)
        return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text or "out of memory" in text
    return False
