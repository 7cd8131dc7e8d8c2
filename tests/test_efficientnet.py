import pytest
import torch
import torch.nn.functional as F

from sgmatte import zoo
from sgmatte.nn.efficientnet import ConvNorm, DepthwiseConv2d, EfficientNetLite0, from_official

STAGES = {
    "stem": (32, 2),
    "stage1": (16, 2),
    "stage2": (24, 4),
    "stage3": (40, 8),
    "stage4": (80, 16),
    "stage5": (112, 16),
    "stage6": (192, 32),
    "stage7": (320, 32),
}


@pytest.fixture(scope="module")
def bundled() -> EfficientNetLite0:
    return zoo.load_into(EfficientNetLite0(), "efficientnet-lite0.imagenet").requires_grad_(False)


@pytest.mark.parametrize("size", [(64, 96), (50, 37)])
def test_stages_have_their_channels_and_strides(bundled, size):
    features = bundled(torch.rand(2, 3, *size), tuple(STAGES))
    for name, (channels, stride) in STAGES.items():
        assert features[name].shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride)), name


@pytest.mark.parametrize(("output_stride", "side"), [(32, 2), (16, 4), (8, 8)])
def test_output_stride_dilates_instead_of_shrinking(output_stride, side):
    network = EfficientNetLite0(output_stride).eval()
    assert network(torch.rand(1, 3, 64, 64))["stage7"].shape == (1, 320, side, side)
    dilated = {m.dilation[0] for m in network.modules() if isinstance(m, torch.nn.Conv2d)}
    assert max(dilated) == 32 // output_stride


def test_dilation_samples_what_striding_drops(bundled):
    """Away from the border, every second dilated feature is the strided one: same weights, denser answers."""
    dense = EfficientNetLite0(16).eval()
    dense.load_state_dict(bundled.state_dict())
    image = torch.rand(1, 3, 192, 192)
    with torch.no_grad():
        coarse = bundled.blocks[11](bundled(image, ("stage5",))["stage5"])  # the first strided block of stage6
        fine = dense.blocks[11](dense(image, ("stage5",))["stage5"])
    # TensorFlow pads 1 before and 2 after at stride 2, 2 and 2 at stride 1: the strided grid starts one pixel later
    torch.testing.assert_close(fine[..., 1::2, 1::2][..., 1:-1, 1:-1], coarse[..., 1:-1, 1:-1], rtol=1e-3, atol=1e-3)


def test_only_what_is_asked_for_is_computed(bundled):
    calls = []
    hook = bundled.blocks[-1].register_forward_hook(lambda *_: calls.append(1))
    assert list(bundled(torch.rand(1, 3, 32, 32), ("stage2", "stem"))) == ["stage2", "stem"]
    assert not calls
    bundled(torch.rand(1, 3, 32, 32), ("stage7",))
    hook.remove()
    assert calls == [1]


def test_gradient_reaches_the_image(bundled):
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    bundled(image, ("stage3",))["stage3"].square().mean().backward()
    assert torch.isfinite(image.grad).all()
    assert (image.grad != 0).float().mean() > 0.9


def test_unknown_stage_names_the_known_ones(bundled):
    with pytest.raises(ValueError, match=r"stage9.*stem, stage1"):
        bundled(torch.rand(1, 3, 32, 32), ("stage9",))


@pytest.mark.parametrize("stride", [1, 2])
def test_folded_norm_is_the_plain_one(stride):
    torch.manual_seed(0)
    block = ConvNorm(4, 8, 5, stride=stride, groups=4)
    torch.nn.init.uniform_(block.norm.weight, 0.5, 2)
    torch.nn.init.normal_(block.norm.bias)
    block.norm.running_mean.normal_()
    block.norm.running_var.uniform_(0.5, 2)
    block.eval()
    x = torch.randn(2, 4, 12, 12)
    padded = F.pad(x, (2, 2, 2, 2) if stride == 1 else (1, 2, 1, 2))  # as TensorFlow: the odd pixel goes last
    plain = F.relu6(block.norm(F.conv2d(padded, block.conv.weight, stride=stride, groups=4)))
    torch.testing.assert_close(block(x), plain)
    assert block.train().norm.training
    trained = block(x)
    assert not torch.allclose(trained, plain)


def test_depthwise_gradients_are_taken_in_float32():
    conv = DepthwiseConv2d(4, 4, 3, padding=1, groups=4)
    x = torch.randn(1, 4, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        learned = conv(x)
        with torch.no_grad():
            answered = conv(x)
    assert (learned.dtype, answered.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(learned, answered.float(), atol=2e-2, rtol=2e-2)
    assert torch.equal(learned, conv(x.float()))


def test_published_keys_are_renamed_one_to_one(bundled):
    state = bundled.state_dict()
    official = {}
    for key, value in state.items():
        part, _, field = key.rpartition(".")
        if part.startswith("stem"):
            name = {"stem.conv": "_conv_stem", "stem.norm": "_bn0"}[part]
        else:
            block, layer, kind = part.removeprefix("blocks.").split(".")
            number = {"expand": 0, "depthwise": 1, "project": 2}[layer]
            name = f"_blocks.{block}." + (f"_bn{number}" if kind == "norm" else f"_{layer}_conv")
        official[f"{name}.{field}"] = value
    renamed = from_official(official | {"_conv_head.weight": torch.zeros(1), "_fc.bias": torch.zeros(1)})
    assert renamed.keys() == state.keys()
    assert all(renamed[key] is official_value for key, official_value in zip(state, official.values(), strict=True))
