"""Sound files of every kind that sgmatte reads, as small as they come: what mutations.py begins with."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, features
from torch import Tensor

from sgmatte.fuzz.mutations import Files
from sgmatte.importers.bundle import MEMBERS
from sgmatte.nn.alphagan import PatchDiscriminator
from sgmatte.nn.stylegan2 import Generator

HEIGHT, WIDTH = 24, 40


def photos() -> list[Files]:
    """Pictures in every format, with the metadata that cameras and programs add."""
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3)
    picture = Image.fromarray((smooth + rng.integers(0, 30, smooth.shape)).clip(0, 255).astype(np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    about: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    grey, clear, palette = picture.convert("L"), picture.convert("RGBA"), picture.quantize(16)
    clear.putalpha(grey)
    frames: dict[str, Any] = {"save_all": True, "append_images": [picture.rotate(180)]}
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (picture, "JPEG", about),
        (picture, "JPEG", {"progressive": True, "comment": b"words"}),
        (picture.convert("CMYK"), "JPEG", {}),
        (grey, "JPEG", {}),
        (picture, "PNG", about),
        (clear, "PNG", {}),
        (palette, "PNG", {"transparency": 3}),
        (deep, "PNG", {}),
        (picture, "PNG", frames),
        (picture, "WEBP", about),
        (clear, "WEBP", {"lossless": True}),
        (picture, "WEBP", frames),
        (picture, "TIFF", about),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (clear, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (picture, "TIFF", {"compression": "jpeg"}),
        (picture.convert("1"), "TIFF", {"compression": "group4"}),
        (deep, "TIFF", {"compression": "packbits"}),
        (deep, "TIFF", {"compression": "tiff_lzw"}),
        (palette, "GIF", frames),
        (grey, "GIF", {"transparency": 3}),
        (picture, "BMP", {}),
        (palette, "BMP", {}),
    ]
    if "avif" in features.get_supported():
        wanted += [(picture, "AVIF", {**about, "speed": 10}), (clear, "AVIF", {"speed": 10})]
    try:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
        wanted += [(picture, "HEIF", about), (clear, "HEIF", {"quality": 30})]
    except ImportError:
        pass
    return [*({"photo": _saved(*each)} for each in wanted), {"photo": _run_length_bmp()}, {"photo": _deep_png()}]


def _saved(image: Image.Image, kind: str, options: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save(stream, kind, **options)
    return stream.getvalue()


def _run_length_bmp() -> bytes:
    header = np.array([40, 8, 4], "<u4").tobytes() + np.array([1, 8], "<u2").tobytes()
    lines = (b"\x08\x01\0\0" * 3) + b"\0\x04\1\0\1\0\4\0\0\0\0\1"
    header += np.array([1, len(lines), 0, 0, 2, 0], "<u4").tobytes()
    start = 14 + len(header) + 8
    return b"BM" + np.array([start + len(lines), 0, start], "<u4").tobytes() + header + bytes(4) + b"\xff" * 4 + lines


def _deep_png() -> bytes:
    """RGB with 16 bits per channel, which Pillow does not write."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.random.default_rng(0).integers(0, 65536, (8, 8, 3)).astype(np.uint16)))


def trimaps() -> list[Files]:
    """Three levels, in the modes that painters save."""
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[:, 12:] = 128
    levels[:, 24:] = 255
    grey = Image.fromarray(levels)
    clear = Image.merge("RGBA", (grey, grey, grey, Image.fromarray(np.where(levels == 0, 0, 255).astype(np.uint8))))
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (grey, "PNG", {}), (clear, "PNG", {}), (grey.convert("P"), "PNG", {}), (grey, "TIFF", {}),
        (grey.convert("RGB"), "JPEG", {}), (grey, "GIF", {}), (clear, "WEBP", {"lossless": True}), (grey, "BMP", {}),
    ]  # fmt: skip
    return [{"trimap": _saved(*each)} for each in kinds]


