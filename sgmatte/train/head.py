"""Output heads for smaller pictures: the trunk of MobileStyleGAN stops early, and a modulated 1x1 convolution refitted
here turns its hidden features into the picture that the whole network would have drawn, averaged down.

For one latent the head is a matrix V of 12 wavelet coefficients by C features, so its squared error over all pixels,

    mean |V h - t|^2 = tr(V G V') - 2 tr(V H) + mean |t|^2,   G = mean h h',   H = mean h t',

needs only the moments G and H of that latent's picture. They are computed once, over every pixel; after that a
thousand pictures are one small batch of matrices, and training takes minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from sgmatte.nn.mobilestylegan import Head, Mapping, Synthesis, slope
from sgmatte.train.loop import Observe, Recipe, learning_rate

SHARD = 25  # pictures per file of the cache
PIXELS = 4096  # hidden pixels drawn from a picture; more pictures teach more than more pixels of each
MIXED = 0.3  # share of pictures whose later rows of W+ come from a second w, so that heads work on W+ as well as on W


@torch.inference_mode()
def write_moments(
    mapping: Mapping,
    synthesis: Synthesis,
    sizes: Sequence[int],
    folder: Path,
    count: int,
    seed: int = 0,
    observe: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw `count` pictures and cache in shards, for each size S with C hidden channels at S / 2,

    - `w_S` (n, 512): the row of W+ that the head of that size sees,
    - `gram_S` (n, 3C + 1, 3C + 1): mean over pixels of h h', h being features, their slopes, and a 1 for the bias,
    - `cross_S` (n, 3C + 1, 12): mean of h t', t the wavelet coefficients of the full picture averaged to S,
    - `power_S` (n,): mean of |t|^2.

    Shards that exist are kept; shard k depends on (seed, k) only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"moments-{k:04d}.safetensors" for k in range(-(-count // SHARD))]
    for k, file in enumerate(files):
        if not file.exists():
            partial = file.with_suffix(".part")
            save_file(_shard(mapping, synthesis, sizes, np.random.default_rng((seed, k))), partial)
            partial.replace(file)
        if observe:
            observe(min(count, (k + 1) * SHARD), count)
    return files


def _shard(
    mapping: Mapping, synthesis: Synthesis, sizes: Sequence[int], random: np.random.Generator
) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {}
    for _ in range(SHARD):
        w_plus = mixed_w_plus(mapping, synthesis.config.layers, random)
        features = synthesis.features(w_plus, synthesis.noise)
        image = synthesis.head(features[-1], w_plus[:, -1])
        for size in sizes:
            stage = size.bit_length() - 4  # features[5] are 128 x 128, for 256
            x = features[stage]
            pixels = torch.from_numpy(random.permutation((size // 2) ** 2)[:PIXELS]).to(x.device)
            h = torch.cat((x, slope(x, 3), slope(x, 2), torch.ones_like(x[:, :1])), dim=1)[0].flatten(1)[:, pixels]
            t = haar_analysis(F.avg_pool2d(image, image.shape[-1] // size))[0].flatten(1)[:, pixels]
            rows.setdefault(f"w_{size}", []).append(w_plus[0, 3 * stage + 1])
            rows.setdefault(f"gram_{size}", []).append(h @ h.T / h.shape[1])
            rows.setdefault(f"cross_{size}", []).append(h @ t.T / h.shape[1])
            rows.setdefault(f"power_{size}", []).append(t.square().sum() / h.shape[1])
    return {key: torch.stack(values).cpu().contiguous() for key, values in rows.items()}


def mixed_w_plus(mapping: Mapping, layers: int, random: np.random.Generator) -> Tensor:
    """W+ (1, layers, 512) of one w, or of two that change over at a random row of the trunk of the smallest head."""
    z = torch.from_numpy(random.standard_normal((2, mapping.latent), dtype=np.float32))
    first, second = mapping(z.to(mapping.layers[0].weight.device)).split(1)
    change = int(random.integers(4, 15)) if random.random() < MIXED else layers
    rows = torch.arange(layers, device=first.device)[None, :, None]
    return torch.where(rows < change, first[:, None], second[:, None])


def haar_analysis(image: Tensor) -> Tensor:
    """Haar wavelet (N, C, 2H, 2W) -> (N, 4C, H, W), in the order that `haar_synthesis` inverts."""
    pixels = F.pixel_unshuffle(image, 2).unflatten(1, (-1, 4))  # (N, C, 4, H, W): top left, top right, bottom ...
    a, b, c, d = pixels.unbind(2)
    details = torch.stack((a + b - c - d, a - b + c - d, a - b - c + d), dim=2).flatten(1, 2)
    return torch.cat((a + b + c + d, details), dim=1) / 2


class Moments:
    """The cached moments of one size, in units (`scale`) in which each feature's mean square is 1."""

    def __init__(self, files: Sequence[Path], size: int, scale: Tensor | None = None) -> None:
        shards = [load_file(file) for file in files]
        self.w, gram, cross, self.power = (
            torch.cat([shard[f"{key}_{size}"] for shard in shards]) for key in ("w", "gram", "cross", "power")
        )
        self.scale = gram.diagonal(dim1=1, dim2=2).mean(0).clamp_min(1e-12).sqrt() if scale is None else scale
        self.gram = gram.div_(self.scale).div_(self.scale[:, None])
        self.cross = cross.div_(self.scale[:, None])

    def __len__(self) -> int:
        return len(self.w)

    def errors(self, matrices: Tensor, chosen: Tensor) -> Tensor:
        """Mean squared error (n,) on pictures in [0, 1], were V (n, 12, 3C + 1) the heads of the chosen pictures."""
        quadratic = ((matrices @ self.gram[chosen]) * matrices).sum((1, 2))
        linear = (matrices.mT * self.cross[chosen]).sum((1, 2))
        # Haar's wavelet is orthonormal: 12 coefficients have the energy of 12 pixel values, in [-1, 1] twice as far.
        return (quadratic - 2 * linear + self.power[chosen]) / 12 / 4

    def unmodulated(self) -> Tensor:
        """The one V (12, 3C + 1) with the least error over all pictures."""
        gram, cross = self.gram.double().mean(0), self.cross.double().mean(0)
        ridge = 1e-4 * torch.eye(len(gram), dtype=torch.float64)
        return torch.linalg.solve(gram + ridge, cross).mT.float()


