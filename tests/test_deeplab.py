import torch
from torch import nn

from sgmatte.nn.deeplab import CLASSES, DeepLab


class PlainBackbone(nn.Module):
    low_channels, high_channels = 5, 7

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Conv2d(3, 5, 4, stride=4)
        self.high = nn.Conv2d(3, 7, 16, stride=16)

    def forward(self, image):
        return self.low(image), self.high(image)


def test_logits_are_at_a_quarter():
    network = DeepLab().eval()
    assert network(torch.rand(2, 3, 64, 96)).shape == (2, CLASSES, 16, 24)


def test_head_takes_any_backbone():
    network = DeepLab(PlainBackbone(), width=8, low_width=4, dilations=(1, 2))
    assert network(torch.rand(2, 3, 32, 48)).shape == (2, CLASSES, 8, 12)
    assert len(network.pyramid.branches) == 3


def test_gradient_reaches_image_and_every_weight():
    network = DeepLab()
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    network(image).square().mean().backward()
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_training_keeps_the_backbones_statistics():
    network = DeepLab().train()
    before = network.backbone.features.stem.norm.running_mean.clone()
    head = network.pyramid.merge[1].running_mean.clone()
    network(torch.rand(2, 3, 64, 64))
    assert torch.equal(network.backbone.features.stem.norm.running_mean, before)
    assert not torch.equal(network.pyramid.merge[1].running_mean, head)


def test_pooled_branch_sees_the_whole_image():
    """A change in one corner moves the logits of the opposite one, out of reach of every convolution."""
    torch.manual_seed(0)
    network = DeepLab(PlainBackbone(), width=8, low_width=4, dilations=(1, 2)).eval()
    image = torch.rand(1, 3, 256, 256)
    changed = image.clone()
    changed[..., :16, :16] = 1 - changed[..., :16, :16]
    with torch.no_grad():
        difference = (network(image) - network(changed)).abs()
    assert difference[..., -1, -1].max() > 0