def checkpoints() -> list[Files]:
    """What torch saves: plain state dicts, whole trainings, official networks in outline, in both of its formats."""
    state = {"a.weight": torch.arange(12.0).view(3, 4), "b": torch.ones(2).half(), "n": torch.tensor(7)}
    training = {"epoch": 3, "best": np.float64(0.5), "state_dict": {f"module.{k}": v for k, v in state.items()}}
    contents: list[Any] = [
        state,
        training,
        {"g_ema": _outline(Generator(8)), "latent_avg": torch.zeros(512)},
        {"state_dict": {"module.encoder.guidance_head.1.weight_bar": torch.zeros(4, 3, 3, 3),
                        "module.encoder.guidance_head.1.weight_u": torch.zeros(4),
                        "module.encoder.guidance_head.1.weight_v": torch.zeros(27)}},
        {"state_dict": {"aspp.aspp1.weight": torch.zeros(2, 2)}, "optimizer": {"lr": 0.1, "groups": [1, 2]}},
        {"encoder.resnet50.conv1.weight": torch.zeros(2, 3, 7, 7)},
        torch.nn.Parameter(torch.ones(3)),
    ]  # fmt: skip
    found = [*_torch_files(contents, new=True), *_torch_files(contents[:4], new=False)]
    bundle = {member: found[k] for member, k in zip(MEMBERS, (2, 3, 4), strict=True)}
    return [{"checkpoint.pt": content} for content in (*found, _zipped(bundle, zipfile.ZIP_DEFLATED))]


def _outline(network: torch.nn.Module) -> dict[str, Tensor]:
    """The shapes of a network in a few kilobytes: every tensor repeats one number."""
    return {key: torch.tensor(0.5).expand(value.shape) for key, value in network.state_dict().items()}


def _torch_files(contents: list[Any], new: bool) -> Iterator[bytes]:
    for content in contents:
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=new)
        yield stream.getvalue()


def _zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def weights() -> list[Files]:
    """Safetensors with settings: the discriminator that `--critic` takes, and a few tensors of other types."""
    from safetensors.torch import save

    torch.manual_seed(0)
    critic = PatchDiscriminator(0.05)
    tensors = {
        "half": torch.ones(3).half(),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 4),
        "on": torch.ones(2) > 0,
    }
    return [
        {"weights.safetensors": save(dict(critic.state_dict()), {"config": json.dumps({"width": 0.05})})},
        {"weights.safetensors": save(tensors, {"config": json.dumps({"channels": [1, 2], "nested": {"a": [None]}})})},
        {"weights.safetensors": save({"w": torch.zeros(2)})},
    ]


def latents() -> list[Files]:
    """What `sgmatte invert` writes."""
    from safetensors.torch import save

    state = {"w_plus": torch.zeros(1, 2, 8), "noise_0": torch.zeros(1, 1, 4, 4), "noise_1": torch.zeros(1, 1, 8, 8)}
    origin = {"generator": "g", "size": 8, "weights": {"a.safetensors": "0" * 64}, "photo": [40, 24]}
    about = {"quad": {"corner": [1.5, 2.5], "right": [8.0, 0.0], "down": [0.0, 8.0]}, "origin": origin}
    return [{"latents.safetensors": save(state, {"latents": json.dumps(about)})}]


def graphs() -> list[Files]:
    """A small OpenVINO network with constants of every type."""
    layers, edges, data = [], [], b""
    for k, (kind, name, shape) in enumerate(
        (("<f4", "f32", "2,3"), ("<f2", "f16", "4"), ("<i8", "i64", "2"), ("<i4", "i32", ""))
    ):
        content = np.ones([int(part) for part in shape.split(",") if part], kind).tobytes()
        about = f'element_type="{name}" shape="{shape}" offset="{len(data)}" size="{len(content)}"'
        layers.append(f'<layer id="{k}" name="c{k}" type="Const" version="opset1"><data {about}/></layer>')
        edges.append(f'<edge from-layer="{k}" from-port="0" to-layer="9" to-port="{k}"/>')
        data += content
    layers.append('<layer id="9" name="sum" type="Add" version="opset1"><input><port id="0"/></input></layer>')
    parts = ('<?xml version="1.0"?>', '<net name="n" version="10"><layers>', *layers, "</layers><edges>", *edges)
    xml = "\n".join((*parts, "</edges></net>"))
    return [{"graph.xml": xml.encode(), "graph.bin": data}]


