"""How results are written, as far as it can be told and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgmatte.errors import UsageError

Bits = Literal[8, 16]
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
DEEP_FORMATS = ("PNG", "TIFF")


@dataclass(frozen=True)
class Form:
    """What a user chooses of a command's pictures.

    Attributes:
        format: of files that are given no name of their own.
        bits: per channel, of alphas and colours. Trimaps and previews have 8.
        keep_metadata: colours carry the EXIF of their photo.
    """

    format: Literal["png", "webp", "tiff"] = "png"
    bits: Bits = 8
    keep_metadata: bool = False

    @property
    def suffix(self) -> str:
        return f".{self.format}"

    def check(self, files: Iterable[Path]) -> None:
        """Raises UsageError where a file's name asks for what cannot be: see `format_of`."""
        for file in files:
            format_of(file, self.bits)


def format_of(path: Path, bits: Bits = 8) -> str:
    """The format that a name stands for, in Pillow's words.

    Raises:
        UsageError: none that is written, or one without so many bits per channel.
    """
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise UsageError(f"{path}: unknown image suffix '{path.suffix}'; use one of {', '.join(FORMATS)}")
    if bits == 16 and name not in DEEP_FORMATS:
        raise UsageError(f"{path}: {name} has 8 bits per channel; 16 go into .png and .tiff")
    return name
