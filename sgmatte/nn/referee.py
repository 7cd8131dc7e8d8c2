"""The referee of trimaps: from a picture, and from what several networks say of it, to the logits of three classes.

A U-Net (Ronneberger, Fischer and Brox, *U-Net*, MICCAI 2015) of residual blocks with group normalisation (Wu and He,
*Group Normalization*, ECCV 2018), at half the size of what it is shown: small, for who is a person is for others to
find, and it has to tell whom to believe where.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 3
WIDTHS = (24, 32, 48, 64, 96)  # channels at strides 2, 4, 8, 16 and 32
GROUPS = 8
LEAST = -8.0  # log-probability that is told from none


class Block(nn.Module):
    """Two convolutions beside a shortcut; with `stride` 2 to half the size."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(GROUPS, outputs)
        self.second, self.last_norm = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(GROUPS, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.last_norm(self.second(F.relu(self.norm(self.first(x)))))
        return F.relu(y + self.shortcut(F.avg_pool2d(x, self.stride) if self.stride > 1 else x))


class Referee(nn.Module):
    """Logits (N, 3, H, W) of background, unknown and foreground; untrained, those of the first network.

    Args:
        persons: how many others are heard.
    """

    def __init__(self, persons: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 + CLASSES + persons, WIDTHS[0], 5, 2, 2)
        self.down = nn.ModuleList([Block(wide, narrow, 2) for wide, narrow in pairwise(WIDTHS)])
        self.whole = nn.Linear(WIDTHS[-1], WIDTHS[-1])
        self.up = nn.ModuleList([Block(below + beside, beside) for below, beside in pairwise(reversed(WIDTHS))])
        self.verdict = nn.Conv2d(WIDTHS[0] + 3 + persons, CLASSES, 3, padding=1)
        nn.init.zeros_(self.verdict.weight)
        assert self.verdict.bias is not None
        nn.init.zeros_(self.verdict.bias)

    def forward(self, image: Tensor, logits: Tensor, persons: Tensor) -> Tensor:
        """What is said of one picture, all of one size that strides of 32 divide.

        Args:
            image: (N, 3, H, W) RGB in [0, 1].
            logits: (N, 3, H, W) of the first network.
            persons: (N, K, H, W) in [0, 1], how likely a person is, as each of the others says.
        """
        seen = torch.cat([image, persons], 1) * 4 - 2
        features = [F.relu(self.stem(torch.cat([seen, logits.log_softmax(1).clamp_min(LEAST) / 2], 1)))]
        for down in self.down:
            features.append(down(features[-1]))
        x = features.pop()
        x = x + self.whole(x.mean((2, 3)))[..., None, None]
        for up in self.up:
            beside = features.pop()
            x = up(torch.cat([F.interpolate(x, beside.shape[2:], mode="bilinear", align_corners=False), beside], 1))
        found = self.verdict(torch.cat([x, F.avg_pool2d(seen, 2).to(x.dtype)], 1)).float()
        return logits + F.interpolate(found, logits.shape[2:], mode="bilinear", align_corners=False)
