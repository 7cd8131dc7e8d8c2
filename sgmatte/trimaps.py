"""Trimaps: of an image, by DeepLab and those who are heard beside it, or from an alpha.

Classes are 0 background, 1 unknown, 2 foreground.
"""

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
from sgmatte.nn.person import person_model
from sgmatte.nn.referee import Referee
from sgmatte.nn.selfie import SelfieSegmentation

BACKGROUND, UNKNOWN, FOREGROUND = 0, 1, 2
MULTIPLE = 32  # the backbone's total stride
SELFIE = 0.5  # what the opinion of `selfie.mediapipe` weighs, to 1 for DeepLab's
PERSON = 2.0  # what that of `person.portrait` weighs
REFEREE = 0.3  # share of what the referee says, beside the vote
CONFLICT = 2.0  # the smaller, the smaller a conflict that makes a pixel unknown
CLEAR = 0.1  # alpha up to which a pixel is clear, and from 1 minus which it is opaque
AROUND = 0.02  # of the longest side: how far from a boundary a matting network is believed that there is none
MOST = 2 / 3  # of the votes
SETTLED = 0.1  # what is then left of the probability of the unknown
SPECK = 1e-3  # share of a picture: smaller islands of certainty are unknown
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


@dataclass(frozen=True)
class Opinions:
    """What networks say of a picture before a trimap comes of it; H x W is the working size."""

    image: Tensor  # (N, 3, H, W) RGB in [0, 1]: the picture, at that size
    logits: Tensor  # (N, 3, h, w) of DeepLab, at a quarter of it
    persons: Tensor  # (N, K, H, W) in [0, 1]: how likely a person is, as each of K others says


class Panel(nn.Module):
    """Networks that know people by other pictures than DeepLab does, and how a trimap comes of what they say.

    The larger part is a vote, the other what a referee says who has learned whom to believe where: the vote knows less,
    and nothing by heart.

    Args:
        others: their `person` gives the probability of one, (N, 1, h, w) at any size, of an image in [0, 1].
        weights: what the vote of each weighs, to 1 for DeepLab's.
        referee: image, DeepLab's logits and the others' probabilities -> logits, all of one size (`nn.referee`).
        unknown_bias: added to the unknown logit in the end; stored with the referee's weights.
    """

    def __init__(
        self, others: Sequence[nn.Module], weights: Sequence[float], referee: nn.Module, unknown_bias: float = 0.0
    ) -> None:
        super().__init__()
        self.others, self.weights = nn.ModuleList(others), list(weights)
        self.referee, self.unknown_bias = referee, unknown_bias

    def settled(self, said: Opinions) -> Tensor:
        """Logits (N, 3, H, W), at the working size."""
        logits = _scaled(said.logits, said.image.shape[2:])
        with _fast(said.image):
            judged = _folded(self.referee(*map(_mirrored, (said.image, logits, said.persons))))
        persons = said.persons.split(1, 1)
        alphas = [p for p, other in zip(persons, self.others, strict=True) if getattr(other, "mattes", False)]
        votes = voted(logits, persons, self.weights, alphas).exp()
        both = (1 - REFEREE) * votes + REFEREE * judged.softmax(1)
        return without_specks(with_bias(both.clamp_min(LEAST).log(), self.unknown_bias))


class TrimapNetwork(nn.Module):
    """DeepLab at a fixed working scale, answering at the image's own size.

    Args:
        network: image in [0, 1] -> logits at a quarter of its size.
        side: longest side in the network, whatever the image's size.
        unknown_bias: added to the unknown logit, here and nowhere else; above 0 the band widens. Chosen on portraits
            held out of the training set, stored with the weights.
        panel: what else is heard for `mean_logits`.
    """

    def __init__(
        self, network: nn.Module, side: int = 384, unknown_bias: float = 0.0, panel: Panel | None = None
    ) -> None:
        super().__init__()
        self.network, self.side, self.unknown_bias, self.panel = network, side, unknown_bias, panel

    def logits(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W) logits of bg, unknown, fg, in one look. Differentiable."""
        return _scaled(self._biased(self.working(image)), image.shape[2:])

    forward = logits

    @torch.no_grad()
    def opinions(self, image: Tensor) -> Opinions:
        """Of (N, 3, H, W) RGB in [0, 1]. DeepLab's is the mean over photo and mirror image."""
        small = self.working(image)
        with _fast(image):
            logits = _folded(self._biased(_mirrored(small)))
        others = self.panel.others if self.panel else ()
        persons = [_scaled(other.person(image), small.shape[2:]) for other in others]  # type: ignore[operator]
        return Opinions(small, logits, torch.cat([small[:, :0], *persons], 1))

    def working(self, image: Tensor) -> Tensor:
        """The image at the size at which networks see it."""
        return _scaled(image, working_size(image.shape[2], image.shape[3], self.side), antialias=True)

    @torch.no_grad()
    def settled(self, said: Opinions) -> Tensor:
        """Logits (N, 3, H, W), at the working size, once all opinions are heard."""
        return self.panel.settled(said) if self.panel else _scaled(said.logits, said.image.shape[2:])

    def mean_logits(self, image: Tensor) -> Tensor:
        """`logits`, the mean over photo and mirror image, once other opinions are heard."""
        return _scaled(self.settled(self.opinions(image)), image.shape[2:])

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
        return with_bias(self.network(small).float(), self.unknown_bias)


