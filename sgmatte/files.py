"""Files that are either written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PARTIAL = ".sgmatte-part"
"""How temporary names end: .<name>-<process id>-<random>.sgmatte-part, so that what a killed process left is known."""

ABANDONED = 3600  # seconds after which a temporary file is no one's, whatever process has its number by now


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in its own folder, flush it to the disk, then rename it into place.

    A reader sees the old file or the new one, never a part; after a failure the temporary file is gone. A symbolic link
    of that name is replaced, and what it points to is left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-{os.getpid()}-", suffix=PARTIAL)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp gives 0600 whatever the user's umask says
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def clean_partials(folders: Iterable[Path]) -> int:
    """Remove the temporary files that killed processes left in these folders, and return how many there were.

    Those of processes that are still at work are let be. To be called before this process writes anything there.
    """
    removed = 0
    for folder in folders:
        for partial in folder.glob(f".*{PARTIAL}") if folder.is_dir() else ():
            if _is_abandoned(partial):
                partial.unlink(missing_ok=True)
                removed += 1
    return removed


def _is_abandoned(partial: Path) -> bool:
    try:
        number = int(partial.name.removesuffix(PARTIAL).split("-")[-2])
        age = time.time() - partial.stat().st_mtime
    except (ValueError, IndexError, OSError):  # not of our naming, or gone meanwhile
        return False
    return number == os.getpid() or age > ABANDONED or not _is_alive(number)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # there, os.kill with signal 0 ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, as UTF-8 with plain line feeds on every system."""
    write_bytes(path, text.encode(errors="surrogateescape"))  # names of files may hold bytes that are no UTF-8


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for JSON, indented, keys in the order given. NaN is refused: it is not JSON."""
    write_text(path, json_text(value, indent=1, allow_nan=False) + "\n")


def json_text(value: Any, indent: int | None = None, allow_nan: bool = True) -> str:
    """JSON with other alphabets as they are, and bytes of file names that are no UTF-8 as escapes, for it must be."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
