"""One photo, worked on wherever the batch runs: its record comes back, whatever happens to it."""

from __future__ import annotations

import errno
import glob
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from sgmatte.batch.manifest import Record, input_of, now
from sgmatte.batch.names import Job
from sgmatte.errors import SgmatteError, WeightError
from sgmatte.memory import is_out_of_memory
from sgmatte.observers import Observe, silent

Work = Callable[[Job, Observe], dict[str, Any]]
"""Turns a photo into its files, and says of them what `--json` shows: "files" by kind, "size", "notes" and more; and
"state", where it made none for a good reason."""

PAUSES = (1.0, 3.0, 9.0)  # seconds before a photo is tried again after a network drive's hiccup

HICCUPS = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EREMOTEIO", "ENOTCONN", "EAGAIN")
    if hasattr(errno, name)
)
FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))


def record_of(work: Work, job: Job, observe: Observe = silent) -> Record:
    """What the manifest and `--json` say of one photo: "state" is done or failed; never raises for the photo's sake.

    A failed record has "error", and "passing" where not the photo is to blame, "full" where no more can be written.

    Raises:
        WeightError: the other photos need the same networks.
    """
    started = time.monotonic()
    base: Record = {"photo": str(job.photo), "at": now()}
    for pause in (*PAUSES, None):
        try:
            if job.photo.is_file():  # reading a pipe or a device would never end
                base["input"] = input_of(job.photo)
            result = work(job, observe)
            return base | {"state": "done"} | result | {"seconds": round(time.monotonic() - started, 3)}
        except WeightError:
            raise
        except Exception as error:
            if pause is None or _number(error) not in HICCUPS:
                return base | failure(job, error)
        observe(f"drive trouble, again in {pause:g} s", 0, 1)
        time.sleep(pause)
    raise AssertionError("the last try returns")


def failure(job: Job, error: Exception) -> Record:
    """The part of a failed record that says why."""
    number = _number(error)
    found: Record = {"state": "failed", "error": _message(job, error, number)}
    if number in FULL or number == errno.EROFS:
        found["full"] = True
    if number is not None or any(map(is_out_of_memory, _causes(error))):
        found["passing"] = True
    elif not isinstance(error, SgmatteError):
        found["traceback"] = "".join(traceback.format_exception(error))
    return found


def died(job: Job, how: str) -> Record:
    """The record of a photo that two workers have died of."""
    return {
        "photo": str(job.photo),
        "at": now(),
        "state": "failed",
        "passing": True,
        "error": f"{job.photo}: the process that worked on it died twice ({how}); with less memory in use, by --jobs 1 "
        "or a smaller photo, it may go through",
    }


def _message(job: Job, error: Exception, number: int | None) -> str:
    photo, folder = job.photo, next(iter(job.files.values())).parent
    if number in FULL:
        return f"{folder}: the disk is full; make room and run the same command again, it goes on where it was"
    if number == errno.EROFS:
        return f"{folder}: is on a disk that can only be read; choose another folder with -o"
    if number in HICCUPS:
        return f"{photo}: the drive does not answer ({_chain_strerror(error)}), tried {len(PAUSES) + 1} times"
    if number == errno.ENOENT and not photo.exists():
        if job.seen:
            return f"{photo}: has vanished since the batch began"
        return f"{photo}: {'matches no photo' if glob.has_magic(str(photo)) else 'no such file'}"
    if is_out_of_memory(error):
        return f"{photo}: there is not enough memory for it, even in small parts; use fewer --jobs or a smaller photo"
    if isinstance(error, SgmatteError):
        if job.seen and not photo.exists():
            return f"{photo}: has vanished since the batch began"
        return str(error)
    if isinstance(error, PermissionError):
        return f"{error.filename or photo}: no permission"
    if isinstance(error, OSError):
        return f"{error.filename or photo}: {error.strerror or error}"
    return f"{photo}: a fault of sgmatte, please report it ({type(error).__name__}: {error})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _number(error: Exception) -> int | None:
    """The system's error number behind an error, or behind what it was raised from."""
    numbers = (cause.errno for cause in _causes(error) if isinstance(cause, OSError) and cause.errno)
    return next(numbers, None)


def _chain_strerror(error: Exception) -> str:
    return next((str(cause.strerror) for cause in _causes(error) if isinstance(cause, OSError)), str(error))
