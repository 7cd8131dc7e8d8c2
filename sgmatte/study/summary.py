"""What a study's rows say: means before and after, how sure the difference is, and how many photos came out worse."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from sgmatte.files import write_text
from sgmatte.study.enhancing import Row

ERRORS = ("sad", "mse", "sad_unknown", "mse_unknown", "gradient", "connectivity")
WORSE = 1.02  # an error that grew by more than 2 % counts as worse


@dataclass(frozen=True)
class Change:
    """Of one error, over the photos of a variant and model.

    Attributes:
        before, after: means.
        change: of the means, -0.1 for a tenth less.
        p: two-sided Wilcoxon signed-rank test of the pairs (Wilcoxon, Biometrics Bulletin 1945); 1 where none differs.
        worse: share of photos whose error grew by more than 2 %.
    """

    variant: str
    model: str
    error: str
    photos: int
    before: float
    after: float
    change: float
    p: float
    worse: float


@dataclass(frozen=True)
class Fidelity:
    """How near enhanced photos stay, and how sure the networks are, for a variant; means over photos.

    Attributes:
        psnr, lowest_psnr: dB to the photo, of those that changed at all; NaN where none did.
        enhanced: share of photos whose enhanced version gave the matte, over models.
        identity: distance of the faces; NaN where rows have none.
    """

    variant: str
    photos: int
    psnr: float
    lowest_psnr: float
    perceptual: float
    entropy_before: float
    entropy_after: float
    enhanced: float
    seconds: float
    identity: float


def changes(rows: Sequence[Row]) -> list[Change]:
    """For each variant and model, in the rows' order, every error."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.model), []).append(row)
    return [_change(*names, error, group) for names, group in groups.items() for error in ERRORS]


def _change(variant: str, model: str, error: str, rows: Sequence[Row]) -> Change:
    before, after = (np.array([getattr(row, f"{error}_{when}") for row in rows]) for when in ("before", "after"))
    mean_before, mean_after = float(before.mean()), float(after.mean())
    change = mean_after / mean_before - 1 if mean_before else math.nan
    worse = float((after > before * WORSE).mean())
    return Change(variant, model, error, len(rows), mean_before, mean_after, change, _p(after - before), worse)


def _p(differences: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0


def fidelities(rows: Sequence[Row]) -> list[Fidelity]:
    """For each variant, in the rows' order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.variant, []).append(row)
    return [_fidelity(variant, group) for variant, group in groups.items()]


def _fidelity(variant: str, rows: Sequence[Row]) -> Fidelity:
    each = list({row.photo: row for row in rows}.values())  # models share what is said of the photo
    psnrs = [row.psnr for row in each if math.isfinite(row.psnr)]

    def mean(name: str) -> float:
        return float(np.mean([getattr(row, name) for row in each]))

    return Fidelity(
        variant,
        len(each),
        psnr=float(np.mean(psnrs)) if psnrs else math.nan,
        lowest_psnr=min(psnrs, default=math.nan),
        perceptual=mean("perceptual"),
        entropy_before=mean("entropy_before"),
        entropy_after=mean("entropy_after"),
        enhanced=float(np.mean([row.kept != "photo" for row in rows])),
        seconds=mean("seconds"),
        identity=mean("identity"),
    )


def write_summary(folder: Path, rows: Sequence[Row]) -> None:
    """`summary.csv` and `fidelity.csv`: `changes` and `fidelities` as tables."""
    for name, kind, found in (
        ("summary.csv", Change, changes(rows)),
        ("fidelity.csv", Fidelity, fidelities(rows)),
    ):
        text = io.StringIO()
        table = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
        table.writeheader()
        for item in found:
            values = asdict(item)
            table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
        write_text(folder / name, text.getvalue())
