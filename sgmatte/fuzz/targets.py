"""The readers that fuzzing runs: each is given a folder with one input, and must return or raise a SgmatteError."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from sgmatte import manifest, zoo
from sgmatte.batch.inputs import found_inputs, listed
from sgmatte.batch.manifest import Manifest, is_unchanged
from sgmatte.batch.names import Place, check_results
from sgmatte.cli.app import app
from sgmatte.cli.settings import WORDS_OR_FILES, Source, commands_of, settings_in
from sgmatte.enhancement.critics import chosen_critic
from sgmatte.errors import SgmatteError
from sgmatte.fuzz.corpus import HEIGHT, WIDTH
from sgmatte.importers import imported
from sgmatte.latents import Origin, checked_latents, read_latents
from sgmatte.masks import read_alpha, read_cutout, read_trimap
from sgmatte.metadata import carried_metadata
from sgmatte.nn.openvino_ir import read_graph
from sgmatte.photo import read_photo
from sgmatte.train.data import read_grey, read_rgb
from sgmatte.wheel import members

Reader = Callable[[Path], None]


def all_of(*readers: Callable[[], object]) -> None:
    """Run each, whether or not those before it have refused the file; at the end raise the first refusal."""
    refusals = [refusal for refusal in map(_refusal, readers) if refusal]
    if refusals:
        raise refusals[0]


def _refusal(reader: Callable[[], object]) -> SgmatteError | None:
    try:
        reader()
    except SgmatteError as error:
        return error
    return None


def photo(folder: Path) -> None:
    file = folder / "photo"
    found = read_photo(file)
    if not bool(torch.isfinite(found.image).all()) or found.image.min() < 0 or found.image.max() > 1:
        raise AssertionError("a photo with values outside of [0, 1]")
    all_of(lambda: read_rgb(file), lambda: read_grey(file), lambda: carried_metadata(file))


def trimap(folder: Path) -> None:
    file, size = folder / "trimap", (HEIGHT, WIDTH)
    all_of(
        lambda: read_trimap(file, size),
        lambda: read_trimap(file, size, width=3.0),
        lambda: read_alpha(file),
        lambda: read_cutout(file),
    )


def checkpoint(folder: Path) -> None:
    file = folder / "checkpoint.pt"
    all_of(lambda: imported(file), lambda: zoo.state(file))


def weights(folder: Path) -> None:
    file = folder / "weights.safetensors"
    all_of(
        lambda: zoo.state(file), lambda: zoo.stored_config(file), lambda: chosen_critic(str(file), torch.device("cpu"))
    )


def latents(folder: Path) -> None:
    file = folder / "latents.safetensors"
    wanted = Origin("g", 8, {"a.safetensors": "0" * 64}, (40, 24))
    shapes = [(1, 2, 8), (1, 1, 4, 4), (1, 1, 8, 8)]
    all_of(lambda: read_latents(file), lambda: checked_latents(file, wanted, shapes))


def ir(folder: Path) -> None:
    read_graph(folder / "graph.xml", folder / "graph.bin")


def weight_manifest(folder: Path) -> None:
    records = manifest.parsed((folder / "manifest.toml").read_bytes())
    for record in records.values():
        manifest.with_import(record, folder / "imported.json")
        for place in record.folders:
            if record.source != "bundled" and not place.is_relative_to(manifest.home()) and "hub" not in place.parts:
                raise AssertionError(f"{place} is outside of the cache")


def wheel(folder: Path) -> None:
    list(members(folder / "pkg.whl", [("pkg/a.bin", 200), ("pkg/b.bin", 2000)]))


def config(folder: Path) -> None:
    source = Source(folder / "sgmatte.toml", project=True)
    for setting in settings_in([source], commands_of(app)):
        is_file = setting.option in WORDS_OR_FILES and "/" in setting.value
        if not (is_file or setting.option in ("trimap", "backgrounds")):
            continue
        if not Path(setting.value).resolve().is_relative_to(folder):
            raise AssertionError(f"{setting.value} lies outside of the project")


def batch(folder: Path) -> None:
    books = Manifest(folder)
    if any(not file.resolve().is_relative_to(folder.resolve()) for file in books.results()):
        raise AssertionError("a result outside of the folder")
    for history in books.histories.values():
        for line in history.latest.values():
            is_unchanged(folder / "a.jpg", line.get("input"))
    found_inputs([str(folder)], outputs=books.results())


def photo_list(folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        entries = found_inputs([], listed((folder / "list").read_bytes()))
        jobs = [Place(Path("out")).job(entry, ("alpha", "cutout")) for entry in entries]
        check_results(jobs)
        for job in jobs:
            for file in job.files.values():
                if not Path(os.path.abspath(file)).is_relative_to(folder.resolve() / "out"):
                    raise AssertionError(f"{file} lies outside of the output folder")
    finally:
        os.chdir(before)


TARGETS: dict[str, Reader] = {
    "photo": photo,
    "trimap": trimap,
    "checkpoint": checkpoint,
    "weights": weights,
    "latents": latents,
    "ir": ir,
    "manifest": weight_manifest,
    "wheel": wheel,
    "config": config,
    "batch": batch,
    "list": photo_list,
}
