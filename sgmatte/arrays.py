"""What sgmatte's functions give: NumPy arrays of the photo's size, and the tensors behind them.

Arrays are float32 in [0, 1], trimaps uint8 with 0 background, 128 unknown, 255 foreground.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from sgmatte import inversion, results
from sgmatte.forms import Bits, Form
from sgmatte.latents import Latents, write_latents
from sgmatte.masks import TRIMAP_LEVELS, write_trimap
from sgmatte.metadata import metadata_for
from sgmatte.trimaps import Confidence
from sgmatte.writers import write_image, written

StrPath: TypeAlias = str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Trimap:
    """What `trimap` gives.

    Attributes:
        tensor: int64 (1, 1, H, W), 0 background, 1 unknown, 2 foreground.
        confidence: how sure it is.
        notes: what of the photo was left behind, in words.
    """

    tensor: Tensor
    confidence: Confidence
    notes: tuple[str, ...]

    @cached_property
    def trimap(self) -> np.ndarray:
        """uint8 (H, W), 0 background, 128 unknown, 255 foreground."""
        return levels_of(self.tensor)

    def save(self, path: StrPath) -> Path:
        """Write the trimap; raises like `writers.write_image`."""
        return write_trimap(Path(path), self.tensor)


@dataclass(frozen=True, eq=False)
class Matte:
    """What `matte` gives, made of `tensors` (sgmatte/results.py)."""

    tensors: results.Matte

    @cached_property
    def alpha(self) -> np.ndarray:
        """float32 (H, W)."""
        return array_of(self.tensors.alpha)

    @cached_property
    def trimap(self) -> np.ndarray:
        """uint8 (H, W), 0 background, 128 unknown, 255 foreground."""
        return levels_of(self.tensors.trimap)

    @cached_property
    def foreground(self) -> np.ndarray:
        """float32 (H, W, 3): colours without the old background, estimated when first asked for."""
        return array_of(self.tensors.foreground)

    @cached_property
    def cutout(self) -> np.ndarray:
        """float32 (H, W, 4): RGBA with straight alpha, without a halo of the old background."""
        return array_of(self.tensors.cutout)

    @property
    def confidence(self) -> Confidence:
        """How sure the trimap is."""
        return self.tensors.confidence

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the photo was left behind, in words."""
        return self.tensors.photo.notes

    def save(
        self,
        path: StrPath,
        what: Literal["alpha", "cutout", "foreground", "trimap"] = "alpha",
        *,
        bits: Bits = 8,
        keep_metadata: bool = False,
    ) -> Path:
        """Write the alpha, or what else is named, in the format of the suffix.

        Args:
            bits: per channel, 8 or 16; a trimap has 8.
            keep_metadata: colours carry the EXIF of the photo's file.

        Raises:
            PhotoError, UsageError: as `writers.write_image`, or the photo's file is gone.
        """
        if what == "trimap":
            return write_trimap(Path(path), self.tensors.trimap)
        form = Form(bits=bits, keep_metadata=keep_metadata)
        metadata = metadata_for(form, self.tensors.photo.path)
        return written(what, Path(path), getattr(self.tensors, what), form, metadata)


@dataclass(frozen=True, eq=False)
class Enhanced:
    """What `enhance` gives, made of `tensors` (sgmatte/results.py)."""

    tensors: results.Enhanced

    @cached_property
    def image(self) -> np.ndarray:
        """float32 (H, W, 3), the enhanced photo."""
        return array_of(self.tensors.image)

    @cached_property
    def matte(self) -> Matte:
        """Of the enhanced photo."""
        return Matte(self.tensors.matte)

    @property
    def report(self) -> dict[str, Any]:
        """What `sgmatte enhance` writes into its report."""
        return self.tensors.report

    def save(
        self,
        folder: StrPath,
        *,
        format: Literal["png", "webp", "tiff"] | None = None,
        bits: Bits = 8,
        keep_metadata: bool = False,
    ) -> list[Path]:
        """Write the files of `sgmatte enhance`, named after the photo's file, or `image` where it was none.

        Args:
            format: of all pictures but the preview; png without it.
            bits: per channel, of alpha and colours.
            keep_metadata: colours carry the EXIF of the photo's file.

        Raises:
            PhotoError, UsageError: as `writers.write_image`, or the photo's file is gone.
        """
        form = Form(format, bits, keep_metadata)
        metadata = metadata_for(form, self.tensors.matte.photo.path)
        return results.write_enhanced(self.tensors, Path(folder), form, metadata)


@dataclass(frozen=True, eq=False)
class Inversion:
    """What `invert` gives.

    Attributes:
        latents: W+, noise maps and the face's place in the photo, as tensors (sgmatte/latents.py).
        tensors: how they were found (sgmatte/inversion.py).
        notes: what of the photo was left behind, in words.
    """

    latents: Latents
    tensors: inversion.Inversion
    notes: tuple[str, ...]

    @cached_property
    def image(self) -> np.ndarray:
        """float32 (S, S, 3): what the generator draws there."""
        return array_of(self.tensors.image.clamp(0, 1).cpu())

    @property
    def psnr(self) -> float:
        """Of `image` to the photo's face, in dB."""
        return self.tensors.psnr

    def save(self, path: StrPath) -> Path:
        """Write the file that `enhance` takes as `latents`, safetensors; returns its path.

        Raises:
            OSError: it cannot be written.
        """
        write_latents(Path(path), self.latents)
        return Path(path)


@dataclass(frozen=True, eq=False)
class Composite:
    """What `composite` gives, made of `tensor` (1, 3, H, W)."""

    tensor: Tensor

    @cached_property
    def image(self) -> np.ndarray:
        """float32 (H, W, 3)."""
        return array_of(self.tensor)

    def save(self, path: StrPath, *, bits: Bits = 8) -> Path:
        """Write the picture; raises like `writers.write_image`."""
        return write_image(Path(path), self.tensor, bits=bits)


def array_of(image: Tensor) -> np.ndarray:
    """A tensor (1, C, H, W) as an array, (H, W) if C is 1, else (H, W, C)."""
    planes = image[0].permute(1, 2, 0).contiguous().numpy()
    return planes[..., 0] if planes.shape[2] == 1 else planes


def levels_of(classes: Tensor) -> np.ndarray:
    """Classes (1, 1, H, W) as the levels of a trimap's file, uint8 (H, W)."""
    return np.array(TRIMAP_LEVELS, np.uint8)[classes[0, 0].numpy()]
