"""A critic of composites: sees whether a cut-out sits on its new background as a photograph would.

The paper uses StyleGAN2's discriminator, which judges faces and whose weights are not free. What the adversarial term
needs is a judge of composites, so this one is trained on exactly that question (sgmatte/train/critic.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.nn.efficientnet import EfficientNetLite0

STAGES = ("stage1", "stage2", "stage3", "stage4")  # strides 2, 4, 8, 16
WIDTHS = (32, 64, 96, 128)
MULTIPLE = 16
TRUNK_WEIGHTS, WEIGHTS = "efficientnet-lite0.imagenet", "critic.composite"


class Head(nn.Module):
    """Climbs the strides of the trunk: each block takes what the block below saw and the trunk's own features."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.scale = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in channels)
        self.blocks = nn.ModuleList()
        below = 0
        for count, width in zip(channels, WIDTHS, strict=True):
            last = width == WIDTHS[-1]
            # An even kernel at stride 2 covers every place equally often: no checkerboard in the gradient.
            convolution = nn.Conv2d(below + count, width, 3 if last else 4, stride=1 if last else 2, padding=1)
            self.blocks.append(nn.Sequential(convolution, nn.GroupNorm(8, width), nn.LeakyReLU(0.2)))
            below = width
        self.verdict = nn.Conv2d(below, 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x: Tensor | None = None
        for feature, scale, block in zip(features, self.scale, self.blocks, strict=True):
            seen = scale(feature)
            x = block(seen if x is None else torch.cat([x, seen], dim=1))
        return self.verdict(x)


class Critic(nn.Module):
    """A patch discriminator (Isola et al., CVPR 2017, section 3.2.2): every logit judges one patch.

    It sees through the frozen features of EfficientNet-Lite0, which makes it quick to train on few photographs (Sauer
    et al., *Projected GANs Converge Faster*, NeurIPS 2021); only `head` is trained and stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0().requires_grad_(False).eval()
        self.head = Head([self.trunk.channels[stage] for stage in STAGES])

    def train(self, mode: bool = True) -> Critic:
        super().train(mode)
        self.trunk.eval()  # its batch norms keep ImageNet's statistics
        return self

    def forward(self, composite: Tensor) -> Tensor:
        """N3HW composite in [0, 1] -> logits (N, 1, H/16, W/16), rounded down, positive where it looks good.

        Rows and columns beyond the last multiple of 16 are not judged.
        """
        height, width = (side // MULTIPLE * MULTIPLE for side in composite.shape[-2:])
        return self.head(self.seen(composite[..., :height, :width]))

    def seen(self, picture: Tensor) -> list[Tensor]:
        """What the trunk makes of a picture, N3HW in [0, 1], sides multiples of 16: what the head judges by."""
        return list(self.trunk(picture, STAGES).values())


def untrained_critic() -> Critic:
    """A critic that sees, but has not learned to judge.

    Raises:
        WeightError: the trunk's weights are missing or damaged.
    """
    critic = Critic()
    zoo.load_into(critic.trunk, TRUNK_WEIGHTS)
    return critic


def critic_model(device: torch.device | None = None) -> Critic:
    """The trained critic, frozen and in eval mode.

    Raises:
        WeightError: its weights are missing or damaged.
    """
    critic = untrained_critic()
    zoo.load_into(critic.head, WEIGHTS)
    critic = critic.to(device or torch.device("cpu"), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return critic.requires_grad_(False).eval()
