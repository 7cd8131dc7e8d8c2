"""`sgmatte bench ...` of generators and what they are made of: thin commands over sgmatte.bench.

Each prints a table and, with --json, one JSON line.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen

app = typer.Typer()


@app.command()
def head(
    size: Annotated[int, typer.Option(help="256 or 512.")] = 256,
    count: Annotated[int, typer.Option("-n", help="Unseen latents.", min=1)] = 100,
    seed: options.Seed = 1000,
    sheet: Annotated[
        Path | None, typer.Option(help="Where to put a picture of some pairs (full network, head).", show_default=False)
    ] = None,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Heads of the small generators: PSNR to what the whole network draws, averaged down, on unseen latents.

    Example: sgmatte bench head --size 256
    """
    from sgmatte.bench.head import head_scores
    from sgmatte.device import chosen_device
    from sgmatte.preview import contact_sheet
    from sgmatte.writers import write_image

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    with screen.progress() as observe:
        scores = head_scores(size, count, seed, device=chosen.torch, observe=lambda *at: observe("pictures", *at))
    if sheet:
        labels = ["full network"] * len(scores.wanted) + [f"head at {size}"] * len(scores.drawn)
        write_image(
            sheet, contact_sheet([*scores.wanted, *scores.drawn], labels, columns=len(scores.wanted), panel=192)
        )
    screen.line(f"{count} latents at {size}: PSNR {scores.psnr:.2f} dB to the full picture, lowest {scores.lowest:.2f}")
    screen.result({"size": size, "latents": count, "seed": seed, "psnr": scores.psnr, "lowest": scores.lowest})


@app.command()
def samples(
    faces: Annotated[Path, typer.Option(help="Real faces as FFHQ aligns them, of the generator's size.")],
    count: Annotated[int, typer.Option("-n", help="Portraits that each generator draws.", min=2)] = 2000,
    latents: Annotated[int, typer.Option(help="Latents whose pictures are compared with the teacher's.", min=1)] = 500,
    truncation: Annotated[
        float,
        typer.Option(help="How far from the mean w all are: 1 as they fall, 0.7 as `generate` draws.", min=0, max=1),
    ] = 1.0,
    seed: options.Seed = 1000,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Where to put a picture of 36 pairs (teacher left, student right).", show_default=False),
    ] = None,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """The bundled generator beside MobileStyleGAN, its teacher: PSNR for the same w, and how lifelike both are.

    Example: sgmatte bench samples --faces faces
    """
    from sgmatte.bench.samples import Features, frechet_distance, likeness, pictures, portraits
    from sgmatte.device import chosen_device
    from sgmatte.generator import load_mobilestylegan, load_stylegan2
    from sgmatte.preview import contact_sheet
    from sgmatte.writers import write_image

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    student = load_stylegan2("stylegan2-portrait.256", chosen.torch, exact=False)
    teacher = load_mobilestylegan(student.size, chosen.torch, exact=False)
    features = Features(chosen.torch)
    with screen.progress() as observe:
        alike = likeness(
            student, teacher, latents, seed, observe=lambda *at: observe("pairs", *at), truncation=truncation
        )
        real = features.statistics(pictures(faces))
        drawn = {
            who.name: features.statistics(
                portraits(who, count, seed, lambda *at: observe("portraits", *at), truncation)
            )
            for who in (student, teacher)
        }
    distances = {
        view: {name: frechet_distance(real[view], found[view]) for name, found in drawn.items()} for view in real
    }
    if sheet:
        panels = [picture for pair in zip(alike.wanted, alike.drawn, strict=True) for picture in pair]
        write_image(sheet, contact_sheet(panels, ["teacher", "student"] * len(alike.drawn), columns=12, panel=128))
    screen.line(f"{latents} latents: PSNR {alike.psnr:.2f} dB to the teacher's pictures, lowest {alike.lowest:.2f}")
    for view, found in distances.items():
        for name, distance in found.items():
            screen.line(f"{name}: Frechet distance of {count} portraits to the faces, by {view}: {distance:.4f}")
        mine, theirs = found.values()
        screen.line(f"{mine / theirs:.2f} times the teacher's")
    screen.result(
        {"psnr": alike.psnr, "lowest": alike.lowest, "latents": latents, "portraits": count, "frechet": distances}
    )


