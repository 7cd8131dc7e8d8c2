"""`sgmatte generate`: portraits of nobody, enhanced and matted, as training data for matting networks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgmatte import __version__
from sgmatte.cli import options
from sgmatte.cli.enhance import Size, fetch_once
from sgmatte.cli.messages import Screen, error_line, errors, redraws
from sgmatte.observers import Observe

if TYPE_CHECKING:
    from sgmatte.batch.engines import Engine
    from sgmatte.batch.tasks import GenerateTask
    from sgmatte.generation.run import Progress

KEPT = "Which portraits are kept"  # a heading in the help
EVERY = 20  # draws between two lines, where no bar can be drawn


def limit(text: str) -> Any:
    return typer.Option(help=text, min=0, max=1, rich_help_panel=KEPT)


def generate(
    out_dir: Annotated[
        Path,
        typer.Option(
            "--out-dir",
            "-o",
            metavar="DIR",
            help="Folder for image/, alpha/, foreground/, trimap/ and manifest.jsonl; what it holds already is gone on "
            "from.",
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", help="Portraits that are kept, in all.", min=1)] = 100,
    generator: options.GeneratorChoice = "auto",
    size: Size = None,
    truncation: Annotated[
        float, typer.Option(help="Above 0, at most 1: how far faces may be from the mean one.", min=0, max=1)
    ] = 0.7,
    steps: Annotated[int, typer.Option(help="Steps of the enhancement; 0 leaves portraits as drawn.", min=0)] = 8,
    rate: Annotated[float, typer.Option(help="Learning rate of the noise maps; W+ takes a fifth of it.")] = 1e-2,
    adversarial_weight: Annotated[
        float, typer.Option(help="A of `sgmatte enhance`: half again the time for little.", min=0)
    ] = 0.0,
    model: options.MattingChoice = "gca",
    max_entropy: Annotated[float, limit("Entropy of the trimap, in nats.")] = 0.12,
    max_unknown: Annotated[float, limit("Share of the picture that the trimap leaves unknown.")] = 0.25,
    max_hole: Annotated[float, limit("Largest gap inside the person, as a share of the picture.")] = 5e-4,
    max_detached: Annotated[float, limit("What is apart from the person, as a share of the picture.")] = 5e-4,
    max_top: Annotated[float, limit("Share of the upper border that the head may take: beyond, it is cut off.")] = 0.4,
    side_from: Annotated[float, limit("Height, from the top, from which on the person may leave at the sides.")] = 0.3,
    min_person: Annotated[float, limit("Least share of the picture that is the person.")] = 0.25,
    max_person: Annotated[float, limit("Largest share of the picture that is the person.")] = 0.85,
    max_refused: Annotated[float, limit("Share of the draws; beyond, it is given up.")] = 0.9,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            help="Processes, of one thread each; as many as there are cores.",
            min=1,
            show_default=False,
            rich_help_panel=options.MANY,
        ),
    ] = None,
    engine: options.EngineChoice = "local",
    seed: options.Seed = 0,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Generate portraits with alphas: drawn, enhanced, matted, and kept where the matte is one to learn from.

    The folder is one for `sgmatte train gca --data` or `--extra`. Stopped, the same command goes on where it was; with
    a larger --count, it goes on from there.

    Example: sgmatte generate -n 1000 -o generated
    """
    from sgmatte.batch.processes import workers_device
    from sgmatte.batch.tasks import GenerateTask, options_of
    from sgmatte.generation.run import Order, run
    from sgmatte.generation.settings import Drawing, Limits
    from sgmatte.generators import GENERATORS, chosen_generator
    from sgmatte.settings import LossWeights, Optimisation, Settings

    chosen = workers_device(device)

    drawing, pixels = chosen_generator(generator, int(size) if size else None)
    task = GenerateTask(
        Settings(
            generator=drawing,
            size=pixels,
            model=model,
            optimisation=Optimisation(steps=steps, rate=rate),
            weights=LossWeights(adversarial=adversarial_weight),
            seed=seed,
        ),
        chosen,
        Drawing(truncation, seed),
        Limits(max_entropy, max_unknown, max_hole, max_detached, max_top, side_from, min_person, max_person),
    )
    order = Order(out_dir, count, options_of(task), max_refused)
    screen = Screen(quiet, json)
    screen.device(chosen)
    screen.note(f"generator: {drawing} at {pixels} px")
    fetch_once(GENERATORS[drawing].weight, screen)
    with _shown(screen, count) as view:
        progress = run(order, _engine(task, engine, jobs), view)
    _end(order.folder, progress, view, screen)


def _engine(task: GenerateTask, engine: str, jobs: int | None) -> Engine:
    """Processes of one thread, even if it is one process: so a folder does not depend on how many there are."""
    from sgmatte.device import process_cores

    count = jobs or process_cores()
    if engine == "ray":
        from sgmatte.batch.remote import Ray

        return Ray(task, count, threads=1)
    from sgmatte.batch.processes import Processes

    return Processes(task, count, threads=1)


class _View:
    """Shows how a run goes: a bar on a terminal, elsewhere a line now and then; JSON lines for scripts."""

    def __init__(self, screen: Screen, count: int, observe: Observe | None) -> None:
        self.screen, self.count, self.observe, self.started = screen, count, observe, time.monotonic()

    def drawn(self, line: Mapping[str, Any], progress: Progress) -> None:
        if self.observe:
            self.observe("portraits", progress.kept, self.count)
        elif progress.drawn % EVERY == 0:
            self.screen.note(f"{progress.told()}{self.pace(progress)}")
        self.screen.result({"version": __version__, **line})

    def pace(self, progress: Progress) -> str:
        """What this run did, as portraits an hour and seconds of one core each; nothing where it kept none."""
        if not progress.kept_now:
            return ""
        hourly = 3600 * progress.kept_now / (time.monotonic() - self.started)
        return f"; {hourly:.0f} accepted an hour, {progress.core_seconds / progress.kept_now:.1f} core seconds each"


@contextmanager
def _shown(screen: Screen, count: int) -> Iterator[_View]:
    if not redraws(errors) or screen.quiet:
        yield _View(screen, count, None)
        return
    with screen.progress() as observe:
        yield _View(screen, count, observe)


def _end(folder: Path, progress: Progress, view: _View, screen: Screen) -> None:
    """The sheet, the last line and the exit code.

    Raises:
        typer.Exit: 130, the user interrupted.
    """
    from sgmatte.batch.manifest import Manifest
    from sgmatte.generation.run import kept_files
    from sgmatte.generation.sheet import SHOWN, write_sheet

    if progress.interrupted:
        error_line(f"interrupted: {progress.told()}; the same command goes on where it was")
        raise typer.Exit(130)
    if portraits := kept_files(folder, Manifest(folder), SHOWN):
        screen.line(str(write_sheet(folder / "sheet.jpg", portraits)))
    screen.note(f"{progress.told()}{view.pace(progress)}")
