"""What a batch does to each photo: settings that travel to other processes, and the worker they make there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sgmatte.batch.attempts import Work
from sgmatte.batch.names import Job
from sgmatte.forms import PLAIN, Form
from sgmatte.observers import Observe

if TYPE_CHECKING:
    from sgmatte.device import Device
    from sgmatte.generation.settings import Drawing, Limits
    from sgmatte.settings import Settings


@dataclass(frozen=True)
class TrimapTask:
    """The trimap alone: kind "trimap"."""

    matters: ClassVar = ("max_pixels",)  # of the settings, to its results
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

    matters: ClassVar = ("model", "max_pixels", "trimap", "trimap_width", "form.bits", "form.keep_metadata")
    settings: Settings
    device: Device
    trimap: Path | None = None
    trimap_width: float | None = None
    form: Form = PLAIN

    def worker(self) -> Work:
        from sgmatte.metadata import metadata_for
        from sgmatte.pipeline import Networks, matte_photo
        from sgmatte.writers import written

        networks = Networks(self.settings, self.device)
        networks.matting  # noqa: B018, a model that is none is told before any photo is looked at

        def work(job: Job, observe: Observe) -> dict[str, Any]:
            result = matte_photo(job.photo, networks, self.trimap, observe, self.trimap_width)
            metadata = metadata_for(self.form, job.photo, self.settings.max_pixels)
            for kind, file in job.files.items():
                written(kind, file, getattr(result, kind), self.form, metadata)
            return {
                "files": _texts(job),
                "size": list(result.photo.size),
                "model": self.settings.model,
                "confidence": asdict(result.confidence),
                "notes": [*result.photo.notes, *metadata.notes],
            }

        return work


@dataclass(frozen=True)
class EnhanceTask:
    """The whole chain: the kinds of `sgmatte.results.KINDS`."""

    matters: ClassVar = ()  # all
    settings: Settings
    device: Device
    form: Form = PLAIN

    def worker(self) -> Work:
        from sgmatte.metadata import metadata_for
        from sgmatte.pipeline import Networks, enhance_photo
        from sgmatte.results import write_enhanced

        networks = Networks(self.settings, self.device)
        networks.matting  # noqa: B018, as above
        if self.settings.weights.adversarial:
            networks.critic  # noqa: B018, a file that is none is told now, not after an inversion

        def work(job: Job, observe: Observe) -> dict[str, Any]:
            result = enhance_photo(job.photo, networks, observe)
            metadata = metadata_for(self.form, job.photo, self.settings.max_pixels)
            write_enhanced(result, job.files, self.form, metadata)
            return {
                "files": _texts(job),
                "size": list(result.matte.photo.size),
                "confidence": asdict(result.matte.confidence),
                "notes": [*result.matte.photo.notes, *metadata.notes],
                "report": result.report,
            }

        return work


@dataclass(frozen=True)
class GenerateTask:
    """A portrait drawn, enhanced, matted and judged: kinds "alpha", "foreground", "trimap" and "image", which comes
    last, so that no image is ever without its alpha. Jobs are `sgmatte.generation.run.Draw`.
    """

    matters: ClassVar = ("generator", "size", "model", "perceptual", "optimisation.", "weights.", "drawing.", "limits.")
    settings: Settings
    device: Device
    drawing: Drawing
    limits: Limits

    def worker(self) -> Work:
        import time

        from sgmatte.generation.portraits import Portraits
        from sgmatte.generation.run import Draw
        from sgmatte.masks import write_trimap
        from sgmatte.pipeline import Networks
        from sgmatte.writers import write_image

        networks = Networks(self.settings, self.device)
        portraits = Portraits(networks, self.drawing, self.limits)
        weights = portraits.weight_hashes()

        def work(job: Job, observe: Observe) -> dict[str, Any]:
            assert isinstance(job, Draw)
            started = time.process_time()
            portrait = portraits[job.index]
            for kind, file in job.files.items() if not portrait.reasons else ():
                write = write_trimap if kind == "trimap" else write_image
                write(file, portrait.pictures[kind])
            return {
                "state": "refused" if portrait.reasons else "done",
                "reasons": portrait.reasons,
                "scores": portrait.scores,
                "files": {} if portrait.reasons else _texts(job),
                "core_seconds": round(time.process_time() - started, 3),
                "weights": weights,
            }

        return work


AnyTask = TrimapTask | MatteTask | EnhanceTask | GenerateTask


def options_of(task: AnyTask) -> dict[str, Any]:
    """What results depend on besides the photo, by dotted names; the device is not among it."""
    options = {name.removeprefix("settings."): value for name, value in _flat(asdict(task), "").items()}
    return {
        name: value
        for name, value in options.items()
        if (not task.matters or any(_is_under(name, part) for part in task.matters)) and not name.startswith("device.")
    }


def _is_under(name: str, part: str) -> bool:
    """Whether a dotted name is `part`, or lies in it where it ends in a dot."""
    return name == part or (part.endswith(".") and name.startswith(part))


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: str(value) if isinstance(value, Path) else value}
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= _flat(part, f"{name}.{key}" if name else key)
    return found


def _texts(job: Job) -> dict[str, str]:
    return {kind: str(file) for kind, file in job.files.items()}
