"""Perceptual distances: against their definition written as loops, and as a measure of what the eye sees."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.errors import UsageError, WeightError
from sgmatte.nn.lpips import VGGFeatures
from sgmatte.nn.perceptual import LPIPSDistance, box_averaged, perceptual_distance

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512]  # torchvision's "D"


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A 128 px picture of smooth blobs with a fine texture, in [0, 1]."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    texture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    return 0.8 * F.interpolate(noise, (128, 128), mode="bicubic").clamp(0, 1) + 0.2 * texture


def naive_lpips(state: dict[str, Tensor], image: Tensor, reference: Tensor) -> float:
    """Zhang et al. 2018, equation 1, a place and a channel at a time; pictures 3HW in [-1, 1]."""
    activations = []
    for x in (image, reference):
        mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x = (x - mean[:, None, None]) / std[:, None, None]
        index, taken = 0, []
        for item in [*VGG16, "M"]:
            if item == "M":  # the tap is the last activation before each pooling
                taken.append(x)
                x = F.max_pool2d(x[None], 2)[0]
                index += 1
            else:
                x = F.conv2d(x[None], state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)[0]
                x = x.relu()
                index += 2
        activations.append(taken)
    total = 0.0
    for level, (a, b) in enumerate(zip(*activations, strict=True)):
        weights = state[f"lin{level}.model.1.weight"].flatten().tolist()
        channels, height, width = a.shape
        layer = 0.0
        for row in range(height):
            for column in range(width):
                u, v = a[:, row, column].tolist(), b[:, row, column].tolist()
                u_length, v_length = math.hypot(*u) + 1e-10, math.hypot(*v) + 1e-10
                layer += sum(weights[c] * (u[c] / u_length - v[c] / v_length) ** 2 for c in range(channels))
        total += layer / (height * width)
    return total


def test_lpips_is_equation_1_of_zhang_et_al() -> None:
    torch.manual_seed(0)
    distance = LPIPSDistance(divide=16)
    for parameter in distance.network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image, reference = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        measured = distance(image, reference).item()
    expected = naive_lpips(distance.network.state_dict(), image[0] * 2 - 1, reference[0] * 2 - 1)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_lpips_has_the_published_keys() -> None:
    shapes = {key: tuple(value.shape) for key, value in VGGFeatures().state_dict().items()}
    assert len(shapes) == 13 * 2 + 5
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["lin4.model.1.weight"] == (1, 512, 1, 1)


def test_distance_grows_with_what_is_done_to_the_picture(picture: Tensor) -> None:
    distance = perceptual_distance("effnet")
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    far = torch.rand(picture.shape, generator=torch.Generator().manual_seed(3))
    to_picture = distance.against(picture)
    with torch.no_grad():
        same, little, much, other = (
            to_picture(x).item() for x in (picture, picture + 0.02 * noise, picture + 0.1 * noise, far)
        )
    assert same < 1e-9
    assert same < little < much < other < 1.6  # unit vectors are at most 2 apart, squared 4, times the scale


def test_against_equals_forward_and_one_distance_per_picture(picture: Tensor) -> None:
    distance = perceptual_distance("effnet")
    others = torch.cat([picture.flip(3), picture.flip(2)])
    with torch.no_grad():
        both = distance(others, picture.expand(2, -1, -1, -1))
        each = torch.cat([distance.against(picture)(x[None]) for x in others])
    assert both.shape == (2,)
    torch.testing.assert_close(both, each, rtol=1e-4, atol=1e-6)


def test_gradient_descent_on_the_distance_approaches_the_picture(picture: Tensor) -> None:
    distance = perceptual_distance("effnet").against(picture)
    start = box_averaged(picture, 32)
    image = F.interpolate(start, picture.shape[-2:], mode="bilinear").requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.02)
    values = []
    for _ in range(10):
        value = distance(image).sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.6 * values[0]


def test_box_average_of_a_multiple_is_the_mean_of_blocks() -> None:
    image = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    reduced = box_averaged(image, 16)
    blocks = image.reshape(1, 3, 16, 4, 16, 2).mean(dim=(3, 5))
    torch.testing.assert_close(reduced, blocks)
    assert box_averaged(image, 64) is image


def test_a_choice_that_cannot_be_met_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert perceptual_distance("auto").name == "efficientnet-lite0"
    with pytest.raises(WeightError, match="vgg16"):
        perceptual_distance("lpips")
    with pytest.raises(UsageError, match="effnet"):
        perceptual_distance("eyes")
