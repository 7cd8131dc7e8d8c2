"""What a report knows of a photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def record_of(shown: Mapping[str, Any]) -> Record:
    """The record of a photo as `--json` shows it."""
    from sgmatte.trimaps import Confidence

    entropy = shown.get("report", {}).get("trimap_entropy")
    return Record(
        photo=Path(shown["photo"]),
        files={kind: Path(file) for kind, file in shown.get("files", {}).items() if kind in KINDS},
        error=shown.get("error"),
        confidence=Confidence(**shown["confidence"]) if shown.get("confidence") else None,
        entropy=(entropy["before"], entropy["after"]) if entropy else None,
        notes=tuple(shown.get("notes", ())),
        seconds=shown.get("seconds"),
    )
