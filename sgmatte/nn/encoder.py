"""A guess at the w of a portrait, from what EfficientNet-Lite0 sees in it: where inversions start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.nn.efficientnet import EfficientNetLite0
from sgmatte.nn.perceptual import box_averaged

STAGES = ("stage5", "stage7")  # strides 16 and 32
GRID = 4  # features are averaged over so many fields a side: a face crop is aligned, so place tells as much as kind
SIDE = 256  # pixels; larger crops are averaged to it
TRUNK, WEIGHTS = "efficientnet-lite0.imagenet", "w-encoder.faces"


class Encoder(nn.Module):
    """Face crops (N, 3, S, S) in [0, 1], aligned as FFHQ's -> w (N, latent).

    A linear map of frozen features, fitted in closed form (sgmatte/train/encoder.py): `weight` gives coordinates along
    the first principal axes of W, `axes`. All generators distilled from StyleGAN2's FFHQ share this W.
    """

    def __init__(self, features: int, rank: int, latent: int = 512) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0().requires_grad_(False).eval()
        self.register_buffer("weight", torch.zeros(rank, features))
        self.register_buffer("bias", torch.zeros(rank))
        self.register_buffer("axes", torch.zeros(latent, rank))
        self.register_buffer("mean", torch.zeros(latent))

    @torch.no_grad()
    def forward(self, crop: Tensor) -> Tensor:
        found = self.features(self.trunk, crop)
        coordinates = F.linear(found, self.get_buffer("weight"), self.get_buffer("bias"))
        return self.get_buffer("mean") + coordinates @ self.get_buffer("axes").T

    @staticmethod
    def features(trunk: EfficientNetLite0, crop: Tensor) -> Tensor:
        """What the linear map sees of crops: (N, features)."""
        maps = trunk(box_averaged(crop, SIDE), STAGES).values()
        return torch.cat([F.adaptive_avg_pool2d(x, GRID).flatten(1) for x in maps], dim=1)


def encoder_model(device: torch.device | str = "cpu") -> Encoder:
    """The bundled encoder.

    Raises:
        WeightError: its weights are missing or damaged.
    """
    state = zoo.tensors(WEIGHTS)
    rank, features = state["weight"].shape
    encoder = Encoder(features, rank, len(state["mean"]))
    trunk = {f"trunk.{key}": value for key, value in zoo.tensors(TRUNK).items()}
    zoo.check_fit(f"{WEIGHTS} does not fit", state | trunk, encoder.state_dict())
    encoder.load_state_dict(state | trunk)
    return encoder.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
