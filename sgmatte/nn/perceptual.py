"""How different two pictures look: distances between features of networks trained on ImageNet.

The paper takes LPIPS on VGG16. Its weights cannot be bundled, so the default here is the same construction on
EfficientNet-Lite0, named for what it is; LPIPS itself is used where the user has its weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.errors import UsageError
from sgmatte.nn.efficientnet import EfficientNetLite0
from sgmatte.nn.lpips import VGGFeatures

CHOICES = ("auto", "effnet", "lpips")
SIDE = 256  # pixels; larger pictures are box-averaged to it, as StyleGAN2's projector does


class PerceptualDistance(nn.Module, ABC):
    """Distance of pictures as a network sees them: 0 for equal ones, differentiable in both.

    Features are normalised to unit length at each place, so that contrast alone changes little (Zhang et al., *The
    Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, CVPR 2018, equation 1).
    """

    name: str

    @abstractmethod
    def features(self, image: Tensor) -> Sequence[Tensor]:
        """Feature maps of an N3HW picture in [0, 1]."""

    @abstractmethod
    def total(self, squared: Sequence[Tensor]) -> Tensor:
        """Squared differences of unit features, one NCHW map a layer -> distances (N,)."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distances (N,) of N3HW pictures in [0, 1]; values slightly outside are fine."""
        return self.against(reference)(image)

    def against(self, reference: Tensor) -> Callable[[Tensor], Tensor]:
        """The distance to a fixed `reference`, whose features are computed once and get no gradient."""
        with torch.no_grad():
            wanted = self._unit_features(reference)

        def distance(image: Tensor) -> Tensor:
            pairs = zip(self._unit_features(image), wanted, strict=True)
            return self.total([(mine - theirs).square() for mine, theirs in pairs])

        return distance

    def _unit_features(self, image: Tensor) -> list[Tensor]:
        maps = self.features(box_averaged(image, SIDE))
        return [x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt() for x in maps]


class EfficientNetDistance(PerceptualDistance):
    """The construction of LPIPS on EfficientNet-Lite0, every layer and channel weighing the same."""

    name = "efficientnet-lite0"
    STAGES = ("stage1", "stage2", "stage3", "stage5")  # strides 2, 4, 8, 16; the rest knows objects, not looks
    # Brings it to about the range of LPIPS-VGG, so that weights from the literature keep their meaning: unrelated
    # aligned faces differ by 0.63, a blur of 2 px by 0.19, noise of 0.05 by 0.22. A rough fit, made without VGG.
    SCALE = 0.4

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNetLite0()
        self.requires_grad_(False).eval()

    def features(self, image: Tensor) -> Sequence[Tensor]:
        return list(self.network(image, self.STAGES).values())

    def total(self, squared: Sequence[Tensor]) -> Tensor:
        layers = [x.sum(dim=1).mean(dim=(1, 2)) for x in squared]
        return torch.stack(layers).mean(dim=0) * self.SCALE


class LPIPSDistance(PerceptualDistance):
    """LPIPS 0.1 on VGG16, as published."""

    name = "lpips-vgg"

    def __init__(self, divide: int = 1) -> None:
        super().__init__()
        self.network = VGGFeatures(divide)
        self.requires_grad_(False).eval()

    def features(self, image: Tensor) -> Sequence[Tensor]:
        return self.network(image)

    def total(self, squared: Sequence[Tensor]) -> Tensor:
        layers = [self.network.weighted(level, x).mean(dim=(1, 2, 3)) for level, x in enumerate(squared)]
        return torch.stack(layers).sum(dim=0)


def box_averaged(image: Tensor, side: int) -> Tensor:
    """NCHW picture reduced by averaging to at most `side` x `side`; smaller sides stay as they are."""
    height, width = image.shape[-2:]
    if max(height, width) <= side:
        return image
    return F.adaptive_avg_pool2d(image, (min(height, side), min(width, side)))


def perceptual_distance(choice: str = "auto", device: torch.device | None = None) -> PerceptualDistance:
    """The distance for `--perceptual`: "effnet", "lpips", or "auto" (LPIPS where its weights are present).

    Raises:
        UsageError: `choice` is unknown.
        WeightError: the weights are missing or damaged; for "lpips" the message says where to put them.
    """
    if choice not in CHOICES:
        raise UsageError(f"unknown perceptual distance '{choice}'; choose one of {', '.join(CHOICES)}")
    if choice == "lpips" or (choice == "auto" and zoo.present("lpips.vgg")):
        trunk = {key: value for key, value in zoo.tensors("lpips.vgg").items() if key.startswith("features.")}
        lpips = LPIPSDistance()
        lpips.network.load_state_dict(trunk | zoo.tensors("lpips-linear.vgg"))
        distance: PerceptualDistance = lpips
    else:
        effnet = EfficientNetDistance()
        zoo.load_into(effnet.network, "efficientnet-lite0.imagenet")
        distance = effnet
    # a depthwise convolution is a third faster with the channels last
    return distance.to(device or torch.device("cpu"), memory_format=torch.channels_last)  # type: ignore[call-overload]
