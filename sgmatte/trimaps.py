"""Trimaps: of an image by DeepLab, or from an alpha. Classes are 0 background, 1 unknown, 2 foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.device import fast_in_bf16
from sgmatte.nn.deeplab import DeepLab
from sgmatte.nn.rvm import rvm_model
from sgmatte.nn.selfie import SelfieSegmentation

BACKGROUND, UNKNOWN, FOREGROUND = 0, 1, 2
MULTIPLE = 32  # the backbone's total stride
SELFIE = 0.5  # what the opinion of `selfie.mediapipe` weighs, to 1 for DeepLab's
RVM = 2.0  # what that of `rvm.mobilenetv3` weighs
CONFLICT = 2.0  # the smaller, the smaller a conflict that makes a pixel unknown
CLEAR = 0.1  # alpha up to which a pixel is clear, and from 1 minus which it is opaque
AROUND = 0.02  # of the longest side: how far from a boundary a matting network is believed that there is none
MOST = 2 / 3  # of the votes
SETTLED = 0.1  # what is then left of the probability of the unknown
LEAST = 1e-30  # probability that is told from none
ROWS = 512  # of logits whose entropy is computed at once: of a large photo all would take gigabytes


@dataclass(frozen=True)
class Confidence:
    """How sure a trimap is: what it leaves open, and how much its network hesitated. Shares of pixels, in [0, 1]."""

    background: float
    unknown: float
    foreground: float
    entropy: float | None = None  # mean Shannon entropy in nats, at most ln 3; a trimap from a file has none


@dataclass(frozen=True)
class Look:
    """What the trimap network sees in a photo."""

    trimap: Tensor  # (N, 1, H, W) int64 classes
    person: Tensor  # (N, 1, H, W) in [0, 1]: how likely each pixel is the person's rather than the background's
    certain: Tensor  # (N, 1, H, W) in [0, 1]: how likely it is either, and not unknown
    confidence: Confidence


class TrimapNetwork(nn.Module):
    """DeepLab at a fixed working scale, answering at the image's own size.

    Args:
        network: image in [0, 1] -> logits at a quarter of its size.
        side: longest side in the network, whatever the image's size.
        unknown_bias: added to the unknown logit, here and nowhere else; above 0 the band widens. Chosen on portraits
            held out of the training set, stored with the weights.
        others: networks that know people by other pictures, asked for `mean_logits`, and what each opinion weighs;
            their `person` gives the probability of one, (N, 1, h, w) at any size, of an image in [0, 1].
    """

    def __init__(
        self,
        network: nn.Module,
        side: int = 384,
        unknown_bias: float = 0.0,
        others: Sequence[tuple[nn.Module, float]] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.side = side
        self.unknown_bias = unknown_bias
        self.others = nn.ModuleList(other for other, _ in others)
        self.weights = [weight for _, weight in others]

    def logits(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W) logits of bg, unknown, fg, in one look. Differentiable."""
        height, width = image.shape[2:]
        small = _scaled(image, working_size(height, width, self.side), antialias=True)
        return _scaled(self._biased(small), (height, width))

    forward = logits

    @torch.no_grad()
    def mean_logits(self, image: Tensor) -> Tensor:
        """`logits`, the mean over photo and mirror image, in bfloat16 where that is fast. Other opinions count
        too (`agreed`).
        """
        height, width = image.shape[2:]
        size = working_size(height, width, self.side)
        small = _scaled(image, size, antialias=True)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=fast_in_bf16(image.device)):
            plain, mirrored = self._biased(torch.cat([small, small.flip(3)])).chunk(2)
        found = (plain + mirrored.flip(3)) / 2
        if self.weights:
            found = _scaled(found, size)
            persons = [_scaled(other.person(image), size) for other in self.others]  # type: ignore[operator]
            alphas = [p for p, other in zip(persons, self.others, strict=True) if getattr(other, "mattes", False)]
            found = agreed(found, persons, self.weights, alphas)
        return _scaled(found, (height, width))

    def trimap(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 1, H, W) int64 classes, by `mean_logits`."""
        return likeliest(self.mean_logits(image))

    def look(self, image: Tensor) -> Look:
        """`trimap`, what is behind its unknown pixels, and how sure it is, for the same work."""
        logits = self.mean_logits(image)
        trimap = likeliest(logits)
        doubt = sum(float(entropy(rows)) * rows.numel() for rows in logits.split(ROWS, 2)) / logits.numel()
        person = (logits[:, FOREGROUND:] - logits[:, :UNKNOWN]).sigmoid()
        certain = (
            torch.logaddexp(logits[:, :UNKNOWN], logits[:, FOREGROUND:]) - logits[:, UNKNOWN:FOREGROUND]
        ).sigmoid()
        return Look(trimap, person, certain, confidence(trimap, doubt))

    def _biased(self, small: Tensor) -> Tensor:
        """Logits at a quarter of the size of an image at a working size."""
        bias = small.new_tensor([0.0, self.unknown_bias, 0.0]).view(1, 3, 1, 1)
        return self.network(small).float() + bias


def _scaled(x: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=antialias)


def working_size(height: int, width: int, side: float) -> tuple[int, int]:
    """Size in the network: longest side `side`, both sides whole strides of the backbone."""
    scale = side / max(height, width)
    return whole(height * scale), whole(width * scale)


def whole(length: float) -> int:
    """The nearest length, above 0, that is a whole number of the backbone's strides."""
    return max(MULTIPLE, round(length / MULTIPLE) * MULTIPLE)


