"""What others cut people out with, for comparison; sgmatte depends on no package of theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.errors import UsageError
from sgmatte.matting.classical import closed_form
from sgmatte.matting.models import MattingModel
from sgmatte.nn.rvm import rvm_model
from sgmatte.trimaps import BACKGROUND, FOREGROUND, band_trimap

MEDIAPIPE = "mediapipe==0.10.21"  # has the model in its wheel
CERTAIN = 0.9  # RVM's alpha from which on a pixel is the person's; what lies as near to 0 is background
MARGIN = 10  # pixels that both are eroded by


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


def rvm_plain() -> MattingModel:
    """The alpha of Robust Video Matting (see `sgmatte.nn.rvm`) as it is."""
    return Peer("rvm-plain", _rvm_alpha())


def rvm() -> MattingModel:
    """Robust Video Matting and closed form, as people chain them: a trimap of the one's alpha, matted by the other.

    Where RVM is certain of nobody, or of nothing but a person, its alpha stays as it is.
    """
    first, matte = _rvm_alpha(), closed_form(torch.device("cpu"))

    def alpha(image: Tensor) -> Tensor:
        found = first(image)
        sure = torch.where(found > CERTAIN, 1.0, torch.where(found < 1 - CERTAIN, 0.0, found))
        trimap = band_trimap(sure, MARGIN)
        known = bool((trimap == FOREGROUND).any() and (trimap == BACKGROUND).any())
        return matte(image, trimap) if known else found

    return Peer("rvm", alpha)


def _rvm_alpha() -> Callable[[Tensor], Tensor]:
    network = rvm_model(torch.device("cpu"))

    def alpha(image: Tensor) -> Tensor:
        found: Tensor = network.to(image.device)(image)
        return found

    return alpha


PEERS: dict[str, Callable[[], MattingModel]] = {"mediapipe": mediapipe, "rvm": rvm, "rvm-plain": rvm_plain}


def chosen_peer(name: str) -> MattingModel:
    """The peer of this name.

    Raises:
        UsageError: there is none, or its package is not installed.
    """
    if name not in PEERS:
        raise UsageError(f"unknown peer '{name}'; choose one of {', '.join(PEERS)}")
    return PEERS[name]()
