"""AlphaGAN against what the public implementation answered with the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden.fill import fill, shapes

from sgmatte.nn.alphagan import AlphaGAN, PatchDiscriminator

GOLDEN = np.load(Path(__file__).parent / "golden" / "alphagan.npz")
IMAGE, TRIMAP = torch.from_numpy(GOLDEN["image"]), torch.from_numpy(2 * GOLDEN["trimap"]).round().long()


def filled(kind, family, **settings):
    with torch.device("meta"):
        network = kind(**settings)
    wanted = shapes(family)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == wanted
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in fill(wanted, "plain").items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def test_generator_answers_as_the_original_does():
    network = filled(AlphaGAN, "alphagan_g", dilated="first")
    np.testing.assert_allclose(network(IMAGE, TRIMAP).numpy(), GOLDEN["alpha"], atol=1e-4)


def test_discriminator_answers_as_the_original_does():
    network = filled(PatchDiscriminator, "alphagan_d")
    np.testing.assert_allclose(network(IMAGE, TRIMAP).numpy(), GOLDEN["d_scores"], atol=1e-4)


@pytest.mark.parametrize(("dilated", "third", "fourth"), [("every", {2}, {4}), ("first", {1, 2}, {1, 4})])
def test_dilation_of_the_paper_and_of_the_public_implementation(dilated, third, fourth):
    network = AlphaGAN(0.1, dilated).encoder.resnet50
    assert {block.conv2.dilation[0] for block in network.layer3} == third
    assert {block.conv2.dilation[0] for block in network.layer4} == fourth
    assert network.layer3[0].conv2.dilation == (2, 2)
    assert all(block.conv2.stride == (1, 1) for block in (*network.layer3, *network.layer4))


@pytest.mark.parametrize(("width", "millions"), [(1.0, 40.30), (0.5, 10.09)])
def test_width_scales_every_layer(width, millions):
    with torch.device("meta"):
        network = AlphaGAN(width)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("width", [0.5, 0.25])
def test_groups_of_a_narrow_network_are_as_large_as_the_official_ones(width):
    with torch.device("meta"):
        official, narrow = AlphaGAN(), AlphaGAN(width)
    sizes = [
        [
            module.num_channels // module.num_groups
            for module in network.modules()
            if isinstance(module, torch.nn.GroupNorm)
        ]
        for network in (official, narrow)
    ]
    assert sizes[0] == sizes[1]


def test_gradients_reach_the_photo_and_every_weight():
    torch.manual_seed(0)
    network = AlphaGAN(0.1)
    image = IMAGE[:, :, :48, :64].clone().requires_grad_()
    for block in network.modules():
        if hasattr(block, "bn3"):
            torch.nn.init.ones_(block.bn3.weight)  # starts at zero, where the branch before it has no gradient
    alpha = network(image, TRIMAP[:, :, :48, :64])
    assert alpha.shape == (1, 1, 48, 64)
    alpha.square().sum().backward()
    assert image.grad.abs().max() > 0
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_the_settings_make_the_network_again():
    network = AlphaGAN(0.1, "first")
    AlphaGAN(**network.config).load_state_dict(network.state_dict())
    assert network.config == {"width": 0.1, "dilated": "first"}
    judge = PatchDiscriminator(0.1)
    PatchDiscriminator(**judge.config).load_state_dict(judge.state_dict())


def test_sides_that_are_no_multiples_of_8_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        AlphaGAN(0.1)(IMAGE[:, :, :60], TRIMAP[:, :, :60])


def test_a_patch_is_70_pixels_wide():
    torch.manual_seed(0)
    network = PatchDiscriminator(0.1).eval()
    image = torch.rand(1, 3, 128, 128).requires_grad_()
    network(image, torch.ones(1, 1, 128, 128, dtype=torch.long))[0, 0, 7, 7].backward()
    rows, columns = image.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (70, 70)