def with_bias(logits: Tensor, bias: float) -> Tensor:
    """`bias` added to the logits (N, 3, H, W) of the unknown."""
    return logits + logits.new_tensor([0.0, bias, 0.0]).view(1, 3, 1, 1)


def _mirrored(x: Tensor) -> Tensor:
    """x and its mirror image, (2 N, C, H, W)."""
    return torch.cat([x, x.flip(3)])


def _folded(x: Tensor) -> Tensor:
    """The mean of what was found in both."""
    plain, mirrored = x.chunk(2)
    return (plain + mirrored.flip(3)) / 2


def _fast(x: Tensor) -> torch.autocast:
    """Convolutions in bfloat16 where that is fast."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=fast_in_bf16(x.device))


def _scaled(x: Tensor, size: Sequence[int], antialias: bool = False) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False, antialias=antialias)


def working_size(height: int, width: int, side: float) -> tuple[int, int]:
    """Size in the network: longest side `side`, both sides whole strides of the backbone."""
    scale = side / max(height, width)
    return whole(height * scale), whole(width * scale)


def whole(length: float) -> int:
    """The nearest length, above 0, that is a whole number of the backbone's strides."""
    return max(MULTIPLE, round(length / MULTIPLE) * MULTIPLE)


def voted(logits: Tensor, persons: Sequence[Tensor], weights: Sequence[float], alphas: Sequence[Tensor] = ()) -> Tensor:
    """Log-probabilities of the classes by the votes of other networks, which give a person probabilities (N, 1, H, W).

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


def without_specks(logits: Tensor) -> Tensor:
    """`logits` (N, 3, H, W) with the unknown likeliest on `specks`: a matting network sees more than so few pixels."""
    background, unknown, foreground = logits.split(1, 1)
    above = torch.maximum(background, foreground) + 1
    unknown = torch.where(specks(likeliest(logits)), torch.maximum(unknown, above), unknown)
    return torch.cat([background, unknown, foreground], 1)


def specks(trimap: Tensor) -> Tensor:
    """Where a trimap (N, 1, H, W) has islands of background or of foreground that are smaller than `SPECK` of the
    picture, and not the largest of their class; bool, of the same shape.
    """
    classes = trimap.cpu().numpy()
    found = np.zeros(classes.shape, bool)
    for sample, out in zip(classes[:, 0], found[:, 0], strict=True):
        for side in (BACKGROUND, FOREGROUND):
            islands, _ = ndimage.label(sample == side)
            areas = np.bincount(islands.ravel())
            areas[0] = 0  # what is not of this class
            out |= ((areas > 0) & (areas < min(SPECK * sample.size, areas.max())))[islands]
    return torch.from_numpy(found).to(trimap.device)


def trimap_model(device: torch.device | str = "cpu") -> TrimapNetwork:
    """The bundled network: `deeplab.portrait`, and `referee.portrait` who hears it, `selfie.mediapipe` and
    `person.portrait`; frozen, in eval mode.

    Raises:
        WeightError: see `zoo.path`.
    """
    referee = zoo.load_into(Referee(), "referee.portrait")
    network = hearing_all(referee, **zoo.config("referee.portrait"))
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def hearing_all(referee: nn.Module, unknown_bias: float = 0.0) -> TrimapNetwork:
    """The same with another referee, such as one that learns; on the CPU, as loaded."""
    others = [zoo.load_into(SelfieSegmentation(), "selfie.mediapipe"), person_model(torch.device("cpu"))]
    panel = Panel(others, [SELFIE, PERSON], referee, unknown_bias)
    settings = zoo.config("deeplab.portrait")
    network = zoo.load_into(DeepLab(), "deeplab.portrait")
    return TrimapNetwork(network, **settings, panel=panel)


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
