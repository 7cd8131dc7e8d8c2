"""Output heads for smaller pictures: the trunk of MobileStyleGAN stops early, and a modulated 1x1 convolution refitted
here turns its hidden features into the picture that the whole network would have drawn, averaged down.

For one latent the head is a matrix V of 12 wavelet coefficients by C features, so its squared error over all pixels,

    mean |V h - t|^2 = tr(V G V') - 2 tr(V H) + mean |t|^2,   G = mean h h',   H = mean h t',

needs only the moments G and H of that latent's picture. They are computed once; after that a thousand pictures are a
batch of matrices, and training takes minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sgmatte.nn.mobilestylegan import STENCILS, Head, Mapping, Synthesis, context
from sgmatte.train.loop import Observe

SHARD = 25  # pictures per file of the cache
BATCH = 50  # pictures whose matrices are multiplied at once
SIDE = 64  # of the lattice of hidden pixels taken from a picture: more pictures teach more than more pixels of each
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
    - `gram_S` (n, 4C + 1, 4C + 1): mean over pixels of h h', h being the features' `context` and a 1 for the bias,
    - `cross_S` (n, 4C + 1, 12): mean of h t', t the wavelet coefficients of the full picture averaged to S,
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
            step = max(1, size // 2 // SIDE)
            y, x = random.integers(0, step, 2).tolist()
            h = context(features[stage].float(), step, (y, x))
            h = torch.cat((h, torch.ones_like(h[:, :1])), dim=1)[0].flatten(1)
            t = haar_analysis(F.avg_pool2d(image, image.shape[-1] // size))[:, :, y::step, x::step][0].flatten(1)
            rows.setdefault(f"w_{size}", []).append(w_plus[0, 3 * stage + 1])
            rows.setdefault(f"gram_{size}", []).append(h @ h.T / h.shape[1])
            rows.setdefault(f"cross_{size}", []).append(h @ t.T / h.shape[1])
            rows.setdefault(f"power_{size}", []).append(t.square().sum() / h.shape[1])
    return {key: torch.stack(values).cpu().contiguous() for key, values in rows.items()}


def mixed_w_plus(mapping: Mapping, layers: int, random: np.random.Generator) -> Tensor:
    """W+ (1, layers, 512) of one w, or of two that change over at a random row of the trunk of the smallest head."""
    z = torch.from_numpy(random.standard_normal((2, mapping.latent), dtype=np.float32))
    first, second = mapping(z.to(next(mapping.parameters()).device)).split(1)
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
    """The cached moments of one size, in units (`scale`) in which each feature's mean square is 1.

    A head is a style (n, 4C + 1) for each picture and a kernel (12, 4C + 1) for all: V = kernel * style.
    """

    def __init__(self, files: Sequence[Path], size: int, scale: Tensor | None = None) -> None:
        def joined(key: str) -> Tensor:
            whole = torch.empty(0)
            for k, file in enumerate(files):  # each read into its place: the matrices together are gigabytes
                with safe_open(file, framework="pt") as shard:
                    part = shard.get_tensor(f"{key}_{size}")
                whole = whole if k else part.new_empty(len(files), *part.shape)
                whole[k] = part
            return whole.flatten(0, 1)

        self.w, gram, cross, self.power = (joined(key) for key in ("w", "gram", "cross", "power"))
        self.scale = gram.diagonal(dim1=1, dim2=2).mean(0).clamp_min(1e-12).sqrt() if scale is None else scale
        self.gram = gram.div_(self.scale).div_(self.scale[:, None])
        self.cross = cross.div_(self.scale[:, None])
        self.batches = torch.arange(len(self.w)).split(BATCH)

    def errors(self, kernel: Tensor, style: Tensor, batch: Tensor) -> Tensor:
        """Mean squared error of each picture in the batch, in [0, 1]; `style` is that of the batch."""
        gram, cross, power = self.gram[batch], self.cross[batch], self.power[batch]
        matrices = kernel * style[:, None]
        errors = ((matrices @ gram) * matrices).sum((1, 2)) - 2 * (matrices.mT * cross).sum((1, 2)) + power
        return errors / 48  # Haar is orthonormal, so 12 coefficients stand for 12 values, which reach from -1 to 1

    def best_kernel(self, style: Tensor, weights: Tensor) -> Tensor:
        """The kernel with the least weighted error, were these the styles of all pictures."""
        gram, cross = torch.zeros_like(self.gram[0]), torch.zeros_like(self.cross[0])
        for k in range(len(style)):
            gram += weights[k] * style[k] * style[k, :, None] * self.gram[k]
            cross += weights[k] * style[k, :, None] * self.cross[k]
        ridge = 1e-5 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        return torch.linalg.solve(gram.double() + ridge, cross.double()).mT.float()


def trained_head(
    files: Sequence[Path],
    size: int,
    *,
    rounds: int = 5,
    iterations: int = 20,
    decay: float = 1e-5,
    observe: Observe | None = None,
) -> Head:
    """The head for `size`, fitted to the pictures of all shards but the last, which tells how it does on unseen ones.

    For given styles the best kernel is the solution of linear equations, so L-BFGS moves the styles alone (variable
    projection, Golub and Pereyra 1973). Each round weighs a picture by the inverse of its error in the round before:
    that descends the mean log error, and PSNR is what the head is judged by. Nothing is drawn at random.
    """
    seen = Moments(files[:-1], size)
    unseen = Moments(files[-1:], size, seen.scale)
    channels = (len(seen.scale) - 1) // len(STENCILS)
    mean = seen.w.mean(0)
    slopes = torch.zeros(channels, len(mean)).requires_grad_()  # of the styles, along w
    level = torch.ones(channels).requires_grad_()
    weights = torch.ones(len(seen.w))
    kernel = torch.empty(0)
    errors = torch.empty(len(seen.w))

    def style(w: Tensor) -> Tensor:
        each = (w - mean) @ slopes.T + level
        return torch.cat((each.repeat_interleave(len(STENCILS), 1), torch.ones_like(each[:, :1])), dim=1)

    def objective() -> float:
        nonlocal kernel
        optimizer.zero_grad()
        with torch.no_grad():
            kernel = seen.best_kernel(style(seen.w), weights)
        penalty = decay * slopes.square().sum()
        penalty.backward()
        total = penalty.item()
        for batch in seen.batches:
            found = seen.errors(kernel, style(seen.w[batch]), batch)
            loss = (weights[batch] * found).sum() / len(weights)
            loss.backward()
            errors[batch] = found.detach()
            total += loss.item()
        return total

    for number in range(1, rounds + 1):
        optimizer = torch.optim.LBFGS(
            [slopes, level], max_iter=iterations, history_size=iterations, line_search_fn="strong_wolfe"
        )
        optimizer.step(objective)
        objective()  # the line search may have left errors of a point that it rejected
        weights = errors.clamp_min(1e-7).reciprocal()
        with torch.no_grad():
            others = unseen.errors(kernel, style(unseen.w), torch.arange(len(unseen.w)))
        if observe:
            observe(number, rounds, {"psnr_seen": _mean_psnr(errors), "psnr_unseen": _mean_psnr(others)})
    head = Head(len(mean), channels, wide=True)
    weight = (kernel / seen.scale)[:, :-1].unflatten(1, (channels, -1)).transpose(1, 2).flatten(0, 1)
    state = {"modulation.weight": slopes, "modulation.bias": level - slopes @ mean, "weight": weight}
    head.load_state_dict(state | {"bias": kernel[:, -1] / seen.scale[-1]})
    return head.eval()


def _mean_psnr(errors: Tensor) -> float:
    return float(-10 * errors.log10().mean())