def trained_head(
    files: Sequence[Path],
    size: int,
    *,
    steps: int = 1500,
    batch: int = 64,
    rate: float = 5e-3,
    seed: int = 0,
    observe: Observe | None = None,
) -> Head:
    """The head for `size`, fitted to the pictures of all shards but the last, which tells how it does on unseen ones.

    The loss is the mean log of each picture's squared error: PSNR is what the head is judged by.
    """
    seen = Moments(files[:-1], size)
    unseen = Moments(files[-1:], size, seen.scale)
    start = seen.unmodulated()
    channels = (start.shape[1] - 1) // 3
    # Styles begin as 1 for every w and learn slowly: there are more of their weights than pictures tell apart.
    styles = torch.zeros(channels, seen.w.shape[1]).requires_grad_()
    style_bias = torch.ones(channels).requires_grad_()
    kernel = start[:, :-1].unflatten(1, (3, channels)).clone().requires_grad_()  # (12, 3, C)
    bias = start[:, -1].clone().requires_grad_()
    recipe = Recipe(steps, batch, rate, warmup=50, seed=seed)
    optimizer = torch.optim.AdamW(
        [
            {"params": [styles], "slowness": 5, "weight_decay": 3.0},
            {"params": [style_bias, kernel, bias], "slowness": 1, "weight_decay": 0.0},
        ]
    )

    def matrices(w: Tensor) -> Tensor:
        style = w @ styles.T + style_bias
        return torch.cat(((kernel * style[:, None, None]).flatten(2), bias[:, None].expand(len(w), -1, -1)), dim=2)

    random = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe) / group["slowness"]
        chosen = torch.randint(len(seen), (batch,), generator=random)
        errors = seen.errors(matrices(seen.w[chosen]), chosen)
        optimizer.zero_grad()
        errors.clamp_min(1e-7).log().mean().backward()
        optimizer.step()
        if observe and ((step + 1) % 100 == 0 or step + 1 == steps):
            with torch.no_grad():
                others = unseen.errors(matrices(unseen.w), torch.arange(len(unseen)))
            observe(step + 1, steps, {"psnr_seen": _mean_psnr(errors), "psnr_unseen": _mean_psnr(others)})
    head = Head(seen.w.shape[1], channels, context=True)
    weight = (kernel / seen.scale[:-1].unflatten(0, (3, channels))).permute(1, 0, 2).reshape(36, channels)
    head.load_state_dict(
        {"modulation.weight": styles, "modulation.bias": style_bias, "weight": weight, "bias": bias / seen.scale[-1]}
    )
    return head.eval()


def _mean_psnr(errors: Tensor) -> float:
    return float(-10 * errors.detach().log10().mean())
