"""`sgmatte invert`: where a photo's face lies in the generator's latent space, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.batch.names import Job
from sgmatte.cli import options
from sgmatte.cli.enhance import FACE, Size, fetch_once
from sgmatte.cli.messages import Screen
from sgmatte.cli.photos import each_photo, named_jobs
from sgmatte.observers import Observe


def invert(
    photos: options.Photos,
    out_dir: options.OutFolder = None,
    generator: options.GeneratorChoice = "auto",
    size: Size = None,
    face: Annotated[int, typer.Option(help="Which face; 0 is the largest.", min=0, rich_help_panel=FACE)] = 0,
    whole: Annotated[
        bool, typer.Option("--whole", help="Invert the whole photo instead of a face.", rich_help_panel=FACE)
    ] = False,
    picture: Annotated[
        bool, typer.Option("--picture", help="Write <stem>_inverted.png too: what the generator draws there.")
    ] = False,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Find the latents whose picture is a photo's face, and write them for `enhance --from`.

    Writes <stem>_latents.safetensors: W+, noise maps, the place of the face in the photo, and what generator it is.

    Example: sgmatte invert photo.jpg --out-dir latents
    """

    def files(photo: Path) -> dict[str, Path]:
        folder = out_dir or photo.parent
        latents = {"latents": folder / f"{photo.stem}_latents.safetensors"}
        return latents | ({"inverted": folder / f"{photo.stem}_inverted.png"} if picture else {})

    jobs = named_jobs(photos, out_dir, files)

    from sgmatte.device import chosen_device

    chosen = chosen_device(device)  # before the heavier imports: it may refuse

    from sgmatte.generators import GENERATORS, chosen_generator
    from sgmatte.latents import write_latents
    from sgmatte.photo import read_photo
    from sgmatte.pipeline import Networks, invert_photo
    from sgmatte.settings import Settings
    from sgmatte.writers import write_image

    name, pixels = chosen_generator(generator, int(size) if size else None)
    settings = Settings(generator=name, size=pixels, face=face, whole=whole, max_pixels=max_pixels)
    screen = Screen(quiet, json)
    screen.note(f"generator: {name} at {pixels} px")
    fetch_once(GENERATORS[name].weight, screen)
    networks = Networks(settings, chosen)

    def work(job: Job, observe: Observe) -> dict[str, Any]:
        photo = read_photo(job.photo, max_pixels)
        latents, inversion = invert_photo(photo, networks, observe)
        write_latents(job.files["latents"], latents)
        if picture:
            write_image(job.files["inverted"], inversion.image.clamp(0, 1))
        return {
            "files": {kind: str(file) for kind, file in job.files.items()},
            "generator": networks.generator.name,
            "notes": list(photo.notes),
            "psnr": {"after_w_plus": inversion.psnr_after_w, "inversion": inversion.psnr},
            "seconds": round(inversion.seconds, 3),
        }

    each_photo(jobs, work, screen, chosen)
