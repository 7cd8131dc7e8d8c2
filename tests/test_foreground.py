import numpy as np
import pytest
import torch

from sgmatte.foreground import composite, cutout, estimated_foreground

RED, BLUE, GREEN = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.9, 0.2, 0.1], [0.1, 0.2, 0.9], [0.1, 0.8, 0.2]))


@pytest.fixture
def soft_edge():
    """A red foreground that fades into blue over the middle third of the picture."""
    alpha = torch.linspace(-1, 2, 60).clamp(0, 1).expand(1, 1, 40, 60)
    return composite(alpha, RED, BLUE), alpha


def test_composite_mixes_by_alpha():
    mixed = composite(torch.tensor(0.25).view(1, 1, 1, 1), RED, BLUE)
    np.testing.assert_allclose(mixed.flatten().numpy(), [0.3, 0.2, 0.7], atol=1e-6)


def test_foreground_colours_lose_the_background(soft_edge):
    image, alpha = soft_edge
    foreground = estimated_foreground(image, alpha)
    assert foreground.shape == image.shape
    assert foreground.dtype == image.dtype
    seen = (alpha > 0.2).expand_as(image)
    assert (foreground - RED).abs()[seen].max() < 0.05
    assert (image - RED).abs()[seen].max() > 0.5  # what would be left without the estimate


def test_each_picture_of_a_batch_is_estimated_alone(soft_edge):
    image, alpha = soft_edge
    both = estimated_foreground(torch.cat((image, image.flip(1))), torch.cat((alpha, alpha)))
    torch.testing.assert_close(both[:1], estimated_foreground(image, alpha))
    assert not torch.allclose(both[0], both[1])


def test_cutout_leaves_no_halo_on_a_new_background(soft_edge):
    image, alpha = soft_edge
    rgba = cutout(image, alpha)
    assert torch.equal(rgba[:, 3:], alpha)
    truth = composite(alpha, RED, GREEN)
    error = (composite(rgba[:, 3:], rgba[:, :3], GREEN) - truth).abs().mean()
    halo = (composite(alpha, image, GREEN) - truth).abs().mean()
    assert error < 0.1 * halo
