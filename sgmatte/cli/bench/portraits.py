"""`sgmatte bench ...` of networks that see portraits, and of whole photos: thin commands over sgmatte.bench.

Each prints a table and, with --json, one JSON line.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen
from sgmatte.errors import UsageError

app = typer.Typer()


@app.command()
def face(
    data: Annotated[Path, typer.Option(help="Portraits of one person each: a folder with image/, alpha/ and mask/.")],
    aligned: Annotated[Path | None, typer.Option(help="Pictures as FFHQ aligns them.", show_default=False)] = None,
    landmarks: Annotated[str, typer.Option(help="auto, mtcnn or fan.")] = "auto",
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Faces: share of portraits with one found, seconds a photo, and how well aligned pictures are aligned again.

    Example: sgmatte bench face --data portraits/dev --aligned faces
    """
    from sgmatte.bench.face import alignment, detection
    from sgmatte.device import chosen_device
    from sgmatte.landmarks import landmark_source
    from sgmatte.train.data import PortraitFolder

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    with screen.progress() as observe:
        found = detection(PortraitFolder(data), chosen.torch, observe, landmarks)
        again = alignment(aligned, chosen.torch, observe, landmarks) if aligned else None
    screen.line(
        f"{found.photos} portraits ({landmark_source(landmarks)}): a face in {found.found:.1%}, the first one on the "
        f"person in {found.on_person:.1%}, several in {found.several:.1%}, {found.seconds:.3f} s a photo"
    )
    if again:
        screen.line(
            f"{again.photos} aligned pictures: a face in {again.found:.1%}, corners off by {again.corner:.1%} of the "
            f"side, side {again.side:.3f}, angle {again.angle:.2f} degrees"
        )
    screen.result({"detection": asdict(found), "alignment": asdict(again) if again else None})


