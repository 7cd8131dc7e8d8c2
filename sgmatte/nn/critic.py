"""A critic of composites: sees whether a cut-out sits on its new background as a photograph would.

The paper uses StyleGAN2's discriminator, which judges faces and whose weights are not free. What the adversarial term
needs is a judge of composites, so this one is trained on exactly that question (sgmatte/train/critic.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgmatte import zoo


class Critic(nn.Module):
    """A patch discriminator: every logit judges one patch.

    Isola et al., *Image-to-Image Translation with Conditional Adversarial Networks*, CVPR 2017, section 3.2.2, without
    batch normalisation, because the verdict on one picture must not depend on others in its batch. Even kernels at
    stride 2 cover every pixel equally often, so the gradient to the picture has no checkerboard.

    Args:
        width: channels after the first convolution.
        levels: halvings of the resolution; 4 gives patches of 78 pixels.
    """

    def __init__(self, width: int = 32, levels: int = 4) -> None:
        super().__init__()
        self.config = {"width": width, "levels": levels}
        layers: list[nn.Module] = []
        channels = 3
        for level in range(levels):
            layers += [nn.Conv2d(channels, width << level, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = width << level
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(channels, 1, 1)]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, 0.2)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, composite: Tensor) -> Tensor:
        """N3HW composite in [0, 1] -> logits (N, 1, H/16, W/16), positive where it looks good."""
        return self.layers(composite * 2 - 1)


def critic_model(device: torch.device | None = None) -> Critic:
    """The trained critic.

    Raises:
        WeightError: its weights are missing or damaged.
    """
    critic = Critic(**zoo.config("critic.composite")).requires_grad_(False)
    zoo.load_into(critic, "critic.composite")
    return critic.to(device or torch.device("cpu"), memory_format=torch.channels_last)  # type: ignore[call-overload]