def manifests() -> list[Files]:
    """Tables of weights/manifest.toml of each source."""
    files = f'files = [{{ name = "a.safetensors", bytes = 3, sha256 = "{"0" * 64}" }}]\n'
    member = files.replace("bytes", 'member = "pkg/a.bin", bytes')
    common = 'licence = "none"\ntrained_on = "nothing"\n'
    tables = (
        f'["a.one"]\nsource = "bundled"\n{common}{files}figures = {{ psnr = 30.5, n = 3 }}\nneeds = ["b.two"]\n',
        f'["b.two"]\nsource = "pypi"\nrequirement = "pkg==1.0"\n{common}{member}',
        f'["c.three"]\nsource = "import"\norigin = "https://example.org"\n{common}',
    )
    note = json.dumps({"name": "c.safetensors", "bytes": 3, "sha256": "0" * 64})
    return [{"manifest.toml": "\n".join(tables).encode(), "imported.json": note.encode()}]


def wheels() -> list[Files]:
    """A wheel with the members that wheel.py is asked for."""
    members = {"pkg/a.bin": bytes(range(200)), "pkg/b.bin": b"text" * 500, "pkg-1.dist-info/RECORD": b"pkg/a.bin,,\n"}
    return [
        {"pkg.whl": _zipped(members, kind)} for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2)
    ]


def configs() -> list[Files]:
    """sgmatte.toml, as a project has it."""
    text = """device = "cpu"
max-pixels = 1000000

[matte]
cutout = true
model = "gca"
trimap = "trimaps/a.png"

[enhance]
steps = 10
rate = 0.005
critic = "composite"
backgrounds = "."

[train.gca]
steps = 100
"""
    return [{"sgmatte.toml": text.encode()}]


def books() -> list[Files]:
    """The manifest of a batch."""
    photo = {"photo": "a.jpg", "task": "matte", "settings": "0123456789abcdef"}
    lines = (
        {"state": "run", "task": "matte", "settings": photo["settings"], "options": {"model": "gca"}, "version": "1"},
        {"state": "started", **photo},
        {"state": "done", **photo, "input": {"bytes": 3, "mtime_ns": 5, "sha256": "0" * 64}, "size": [24, 40],
         "files": {"alpha": "sub/a_alpha.png"}, "notes": ["n"], "seconds": 1.5,
         "confidence": {"background": 0.5, "unknown": 0.1, "foreground": 0.4, "sure": 0.9}},
        {"state": "failed", **photo, "photo": "b.jpg", "error": "b.jpg: no such file", "input": None},
        {"state": "ended", "task": "matte", "done": 1, "failed": 1, "skipped": 0},
    )  # fmt: skip
    return [{"manifest.jsonl": "".join(json.dumps(line) + "\n" for line in lines).encode(), "a.jpg": b"abc"}]


def lists() -> list[Files]:
    """What `--files-from` takes: lines, or names ended by NULs."""
    photos = {"a.jpg": b"a", "b.png": b"b"}
    return [
        {"list": b"a.jpg\nb.png\r\nnone 1.jpg\n", **photos},
        {"list": b"a.jpg\0b.png\0", **photos},
        {"list": "*.jpg\né \xff.png\n".encode("latin-1"), **photos},
    ]


CORPUS: Mapping[str, Callable[[], list[Files]]] = {
    "photo": photos,
    "trimap": trimaps,
    "checkpoint": checkpoints,
    "weights": weights,
    "latents": latents,
    "ir": graphs,
    "manifest": manifests,
    "wheel": wheels,
    "config": configs,
    "batch": books,
    "list": lists,
}