@app.command()
def trimap(
    data: Annotated[Path, typer.Option(help="Portraits: a folder with image/, alpha/ and mask/.")],
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Trimaps: agreement with masks, and how much of the soft boundary the unknown band covers at what width.

    Example: sgmatte bench trimap --data portraits/dev
    """
    from sgmatte.bench.trimap import mean_scores, portrait_scores
    from sgmatte.device import chosen_device
    from sgmatte.train.data import PortraitFolder
    from sgmatte.trimaps import trimap_model

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    with screen.progress() as observe:
        scores = portrait_scores(
            trimap_model(chosen.torch), PortraitFolder(data), chosen.torch, lambda *at: observe("trimaps", *at)
        )
    mean = mean_scores(list(scores.values()))
    screen.line(
        f"{len(scores)} portraits: IoU {mean.iou:.4f} (fg likelier than bg), soft IoU {mean.soft_iou:.4f} (of its "
        f"three classes; a flawless trimap has {mean.soft_iou_ideal:.4f}),"
    )
    screen.line(
        f"soft pixels in unknown {mean.covered:.2%}, certain but wrong {mean.wrong:.2%} of the image, "
        f"unknown {mean.unknown:.2%} of the image"
    )
    screen.result(asdict(mean) | {"portraits": len(scores), "each": {stem: asdict(s) for stem, s in scores.items()}})


@app.command()
def matte(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[
        Path | None,
        typer.Option(help="Photos without people; every fifth is used. Without: the portraits as they are."),
    ] = None,
    model: Annotated[list[str], typer.Option(help="A matting model; may be repeated.")] = ["gca", "closed-form"],  # noqa: B006
    count: Annotated[int, typer.Option("-n", help="Pictures.", min=1)] = 100,
    own_trimap: Annotated[bool, typer.Option("--own-trimap", help="Also matte with the predicted trimap.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Also networks whose answer is refined, without that.")
    ] = False,
    peer: Annotated[
        list[str],
        typer.Option(
            help="What others have, without a trimap: mediapipe; rvm, Robust Video Matting with closed form on the "
            "trimap that it gives; rvm-plain, without that. May be repeated."
        ),
    ] = [],  # noqa: B006
    against: Annotated[
        str | None,
        typer.Option(
            help="The label of a row; the others' SAD and MSE are told as ratios to its own too.", show_default=False
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Mattes: SAD, MSE (whole and unknown), Gradient and Connectivity on composites whose alpha is known.

    All models see the same pictures and, but for --own-trimap, the same trimaps, made of the true alphas. A ratio comes
    with the interval where 95 of 100 would lie with other pictures of the kind.

    Example: sgmatte bench matte --data portraits/dev --backgrounds backgrounds
    """
    from sgmatte.bench.matte import Contestant, all_scores, mean_scores, ratios
    from sgmatte.bench.peers import chosen_peer
    from sgmatte.device import chosen_device
    from sgmatte.matting.models import matting_model
    from sgmatte.matting.networks import NetworkMatting
    from sgmatte.train.data import PortraitFolder
    from sgmatte.trimaps import trimap_model

    screen, chosen = Screen(quiet, json), chosen_device(device)
    models = [matting_model(name, chosen.torch) for name in model]
    if plain:
        models += [each.plain() for each in models if isinstance(each, NetworkMatting) and each.refine]
    contestants = [Contestant(each.name, each) for each in models]
    if own_trimap:
        look = trimap_model(chosen.torch).look
        contestants += [Contestant(f"{each.name}, own trimap", each, look) for each in models]
    contestants += [Contestant(name, chosen_peer(name)) for name in peer]
    if against is not None and against not in (labels := [contestant.label for contestant in contestants]):
        raise UsageError(f"--against knows no row '{against}'; choose one of {', '.join(labels)}")
    screen.device(chosen)
    with screen.progress() as observe:
        each = all_scores(
            contestants,
            PortraitFolder(data),
            backgrounds,
            count,
            seed,
            device=chosen.torch,
            observe=lambda *at: observe("pictures", *at),
        )
    columns = ("SAD", "MSE", "MSE unknown", "Gradient", "Connectivity", "seconds")
    screen.line(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    scores = {label: mean_scores(rows) for label, rows in each.items()}
    for label, row in scores.items():
        cells = [f"{row.sad:.3f}", f"{row.mse:.5f}", f"{row.mse_unknown:.5f}"]
        cells += [f"{row.gradient:.3f}", f"{row.connectivity:.3f}", f"{row.seconds:.2f}"]
        screen.line(f"{label:24}" + "".join(f"{cell:>14}" for cell in cells))
    result: dict[str, Any] = {"pictures": count, "seed": seed, "scores": {k: asdict(row) for k, row in scores.items()}}
    if against is not None:
        found = {label: ratios(rows, each[against], seed) for label, rows in each.items() if label != against}
        for label, errors in found.items():
            sad, mse = (f"{r.ratio:.2f} ({r.low:.2f} to {r.high:.2f})" for r in (errors["sad"], errors["mse"]))
            screen.line(f"{label}, to {against}: SAD {sad}, MSE {mse}")
        result["ratios"] = {label: {k: asdict(r) for k, r in errors.items()} for label, errors in found.items()}
    screen.result(result)


@app.command()
def critic(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people; every fifth by name is used.")],
    count: Annotated[int, typer.Option("-n", help="Pairs of a good and a damaged composite.", min=8)] = 400,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Critic: how often it tells the damaged composite of a pair, for each kind of damage.

    Example: sgmatte bench critic --data portraits/dev --backgrounds backgrounds
    """
    from tempfile import TemporaryDirectory

    from sgmatte.bench.critic import critic_scores
    from sgmatte.device import chosen_device
    from sgmatte.nn.critic import critic_model
    from sgmatte.train.data import PortraitFolder

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    with TemporaryDirectory(prefix="sgmatte-") as cache:
        scores = critic_scores(critic_model(chosen.torch), PortraitFolder(data), backgrounds, Path(cache), count=count)
    for name, value in scores.items():
        screen.line(f"{name:24}{value:7.3f}")
    screen.result(dict(scores))


@app.command()
def speed(
    photo: Annotated[Path, typer.Option(help="A photo with a face.")],
    sizes: Annotated[list[int], typer.Option("--size", help="Generator sizes for enhance; may be repeated.")] = [256],  # noqa: B006
    many: Annotated[Path | None, typer.Option(help="A folder of photos to matte at once.", show_default=False)] = None,
    count: Annotated[int, typer.Option("-n", help="Photos of --many.", min=1)] = 50,
    megapixels: Annotated[
        float | None, typer.Option(help="Matte the photo enlarged to so many as well.", min=0.01, show_default=False)
    ] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Speed: wall time and peak memory of whole `matte` and `enhance` commands, start-up included.

    Example: sgmatte bench speed --photo photo.jpg --size 256 --size 1024 --megapixels 24
    """
    from sgmatte.bench.speed import costs
    from sgmatte.train.data import image_files

    screen = Screen(quiet, json)
    found = costs(photo, sizes, image_files(many)[:count] if many else (), megapixels)
    for row in found:
        screen.line(f"{row.command:24}{row.seconds:8.1f} s{row.peak_mb:9.0f} MB")
    screen.result({"photo": str(photo), "costs": [asdict(row) for row in found]})
