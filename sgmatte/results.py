"""What comes of a photo: mattes and enhancements as tensors, and the files that they become."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sgmatte import __version__, zoo
from sgmatte.device import peak_memory_mb
from sgmatte.enhancement.losses import doubt
from sgmatte.foreground import estimated_foreground
from sgmatte.forms import PLAIN, Form
from sgmatte.masks import write_trimap
from sgmatte.metadata import NO_METADATA, Metadata
from sgmatte.metrics import psnr
from sgmatte.photo import Photo, write_json
from sgmatte.preview import preview_image
from sgmatte.trimaps import Confidence
from sgmatte.writers import written

if TYPE_CHECKING:
    from sgmatte.enhancement.optimise import Enhancement
    from sgmatte.face import Quad
    from sgmatte.inversion import Inversion
    from sgmatte.pipeline import Networks


@dataclass(frozen=True)
class Matte:
    """What `matte` makes of a photo; tensors at the photo's size, on the CPU."""

    photo: Photo
    image: Tensor  # (1, 3, H, W) the photo itself, or what the enhancement made of it
    trimap: Tensor  # (1, 1, H, W) classes
    alpha: Tensor  # (1, 1, H, W)
    confidence: Confidence  # of the trimap

    @cached_property
    def foreground(self) -> Tensor:
        """(1, 3, H, W) colours without the old background; estimated once, for those who ask."""
        return estimated_foreground(self.image, self.alpha)

    @cached_property
    def doubt(self) -> float:
        """How undecided alpha is, in [0, 1]: see `sgmatte.enhancement.losses.doubt`."""
        return float(doubt(self.alpha))

    @property
    def cutout(self) -> Tensor:
        """(1, 4, H, W) RGBA with straight alpha."""
        return torch.cat([self.foreground, self.alpha], dim=1)


@dataclass(frozen=True)
class Enhanced:
    """What `enhance` makes of a photo."""

    image: Tensor  # (1, 3, H, W) the enhanced photo
    matte: Matte  # of the enhanced photo
    report: dict[str, Any]


KINDS = ("enhanced", "trimap", "alpha", "cutout", "preview", "report")
"""What an enhancement is written as: five pictures and a report."""


def write_enhanced(
    result: Enhanced, where: Path | Mapping[str, Path], form: Form = PLAIN, metadata: Metadata = NO_METADATA
) -> list[Path]:
    """Write <stem>_<kind>.png and <stem>_report.json into a folder, or under the names given by kind; returns them.

    Raises:
        PhotoError, UsageError: as `written`.
    """
    stem, suffixes = result.matte.photo.path.stem, form.suffixes(KINDS)
    files = {kind: where / f"{stem}_{kind}{suffixes[kind]}" for kind in KINDS} if isinstance(where, Path) else where
    for kind, file in files.items():
        if kind == "report":
            write_json(file, result.report)
        elif kind == "trimap":
            write_trimap(file, result.matte.trimap)
        else:
            written(kind, file, _picture(result, kind), form, metadata)
    return list(files.values())


def _picture(result: Enhanced, kind: str) -> Tensor | np.ndarray:
    matte = result.matte
    if kind == "preview":
        return preview_image(matte.photo.image, result.image, matte.trimap, matte.alpha, matte.cutout)
    picture: Tensor = result.image if kind == "enhanced" else getattr(matte, kind)
    return picture


class Clock:
    """Seconds of each stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._started = "read", time.monotonic()

    def start(self, stage: str) -> None:
        self.stop()
        self._stage, self._started = stage, time.monotonic()

    def stop(self) -> None:
        self.seconds[self._stage] = round(time.monotonic() - self._started, 3)


def enhancement_report(
    networks: Networks,
    mattes: tuple[Matte, Matte],
    whose: str,
    quad: Quad,
    inversion: Inversion,
    enhancement: Enhancement,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What <stem>_report.json holds: everything that is needed to repeat the result, and how it came about.

    `mattes` are those of the photo and of its enhanced version, `whose` is the one that was kept.
    """
    before, after = (asdict(matte.confidence) | {"doubt": matte.doubt} for matte in mattes)
    return {
        "versions": {"sgmatte": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": {"name": networks.device.name, "reason": networks.device.reason},
        "generator": networks.generator.name,
        "weights": {name: {file.name: file.sha256 for file in zoo.record(name).files} for name in zoo.used()},
        "settings": {
            key: str(value) if isinstance(value, Path) else value for key, value in asdict(networks.settings).items()
        },
        "quad": [[round(value, 3) for value in corner] for corner in quad.corners],
        "psnr": {
            "inversion_after_w_plus": inversion.psnr_after_w,
            "inversion": inversion.psnr,
            # step 0 is the photo itself
            "enhanced_photo": psnr(mattes[1].image, mattes[0].image) if enhancement.best else None,
        },
        "trimap_entropy": {"before": before["entropy"], "after": after["entropy"]},
        "confidence": {"before": before, "after": after},
        "matte_of": whose,
        "losses": {"inversion": inversion.losses, "enhancement": enhancement.losses, "kept_step": enhancement.best},
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
    }
