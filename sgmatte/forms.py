"""How results are written, as far as it can be told and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgmatte.errors import UsageError

Bits = Literal[8, 16]
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
READ_SUFFIXES = (*FORMATS, ".gif", ".bmp", ".heic", ".heif", ".hif", ".avif")
"""Of the files that a folder is searched for; a file that is named may be called anything."""
DEEP_FORMATS = ("PNG", "TIFF")
OWN_SUFFIXES = {"preview": ".png", "report": ".json"}  # of kinds that no --format changes; a name of the user's may
COLOURS = ("enhanced", "cutout", "foreground", "composite")  # carry metadata
SHALLOW = ("trimap", "preview")
TRANSPARENT = ("cutout",)


@dataclass(frozen=True)
class Form:
    """What a user chooses of a command's pictures.

    Attributes:
        format: of all but previews, or None: as a file's name says, PNG for files that are given none. Previews are
            PNG too, unless `--name` says otherwise.
        bits: per channel, of alphas and colours. Trimaps and previews have 8.
        keep_metadata: colours carry the EXIF of their photo.
    """

    format: Literal["png", "webp", "tiff"] | None = None
    bits: Bits = 8
    keep_metadata: bool = False

    def suffixes(self, kinds: Iterable[str]) -> dict[str, str]:
        """Of files that are given no name of their own, by kind."""
        return {kind: OWN_SUFFIXES.get(kind, f".{self.format or 'png'}") for kind in kinds}

    def bits_of(self, kind: str) -> Bits:
        return 8 if kind in SHALLOW else self.bits

    def check(self, files: Mapping[str, Path]) -> None:
        """Refuse names of results, by kind, that ask for what cannot be.

        Raises:
            UsageError: see `format_of`, or a name of another format than the one chosen.
        """
        for kind, file in files.items():
            if kind in OWN_SUFFIXES:
                continue
            name = format_of(file, self.bits_of(kind))
            if kind in TRANSPARENT and name == "JPEG":
                raise UsageError(f"{file}: JPEG has no transparency, which a {kind} needs; choose .png, .webp or .tif")
            if self.format and name != self.format.upper():
                raise UsageError(f"{file}: --format {self.format} and this name do not go together; give one of them")


PLAIN = Form()


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
