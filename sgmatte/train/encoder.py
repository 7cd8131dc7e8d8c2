"""The encoder of portraits: `sgmatte train encoder`.

Generated portraits come with their w, so a map from the features of one to its w is plain regression. Ridge
regression is solved at once, has its best weight chosen on portraits that are held out, and where it knows little it
stays near the mean w, which is what a start of an inversion should do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sgmatte import zoo
from sgmatte.nn.efficientnet import EfficientNetLite0
from sgmatte.nn.encoder import TRUNK, Encoder
from sgmatte.train.teacher import Album, as_picture

RANK = 128  # axes of W that are told, the widest first
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # times the number of features, which have unit variance
HELD_OUT = 10  # one portrait in so many
BATCH = 16


@dataclass(frozen=True)
class Fit:
    """A fitted encoder; `explained` is the share of W's variance that it finds in held-out portraits."""

    encoder: Encoder
    ridge: float
    explained: float
    portraits: int


@torch.no_grad()
def fitted_encoder(album: Album, device: torch.device, observe: Callable[[int, int], None] | None = None) -> Fit:
    """The encoder of an album's portraits, those that were drawn from one w alone."""
    trunk = zoo.load_into(EfficientNetLite0(), TRUNK).to(device)
    features, w = _pairs(album, trunk, device, observe)
    held_out = torch.arange(len(w)) % HELD_OUT == 0
    mean, axes = _principal_axes(w[~held_out])
    best, score = None, -torch.inf
    for ridge, weight, bias in _ridges(features[~held_out], (w[~held_out] - mean) @ axes):
        guess = mean + (features[held_out] @ weight.T + bias) @ axes.T
        explained = 1 - float((guess - w[held_out]).square().sum() / (w[held_out] - mean).square().sum())
        if explained > score:
            best, score = (ridge, weight, bias), explained
    assert best
    ridge, weight, bias = best
    encoder = Encoder(features.shape[1], RANK, w.shape[1])
    buffers = {"weight": weight, "bias": bias, "axes": axes, "mean": mean}
    trunk_state = {f"trunk.{key}": value for key, value in trunk.state_dict().items()}
    encoder.load_state_dict({key: value.float() for key, value in buffers.items()} | trunk_state)
    return Fit(encoder.eval(), ridge, score, len(w))


def _pairs(
    album: Album, trunk: EfficientNetLite0, device: torch.device, observe: Callable[[int, int], None] | None
) -> tuple[Tensor, Tensor]:
    """Features (N, F) and w (N, latent) of the portraits of one w, in float64."""
    features, latents = [], []
    for first in range(0, album.count, BATCH):
        rows = [(k, album.row(k)) for k in range(first, min(first + BATCH, album.count))]
        whole = [(k, row) for k, row in rows if int(row["change"]) == album.latents.resolutions]
        if whole:
            pictures = torch.stack([album.picture(k) for k, _ in whole]).to(device)
            features.append(Encoder.features(trunk, (as_picture(pictures) + 1) / 2).cpu())
            latents.append(album.teacher.w(torch.stack([row["z"][0] for _, row in whole]).to(device)).cpu())
        if observe:
            observe(min(first + BATCH, album.count), album.count)
    return torch.cat(features).double(), torch.cat(latents).double()


def _principal_axes(w: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (latent,) and the first `RANK` axes (latent, RANK), orthonormal."""
    mean = w.mean(0)
    _, directions = torch.linalg.eigh((w - mean).T @ (w - mean))
    return mean, directions.flip(1)[:, :RANK]


def _ridges(x: Tensor, y: Tensor) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Each ridge, with weight (outputs, inputs) and bias (outputs,) of x (N, inputs) -> y (N, outputs)."""
    centre, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    z = (x - centre) / scale
    gram = z @ z.T  # the dual form: there are fewer portraits than features
    for ridge in RIDGES:
        damped = gram + ridge * z.shape[1] * torch.eye(len(z), dtype=z.dtype)
        weight = (torch.linalg.solve(damped, y - y.mean(0)).T @ z) / scale
        yield ridge, weight, y.mean(0) - weight @ centre
