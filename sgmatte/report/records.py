"""What a report knows of a photo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgmatte.batch.names import Job
from sgmatte.trimaps import Confidence

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
        confidence=Confidence(**line["confidence"]) if line.get("confidence") else None,
        entropy=_entropies(job),
        notes=tuple(line.get("notes", ())),
        seconds=line.get("seconds"),
    )


def _entropies(job: Job) -> tuple[float, float] | None:
    """Before and after an enhancement, as its own report tells."""
    report = job.files.get("report")
    if report is None or not report.is_file():
        return None
    entropies = json.loads(report.read_bytes())["trimap_entropy"]
    return entropies["before"], entropies["after"]
