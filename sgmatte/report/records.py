"""What a report knows of a photo. Manifests and reports may come from anyone: what of them is not sound is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgmatte.batch.names import Job
from sgmatte.errors import SgmatteError
from sgmatte.hostile import content
from sgmatte.trimaps import Confidence

LARGEST = 16 << 20  # bytes of an enhancement's report
KINDS = ("enhanced", "cutout", "alpha", "trimap")  # of the pictures beside the photo itself


@dataclass(frozen=True)
class Record:
    """What a run made of one photo, or the error that it ended with."""

    photo: Path
    files: Mapping[str, Path] = field(default_factory=dict)  # by kind, of `KINDS`; more may be there and are left out
    error: str | None = None
    confidence: Confidence | None = None  # of the trimap
    entropy: tuple[float, float] | None = None  # of the photo's trimap before and after an enhancement, in nats
    notes: tuple[str, ...] = ()
    seconds: float | None = None


def record_of(job: Job, line: Mapping[str, Any] | None) -> Record:
    """The record of a photo of a batch, from the last line that its manifest has of it.

    Without a line, its results were there before, and nothing else is known of it.
    """
    if line and line["state"] == "failed":
        return Record(job.photo, error=line["error"])
    line = line or {}
    return Record(
        photo=job.photo,
        files={kind: file for kind, file in job.files.items() if kind in KINDS},
        confidence=_confidence(line.get("confidence")),
        entropy=_entropies(job),
        notes=_texts(line.get("notes")),
        seconds=_number(line.get("seconds")),
    )


def _confidence(told: Any) -> Confidence | None:
    if not isinstance(told, dict):
        return None
    background, unknown, foreground, entropy = (
        _number(told.get(name)) for name in ("background", "unknown", "foreground", "entropy")
    )
    if background is None or unknown is None or foreground is None:
        return None
    return Confidence(background, unknown, foreground, entropy)


def _entropies(job: Job) -> tuple[float, float] | None:
    """Before and after an enhancement, as its own report tells."""
    report = job.files.get("report")
    if report is None:
        return None
    try:
        told = json.loads(content(report, LARGEST, SgmatteError))["trimap_entropy"]
        before, after = _number(told["before"]), _number(told["after"])
    except (SgmatteError, ValueError, KeyError, TypeError, RecursionError):  # missing, or something else
        return None
    return None if before is None or after is None else (before, after)


def _number(told: Any) -> float | None:
    return told if isinstance(told, int | float) and math.isfinite(told) else None


def _texts(told: Any) -> tuple[str, ...]:
    return tuple(text for text in told if isinstance(text, str)) if isinstance(told, list) else ()
