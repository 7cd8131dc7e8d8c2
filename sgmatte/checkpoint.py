"""What `torch.save` wrote, read without running anything.

torch's own `weights_only` lets no code run, but its list of harmless builders is long, and some of them can be made to
ask for any amount of memory. So the pickle is looked through first, opcode by opcode and without building anything:
it may name only what plain state dicts are made of.
"""

from __future__ import annotations

import io
import os
import pickletools
import re
import warnings
from pathlib import Path
from typing import IO, Any

from sgmatte.archive import is_zip, opened_zip
from sgmatte.errors import WeightError
from sgmatte.hostile import file_size, printable

LARGEST = 2 << 30  # bytes of a file; the largest that is known, a StyleGAN2 with its training state, has 0.5 GB
LARGEST_PICKLE = 4 << 20  # bytes of the pickle in it, which holds names and shapes, but no values
MOST_OPCODES = 500_000
LEGACY_PICKLES = 5  # magic number, version, machine, content, keys of the storages; before torch 1.6
LONGEST_TEXT = 4096  # bytes of a key
PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch \w+Storage|"
    r"torch (Size|device|b?float\d*|half|double|u?int\d+|long|bool)|torch\.nn\.parameter Parameter|"
    r"torch\.serialization _get_layout|torch\._utils _rebuild_(sparse_tensor|meta_tensor_no_storage)|"
    r"numpy\.(_core|core)\.multiarray scalar|numpy dtype|_codecs encode"
)


def checkpoint(file: Path) -> Any:
    """What is in a file of `torch.save`; see `unpickled`."""
    file_size(file, LARGEST, WeightError)
    try:
        with file.open("rb") as stream:
            return unpickled(stream, str(file))
    except OSError as error:
        raise WeightError(f"{file}: {error.strerror}") from error


def unpickled(stream: IO[bytes], name: str) -> Any:
    """What `torch.save` put into `stream`, on the CPU: tensors, numbers, text and plain containers, nothing else.

    Raises:
        WeightError: `name` is damaged, is no such file, needs other objects, which could run any code, or claims more
            than its size can hold.
    """
    import torch

    _check_pickles(stream, name)
    try:
        with torch.serialization.safe_globals(_numbers_of_numpy()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols and sparse tensors, which a reader here cannot change
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle made the reader stumble over
        raise WeightError(_refusal(name, re.search(r"GLOBAL (\S+)", str(error)))) from error


def _refusal(name: str, needed: re.Match[str] | None = None) -> str:
    why = f" (it needs {printable(needed[1])}, which could run code)" if needed else ""
    return f"{name}: not a plain torch state dict{why}; nothing else is unpickled"


def _check_pickles(stream: IO[bytes], name: str) -> None:
    """Look through everything in `stream` that would be unpickled; it is at its beginning before and after.

    Raises:
        WeightError: see `unpickled`.
    """
    try:
        if is_zip(stream):
            _check_pickle(_zipped_pickle(stream, name), name)
        else:
            for _ in range(LEGACY_PICKLES):
                _check_pickle(stream, name)
    except WeightError:
        raise
    except Exception as error:  # pickletools raises whatever the damaged bytes lead it to
        raise WeightError(_refusal(name)) from error
    finally:
        stream.seek(0)


def _zipped_pickle(stream: IO[bytes], name: str) -> IO[bytes]:
    size = stream.seek(0, os.SEEK_END)
    with opened_zip(stream, name) as archive:
        entries = archive.infolist()
        # torch stores its records as they are and one after the other; anything else would unpack to more than the file
        if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > size:
            raise WeightError(f"{name}: its records claim more bytes than the file has, as no file of torch does")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
            raise WeightError(_refusal(name))
        return io.BytesIO(archive.read(pickles[0]))


def _check_pickle(stream: IO[bytes], name: str) -> None:
    """The next pickle in `stream`; afterwards it is behind its end."""
    first, encodes, texts = stream.tell(), False, 0
    for count, (opcode, argument, place) in enumerate(pickletools.genops(stream)):
        if count > MOST_OPCODES or (place or 0) - first > LARGEST_PICKLE:
            raise WeightError(f"{name}: its pickle is longer than that of any checkpoint")
        if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            if opcode.name != "GLOBAL" or not PLAIN.fullmatch(str(argument)):
                needed = re.search(r"(.+)", str(argument or opcode.name).replace(" ", "."))
                raise WeightError(_refusal(name, needed))
            encodes |= argument == "_codecs encode"
        if isinstance(argument, str | bytes):
            texts = max(texts, len(argument))
    # A text that is encoded again and again asks for memory without end; the numbers of numpy need 8 characters.
    if texts > LONGEST_TEXT or (encodes and texts > 256):
        raise WeightError(f"{name}: holds texts that are longer than any key; not a plain torch state dict")


def _numbers_of_numpy() -> list[Any]:
    """What single numbers of numpy are pickled as: training scripts like to note their best score as one."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    kinds = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
