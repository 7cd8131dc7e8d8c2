"""Other packages that cut people out, for comparison. sgmatte does not depend on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.errors import UsageError
from sgmatte.matting.models import MattingModel

MEDIAPIPE = "mediapipe==0.10.21"  # has the model in its wheel


class Peer:
    """A peer as a matting model that looks at the picture alone."""

    differentiable = False

    def __init__(self, name: str, alpha: Callable[[Tensor], Tensor]) -> None:
        self.name, self.alpha = name, alpha

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha (1, 1, H, W) of `image` (1, 3, H, W); what `trimap` says of it stays unused."""
        return self.alpha(image)


def mediapipe() -> MattingModel:
    """MediaPipe's selfie segmentation (Lugaresi et al., arXiv 1906.08172), the general model, whose mask is soft.

    Raises:
        UsageError: the package is not there.
    """
    try:
        from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation
    except ImportError as error:
        raise UsageError(f"MediaPipe is not installed here; pip install '{MEDIAPIPE}'") from error
    torch.set_flush_denormal(False)  # its threads take this over from here, and its network does not start under it
    segmentation = SelfieSegmentation(model_selection=0)
    torch.set_flush_denormal(True)

    def alpha(image: Tensor) -> Tensor:
        pixels = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
        mask = torch.from_numpy(np.array(segmentation.process(pixels).segmentation_mask, np.float32))[None, None]
        return F.interpolate(mask, image.shape[2:], mode="bilinear").clamp(0, 1).to(image.device)

    return Peer("mediapipe", alpha)


PEERS: dict[str, Callable[[], MattingModel]] = {"mediapipe": mediapipe}


def chosen_peer(name: str) -> MattingModel:
    """The peer of this name.

    Raises:
        UsageError: there is none, or its package is not installed.
    """
    if name not in PEERS:
        raise UsageError(f"unknown peer '{name}'; choose one of {', '.join(PEERS)}")
    return PEERS[name]()