@app.command()
def invert(
    data: Annotated[Path, typer.Option(help="Portraits: a folder with image/ and alpha/.")],
    photo: Annotated[list[Path] | None, typer.Option(help="A photo besides them; may be repeated.")] = None,
    count: Annotated[int, typer.Option("-n", help="Portraits drawn from the folder.", min=0)] = 10,
    generator: options.GeneratorChoice = "auto",
    size: Annotated[int, typer.Option(help="Of the generator: 256, 512 or 1024.")] = 256,
    from_mean: Annotated[bool, typer.Option("--from-mean", help="Start at the mean latent, without the encoder.")] = (
        False
    ),
    seed: options.Seed = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="Where to put a picture of crops and inversions.", show_default=False)
    ] = None,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Inversions of face crops: PSNR after W+ and after the noise maps, and seconds.

    Example: sgmatte bench invert --data portraits/dev --photo examples/astronaut.jpg
    """
    from sgmatte.bench.invert import inversion_scores, portrait_sample
    from sgmatte.device import chosen_device
    from sgmatte.generator import load_generator
    from sgmatte.nn.encoder import encoder_model
    from sgmatte.nn.perceptual import perceptual_distance
    from sgmatte.preview import contact_sheet
    from sgmatte.train.data import PortraitFolder
    from sgmatte.writers import write_image

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    photos = [*(photo or []), *portrait_sample(PortraitFolder(data), count, seed)]
    network = load_generator(size, chosen.torch, name=generator)
    screen.note(f"generator: {network.name}")
    perceptual = perceptual_distance("auto", chosen.torch)
    encoder = None if from_mean else encoder_model(chosen.torch)
    rows = []
    with screen.progress() as observe:
        for row in inversion_scores(network, photos, perceptual, chosen.torch, encoder):
            rows.append(row)
            observe("inversions", len(rows), len(photos))
    if sheet:
        panels = [picture for row in rows for picture in (row.crop, row.image)]
        labels = [label for row in rows for label in (row.photo, f"{row.psnr:.1f} dB")]
        write_image(sheet, contact_sheet(panels, labels, columns=6, panel=192))
    names = ("after_w", "psnr", "noise", "seconds")
    each = {row.photo: {name: getattr(row, name) for name in names} for row in rows}
    mean = {name: sum(one[name] for one in each.values()) / len(each) for name in names}
    for label, one in [*each.items(), ("mean", mean)]:
        screen.line(
            f"{label:16} W+ {one['after_w']:.2f} dB, with noise {one['psnr']:.2f} dB (maps moved {one['noise']:.2f}), "
            f"{one['seconds']:.1f} s"
        )
    screen.result({"generator": network.name, "size": size, "seed": seed, "mean": mean, "each": each})


@app.command()
def ops(
    size: Annotated[int, typer.Option(help="Side of the features.", min=8)] = 512,
    channels: Annotated[int, typer.Option(help="Channels of the features.", min=1)] = 64,
    tries: Annotated[int, typer.Option(help="The shortest of so many counts.", min=1)] = 5,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Operators: milliseconds of the compiled ones and of plain torch, by turns, for both types and memory formats.

    Example: sgmatte bench ops
    """
    from sgmatte.bench.ops import timings
    from sgmatte.device import chosen_device
    from sgmatte.ops import native

    screen, chosen = Screen(quiet, json), chosen_device(device)
    screen.device(chosen)
    native.library(chosen.name)
    rows = []
    for row in timings(size, channels, chosen.torch, tries):
        rows.append(row)
        screen.line(
            f"{row.name:22} {row.dtype:9} {row.order:13} {row.compiled:8.2f} ms, plain torch {row.reference:8.2f} ms: "
            f"{row.ratio:.1f}x"
        )
    screen.result({"size": size, "channels": channels, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]})


@app.command()
def generator(
    size: Annotated[int, typer.Option(help="Of the picture.", min=8)] = 1024,
    multiplier: Annotated[int, typer.Option(help="Of the channels: 2 for config-f, 1 for config-e.", min=1)] = 2,
    tries: Annotated[int, typer.Option(help="The shortest of so many counts.", min=1)] = 3,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """StyleGAN2 against its usual formulation, forward and back to W+ and noise maps on the CPU: time and memory.

    Example: sgmatte bench generator --size 1024
    """
    from sgmatte.bench.generator import results
    from sgmatte.device import Device

    screen = Screen(quiet, json)
    screen.device(Device("cpu", "this compares formulations on CPUs"))
    rows = results(size, multiplier, tries)
    for row in rows:
        screen.line(
            f"{row.variant:17} {row.seconds:7.3f} s ({row.speedup:.2f}x), peak {row.peak_mb:.0f} MB "
            f"({row.peak_mb / max(rows[0].peak_mb, 1):.2f}), {row.in_convolutions:.0%} in convolutions, "
            f"off by {row.error:.1e}"
        )
    screen.result({"size": size, "multiplier": multiplier, "rows": [asdict(row) for row in rows]})
