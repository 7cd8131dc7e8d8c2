"""Mattes of photos with a known alpha, before and after enhancement: a row for each photo, variant and matting model.

Each version has the trimap that the network makes of it, as it would have for a user.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgmatte import metrics
from sgmatte.bench.matte import Problem, problems
from sgmatte.enhancement.choice import kept_matte
from sgmatte.errors import DataError, NoFaceError
from sgmatte.face import crop_of
from sgmatte.files import write_json, write_text
from sgmatte.latents import SUFFIX, write_latents
from sgmatte.photo import Photo
from sgmatte.pipeline import Networks, enhanced_matte, face_quad, invert_photo, look_at, matte_of, moved_photo
from sgmatte.results import Matte
from sgmatte.settings import Settings
from sgmatte.study.identity import SIDE, FaceEmbedding, face_embedding
from sgmatte.study.pictures import strip_file, write_strip
from sgmatte.study.variants import Variant
from sgmatte.train.data import PortraitFolder
from sgmatte.trimaps import UNKNOWN, Look

ROWS = "rows.csv"
ASKED = "study.json"


@dataclass(frozen=True)
class Row:
    """One photo, variant and model; `_before` is the photo's own matte, `_after` that of the enhancement.

    Errors as in `sgmatte.metrics`; `_unknown` ones count in the band around the true alpha's soft pixels.
    """

    photo: str
    variant: str
    model: str
    sad_before: float
    sad_after: float
    mse_before: float
    mse_after: float
    sad_unknown_before: float
    sad_unknown_after: float
    mse_unknown_before: float
    mse_unknown_after: float
    gradient_before: float
    gradient_after: float
    connectivity_before: float
    connectivity_after: float
    entropy_before: float  # of the trimap, nats
    entropy_after: float
    doubt_before: float  # of the alpha, in [0, 1]
    doubt_after: float
    kept: str  # whose matte it is: photo, enhanced or both
    psnr: float  # dB of the enhanced photo to the photo; inf where it was left as it is
    perceptual: float  # distance of the enhanced photo to the photo, as the loss has it
    psnr_inversion: float  # dB of the generator's picture to the crop
    seconds: float  # of the enhancement, without the inversion
    identity: float = math.nan  # distance of the faces, see `sgmatte.study.identity`; NaN without an embedding


def study_rows(
    subjects: Iterator[tuple[str, Problem]],
    variants: Sequence[Variant],
    models: Sequence[str],
    networks: Networks,
    folder: Path,
    asked: dict[str, Any],
    observe: Callable[[int], None] | None = None,
) -> tuple[list[Row], list[str]]:
    """Rows of all, and the photos that show no face and were left out. Rows that `folder` has are not made again;
    latents and rows are kept there as they are found.

    Args:
        subjects: photos with their alpha, each under a name of its own, always the same in the same order.
        asked: what the subjects come from; another study's folder is refused by it.

    Raises:
        DataError: the folder holds another study.
    """
    _claim(folder, asked)
    rows = read_rows(folder / ROWS)
    done = {(row.photo, row.variant, row.model) for row in rows}
    embedding = face_embedding()
    faceless: list[str] = []
    for number, (name, problem) in enumerate(subjects, start=1):
        missing = [v for v in variants if any((name, v.name, model) not in done for model in models)]
        if missing:
            subject = _Subject(name, problem, models, networks, folder, embedding)
            for variant in missing:
                rows = [row for row in rows if (row.photo, row.variant) != (name, variant.name)]
                try:
                    rows += subject.rows(variant)
                except NoFaceError:
                    faceless.append(name)
                    break
                _write_rows(folder / ROWS, rows)
        if observe:
            observe(number)
    wanted = {(v.name, model) for v in variants for model in models}
    return [row for row in rows if (row.variant, row.model) in wanted], faceless


def numbered_problems(
    portraits: PortraitFolder, backgrounds: Path | None, count: int, seed: int
) -> Iterator[tuple[str, Problem]]:
    """Those of `sgmatte bench matte`, each under a name of its own."""
    for number, problem in enumerate(problems(portraits, backgrounds, count, seed)):
        yield f"{number:04}-{problem.name}", problem


class _Subject:
    """One photo: its own mattes are made once, its latents once for each generator, and its enhancement once for
    variants that differ in nothing but the matte that comes of it.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        models: Sequence[str],
        networks: Networks,
        folder: Path,
        embedding: FaceEmbedding | None,
    ) -> None:
        self.name, self.problem, self.models, self.networks, self.folder = name, problem, models, networks, folder
        self.embedding = embedding
        self.photo = Photo(Path(name), problem.image)
        self.look = self._look(problem.image)
        self.own = {
            model: matte_of(self.photo, problem.image, self.look, self._under(networks.settings, model))
            for model in models
        }
        self.moved: dict[Settings, tuple[Tensor, Look, dict[str, Any]]] = {}

    def rows(self, variant: Variant) -> list[Row]:
        settings = variant.settings(self.networks.settings)
        alike = replace(settings, keep="better")
        if alike not in self.moved:
            self.moved[alike] = self._moved(alike)
        image, look, about = self.moved[alike]
        mattes = {
            model: enhanced_matte(self.photo, image, self.look, look, self._under(settings, model))
            for model in self.models
        }
        return [self._row(variant, model, matte, about) for model, matte in mattes.items()]

    def _under(self, settings: Settings, model: str) -> Networks:
        return self.networks.under(replace(settings, model=model))

    def _look(self, image: Tensor) -> Look:
        return look_at(self.photo, image, self.networks)[1]

    def _moved(self, settings: Settings) -> tuple[Tensor, Look, dict[str, Any]]:
        """The enhanced photo, what is seen in it, and what rows say of it."""
        networks = self.networks.under(replace(settings, latents=self._latents(self.networks.under(settings))))
        started = time.monotonic()
        moved = moved_photo(self.photo, networks)
        seconds = time.monotonic() - started
        with torch.no_grad():
            distance = float(networks.perceptual.against(self.photo.image)(moved.image).mean())
        about: dict[str, Any] = {
            "psnr": metrics.psnr(moved.image, self.photo.image),
            "perceptual": distance,
            "psnr_inversion": moved.inversion.psnr,
            "seconds": seconds,
            "identity": self._distance(moved.image, settings),
        }
        return moved.image, self._look(moved.image), about

    def _distance(self, enhanced: Tensor, settings: Settings) -> float:
        """Of the face in the enhanced photo to that in the photo."""
        if self.embedding is None:
            return math.nan
        try:
            quad = face_quad(self.photo.image, replace(settings, whole=False))
        except NoFaceError:  # which a photo that is enhanced as a whole may be without
            return math.nan
        before, after = (crop_of(image, quad, SIDE) for image in (self.photo.image, enhanced))
        return self.embedding.distance(before, after)

    def _row(self, variant: Variant, model: str, enhanced: Matte, about: dict[str, Any]) -> Row:
        own = self.own[model]
        kept, whose = kept_matte(own, enhanced, variant.settings(self.networks.settings).keep)
        strip = strip_file(self.folder, self.name, variant.name, model)
        write_strip(strip, self.photo.image, self.problem.alpha, own.alpha, kept.alpha)
        errors: dict[str, Any] = {}
        for (error, before), after in zip(
            self._errors(own.alpha).items(), self._errors(kept.alpha).values(), strict=True
        ):
            errors |= {f"{error}_before": before, f"{error}_after": after}
        return Row(
            self.name,
            variant.name,
            model,
            **errors,
            entropy_before=own.confidence.entropy or 0.0,
            entropy_after=enhanced.confidence.entropy or 0.0,
            doubt_before=own.doubt,
            doubt_after=enhanced.doubt,
            kept=whose,
            **about,
        )

    def _errors(self, alpha: Tensor) -> dict[str, float]:
        truth, unknown = self.problem.alpha, self.problem.trimap == UNKNOWN
        return {
            "sad": metrics.sad(alpha, truth),
            "mse": metrics.mse(alpha, truth),
            "sad_unknown": metrics.sad(alpha, truth, unknown),
            "mse_unknown": metrics.mse(alpha, truth, unknown),
            "gradient": metrics.gradient_error(alpha, truth),
            "connectivity": metrics.connectivity_error(alpha, truth),
        }

    def _latents(self, networks: Networks) -> Path:
        """The file of this photo's latents under these settings, found now if it was not before."""
        settings = networks.settings
        place = self.folder / f"{settings.generator}-{settings.size}{'-whole' if settings.whole else ''}"
        file = place / f"{self.name}{SUFFIX}"
        if not file.exists():
            write_latents(file, invert_photo(self.photo, networks)[0])
        return file


def read_rows(file: Path) -> list[Row]:
    """The rows of a study; none where there is no file.

    Raises:
        DataError: it holds something else.
    """
    if not file.exists():
        return []
    kinds: dict[str, type] = {field.name: float if field.type == "float" else str for field in fields(Row)}
    with file.open(newline="", encoding="utf-8") as lines:
        try:
            return [_row(row, kinds) for row in csv.DictReader(lines)]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: not the rows of a study ({error}); remove it to begin anew") from error


def _row(texts: dict[str, str], kinds: dict[str, type]) -> Row:
    values: dict[str, Any] = {name: kinds[name](text) for name, text in texts.items()}
    return Row(**values)


def _write_rows(file: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    table.writeheader()
    for row in rows:
        short = {k: f"{v:.6g}" if isinstance(v, float) and math.isfinite(v) else v for k, v in asdict(row).items()}
        table.writerow(short)
    write_text(file, text.getvalue())


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    note = folder / ASKED
    if note.exists():
        try:
            known = json.loads(note.read_bytes())
        except ValueError as error:
            raise DataError(f"{note}: damaged ({error}); give another folder with -o") from error
        if known != asked:
            raise DataError(f"{folder} holds another study ({note} says which); give another with -o")
    write_json(note, asked)
