"""What a batch does to each photo: settings that travel to other processes, and the worker they make there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgmatte.batch.attempts import Observe, Work
from sgmatte.batch.names import Job

if TYPE_CHECKING:
    from sgmatte.device import Device
    from sgmatte.pipeline import Settings, Trimap


@dataclass(frozen=True)
class TrimapTask:
    """The trimap alone: kind "trimap"."""

    settings: Settings
    device: Device

    def worker(self) -> Work:
        from sgmatte.masks import write_trimap
        from sgmatte.pipeline import Networks, trimap_photo

        networks = Networks(self.settings, self.device)

        def work(job: Job, observe: Observe) -> dict[str, Any]:
            photo, classes, confidence = trimap_photo(job.photo, networks, observe)
            write_trimap(job.files["trimap"], classes)
            return {
                "files": _texts(job),
                "size": list(photo.size),
                "confidence": asdict(confidence),
                "notes": list(photo.notes),
            }

        return work


@dataclass(frozen=True)
class MatteTask:
    """The matte without enhancing: kinds "alpha", "cutout". `trimap` is a file, with `trimap_width` a mask's."""

    settings: Settings
    device: Device
    trimap: Path | None = None
    trimap_width: float | None = None

    def worker(self) -> Work:
        from sgmatte.photo import write_image
        from sgmatte.pipeline import Networks, matte_photo

        networks = Networks(self.settings, self.device)

        def work(job: Job, observe: Observe) -> dict[str, Any]:
            result = matte_photo(job.photo, networks, self.trimap, observe, self.trimap_width)
            for kind, file in job.files.items():
                write_image(file, getattr(result, kind))
            return {
                "files": _texts(job),
                "size": list(result.photo.size),
                "model": self.settings.model,
                "confidence": asdict(result.confidence),
                "notes": list(result.photo.notes),
            }

        return work


@dataclass(frozen=True)
class EnhanceTask:
    """The whole chain: the kinds of `sgmatte.pipeline.write_enhanced`."""

    settings: Settings
    device: Device

    def worker(self) -> Work:
        from sgmatte.pipeline import Networks, enhance_photo, write_enhanced

        networks = Networks(self.settings, self.device)

        def work(job: Job, observe: Observe) -> dict[str, Any]:
            result = enhance_photo(job.photo, networks, observe)
            write_enhanced(result, job.files)
            return {
                "files": _texts(job),
                "size": list(result.matte.photo.size),
                "confidence": asdict(result.matte.confidence),
                "notes": list(result.matte.photo.notes),
                "report": result.report,
            }

        return work


def _texts(job: Job) -> dict[str, str]:
    return {kind: str(file) for kind, file in job.files.items()}
