"""Photos for a batch to fail on: portraits by the bundled generator, drawn ones, and files broken in ten ways."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from sgmatte.generator import load_generator

SIDE = 256
GENERATOR = "stylegan2-portrait-256"
GENERATED = 12  # different faces; beyond that they come again, mirrored and tinted
FOLDERS = ("", "a", "a/deep", "b c")


@dataclass(frozen=True)
class Made:
    """Files of a folder, by what becomes of them."""

    folder: Path
    good: tuple[Path, ...]
    broken: tuple[Path, ...]


def made_photos(folder: Path, count: int, broken: int, seed: int = 0, generated: int = GENERATED) -> Made:
    """Make `count` files in a small tree, `broken` of them broken; the same for the same seed.

    Args:
        generated: different faces of the generator, half of the good photos in turn; 0 for none.
    """
    rng = np.random.default_rng(seed)
    faces = generated_faces(generated, seed) if generated else []
    ways = list(BROKEN)
    spoilt = set(rng.choice(count, broken, replace=False).tolist())
    good: list[Path] = []
    bad: list[Path] = []
    for k in range(count):
        place = folder / FOLDERS[k % len(FOLDERS)]
        place.mkdir(parents=True, exist_ok=True)
        picture = _varied(faces[k // 2 % len(faces)], k) if faces and k % 2 else drawn_portrait(rng)
        if k in spoilt:
            way = ways[len(bad) % len(ways)]
            path = place / f"{k:03d}_{way.replace(' ', '_')}.jpg"
            BROKEN[way](path, picture)
            bad.append(path)
        else:
            path = place / f"{k:03d}.{('jpg', 'png', 'webp')[k % 3]}"
            picture.save(path, quality=90)
            good.append(path)
    return Made(folder, tuple(good), tuple(bad))


@torch.no_grad()
def generated_faces(count: int, seed: int) -> list[Image.Image]:
    """Faces that the bundled generator makes up."""
    generator = load_generator(SIDE, "cpu", name=GENERATOR)
    noise = torch.Generator().manual_seed(seed)
    faces = []
    for _ in range(count):
        w = generator.mapping(torch.randn(1, 512, generator=noise))
        w_plus = w.unsqueeze(1).expand(-1, generator.layers, -1)
        picture = generator.synthesis(w_plus, generator.default_noise())[0].clamp(0, 1)
        faces.append(Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()))
    return faces


def drawn_portrait(rng: np.random.Generator) -> Image.Image:
    """Head and shoulders before a gradient; sides differ from photo to photo."""
    height, width = (int(side) for side in rng.integers(180, 320, 2))
    ramp = np.linspace(0, 1, height)[:, None, None] * rng.random(3) + (1 - np.linspace(0, 1, width))[:, None] * 0.4
    image = Image.fromarray((np.clip(ramp, 0, 1) * 255).astype(np.uint8))
    colour: Callable[[], tuple[int, ...]] = lambda: tuple(int(c) for c in rng.integers(40, 255, 3))  # noqa: E731
    draw = ImageDraw.Draw(image)
    middle, radius = width / 2, min(height, width) * 0.2
    draw.ellipse((middle - 2 * radius, height * 0.62, middle + 2 * radius, height * 1.5), fill=colour())
    draw.ellipse((middle - radius, height * 0.2, middle + radius, height * 0.2 + 2.6 * radius), fill=colour())
    return image


def _varied(face: Image.Image, k: int) -> Image.Image:
    """The face, no two alike: shifted by a few pixels."""
    shift = k % 29
    return face.crop((shift // 2, 0, SIDE - shift + shift // 2, SIDE - k % 7))


def _encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def _png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 8) + b"IDAT" + zlib.compress(b"")


def _float_tiff(picture: Image.Image) -> bytes:
    return _encoded(picture.convert("F"), "TIFF")


BROKEN: dict[str, Callable[[Path, Image.Image], object]] = {
    "empty": lambda path, picture: path.write_bytes(b""),
    "text": lambda path, picture: path.write_text("This is no photo."),
    "cut jpeg": lambda path, picture: path.write_bytes(_encoded(picture, "JPEG")[:1500]),
    "cut png": lambda path, picture: path.write_bytes(_encoded(picture, "PNG")[:2000]),
    "noise after a jpeg's start": lambda path, picture: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4),
    "huge": lambda path, picture: path.write_bytes(_png_of(60_000, 60_000)),
    "nothing in it": lambda path, picture: path.write_bytes(_png_of(0, 10)),
    "svg": lambda path, picture: path.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
    "floating point": lambda path, picture: path.write_bytes(_float_tiff(picture)),
    "link to nowhere": lambda path, picture: path.symlink_to("nowhere.jpg"),
}
"""Ten ways to break a photo: each writes a file."""