def agreed(
    logits: Tensor, persons: Sequence[Tensor], weights: Sequence[float], alphas: Sequence[Tensor] = ()
) -> Tensor:
    """Logits once the probabilities (N, 1, H, W) that other networks give to a person are known, and their weights.

    Foreground and background share what is not unknown as all networks say on average; where they contradict each
    other, the pixel is unknown: the matting network sees more there than a vote could tell. It is not where one of
    `alphas` is clear or opaque all around and most networks say likewise: a matting network sees no boundary there.
    """
    background, unknown, foreground = logits.softmax(1).split(1, 1)
    certain = background + foreground  # not 1 - unknown, which has no digits left where unknown is all but sure
    first = (logits[:, FOREGROUND:] - logits[:, :UNKNOWN]).sigmoid()
    votes = sum((weight * person for weight, person in zip(weights, persons, strict=True)), first)
    foreground = votes / (1 + sum(weights))
    conflict = (1 - (2 * foreground - 1).abs()) ** CONFLICT
    unknown, certain = torch.maximum(unknown, conflict), torch.minimum(certain, 1 - conflict)
    for alpha in alphas:
        reach = round(AROUND * max(alpha.shape[2:]))
        clear, opaque = (everywhere(side, reach) for side in (alpha < CLEAR, alpha > 1 - CLEAR))
        settled = (clear & (foreground < 1 - MOST)) | (opaque & (foreground > MOST))
        unknown = torch.where(settled, unknown * SETTLED, unknown)
        certain = torch.where(settled, 1 - unknown, certain)
    return torch.cat([certain * (1 - foreground), unknown, certain * foreground], 1).clamp_min(LEAST).log()


def everywhere(region: Tensor, reach: int) -> Tensor:
    """Where no pixel within `reach` rows and columns is outside of `region`; (N, 1, H, W) bool both."""
    window = (1, 1, 2 * reach + 1, 2 * reach + 1)
    inside = ndimage.minimum_filter(region.cpu().numpy().astype(np.uint8), window, mode="nearest")
    return torch.from_numpy(inside.astype(bool)).to(region.device)


def trimap_model(device: torch.device | str = "cpu") -> TrimapNetwork:
    """The bundled network, `deeplab.portrait`, hearing `selfie.mediapipe` and `rvm.mobilenetv3`; frozen, in eval mode.

    Raises:
        WeightError: see `zoo.path`.
    """
    settings = zoo.config("deeplab.portrait")
    selfie = zoo.load_into(SelfieSegmentation(), "selfie.mediapipe")
    others = [(selfie, SELFIE), (rvm_model(torch.device("cpu")), RVM)]
    network = TrimapNetwork(zoo.load_into(DeepLab(), "deeplab.portrait"), **settings, others=others)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def likeliest(logits: Tensor) -> Tensor:
    """The likeliest class of each pixel, the first of equals: (N, 3, H, W) -> (N, 1, H, W) int64."""
    return logits.max(1, keepdim=True).indices  # argmax of a few channels takes twenty times as long on a CPU


def entropies(logits: Tensor) -> Tensor:
    """Shannon entropy of each pixel, in nats: 0 where there is no doubt, at most ln 3. (N, 3, H, W) -> (N, 1, H, W)."""
    log_probability = F.log_softmax(logits, dim=1)
    return -(log_probability.exp() * log_probability).sum(1, keepdim=True)


def entropy(logits: Tensor) -> Tensor:
    """Mean of `entropies` over all pixels, a scalar."""
    return entropies(logits).mean()


def confidence(trimap: Tensor, entropy: float | None = None) -> Confidence:
    """Of a trimap of classes, any shape, and of the entropy of the logits that it came from."""
    background, unknown, foreground = (n / trimap.numel() for n in trimap.flatten().bincount(minlength=3).tolist())
    return Confidence(background, unknown, foreground, entropy)


def band_trimap(alpha: Tensor, radius: float) -> Tensor:
    """Trimap whose unknown band is the soft alpha widened by a disc: foreground and background are eroded by `radius`.

    Args:
        alpha: (N, 1, H, W) in [0, 1]; opaque from 1 - 1/255, clear up to 1/255, since 8-bit alphas are seldom exact.
        radius: pixels; 0 leaves just the soft pixels unknown. An elliptical kernel of d pixels has radius (d - 1) / 2.

    Returns:
        (N, 1, H, W) int64 on the alpha's device. A hard edge has no soft pixel, but still a band: each side reaches
        `radius` pixels from the nearest pixel that is not certain to be its own.
    """
    values = alpha.detach().cpu().numpy()
    trimap = np.full(values.shape, UNKNOWN, np.int64)
    for sample, out in zip(values[:, 0], trimap[:, 0], strict=True):
        out[_eroded(sample <= 1 / 255 + 1e-6, radius)] = BACKGROUND
        out[_eroded(sample >= 1 - 1 / 255 - 1e-6, radius)] = FOREGROUND
    return torch.from_numpy(trimap).to(alpha.device)


def _eroded(region: np.ndarray, radius: float) -> np.ndarray:
    """Pixels farther than `radius` from every pixel outside `region`; the image's border does not erode."""
    if region.all():
        return region
    return ndimage.distance_transform_edt(region) > radius
