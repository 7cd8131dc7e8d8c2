"""Output heads for smaller pictures: the trunk of MobileStyleGAN stops early, and a head trained here turns its hidden
features into the picture that the whole network would have drawn, averaged down.

The features are the trunk's own, so they are drawn once, a window of each picture, and training is the head alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sgmatte.nn import mobilestylegan
from sgmatte.nn.mobilestylegan import ShortHead, Synthesis
from sgmatte.train.data import Sample
from sgmatte.train.loop import Observe, Recipe, fit

SHARD = 25  # pictures per file of the cache
WINDOW = 64  # side of the window kept of a picture's hidden features: more pictures teach more than more of each
CROP = 48  # side of a training sample in it
HELD_OUT = 4  # shards at the end that are not trained on
MIXED = 0.3  # share of pictures whose later rows of W+ come from a second w, so that heads work on W+ as well as on W


@torch.inference_mode()
def write_pictures(
    mapping: mobilestylegan.Mapping,
    synthesis: Synthesis,
    sizes: Sequence[int],
    folder: Path,
    count: int,
    seed: int = 0,
    observe: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw `count` pictures and cache a window of each in shards, for each size S with C hidden channels at S / 2:

    - `w_S` (n, 512): the row of W+ that the head of that size sees,
    - `hidden_S` (n, 64, 64, C) bfloat16: the trunk's features in the window,
    - `image_S` (n, 3, 128, 128) float16: the full picture averaged to S, in the same window, in about [-1, 1].

    Shards that exist are kept; shard k depends on (seed, k) only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"pictures-{k:04d}.safetensors" for k in range(-(-count // SHARD))]
    for k, file in enumerate(files):
        if not file.exists():
            partial = file.with_suffix(".part")
            save_file(_shard(mapping, synthesis, sizes, np.random.default_rng((seed, k))), partial)
            partial.replace(file)
        if observe:
            observe(min(count, (k + 1) * SHARD), count)
    return files


def _shard(
    mapping: mobilestylegan.Mapping, synthesis: Synthesis, sizes: Sequence[int], random: np.random.Generator
) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {}
    for _ in range(SHARD):
        w_plus = mixed_w_plus(mapping, synthesis.config.layers, random)
        features = synthesis.features(w_plus, synthesis.noise)
        image = synthesis.head(features[-1], w_plus[:, -1])
        for size in sizes:
            stage = size.bit_length() - 4  # features[5] are 128 x 128, for 256
            window = min(WINDOW, size // 2)
            y, x = (int(random.integers(0, size // 2 - window + 1)) for _ in range(2))
            hidden = features[stage][0, :, y : y + window, x : x + window]
            smaller = F.avg_pool2d(image, image.shape[-1] // size)[0]
            target = smaller[:, 2 * y : 2 * (y + window), 2 * x : 2 * (x + window)]
            rows.setdefault(f"w_{size}", []).append(w_plus[0, 3 * stage + 1])
            rows.setdefault(f"hidden_{size}", []).append(hidden.permute(1, 2, 0).bfloat16())
            rows.setdefault(f"image_{size}", []).append(target.half())
    return {key: torch.stack(values).cpu().contiguous() for key, values in rows.items()}


def mixed_w_plus(mapping: mobilestylegan.Mapping, layers: int, random: np.random.Generator) -> Tensor:
    """W+ (1, layers, 512) of one w, or of two that change over at a random row of the trunk of the smallest head."""
    z = torch.from_numpy(random.standard_normal((2, mapping.latent), dtype=np.float32))
    first, second = mapping(z.to(next(mapping.parameters()).device)).split(1)
    change = int(random.integers(4, 15)) if random.random() < MIXED else layers
    rows = torch.arange(layers, device=first.device)[None, :, None]
    return torch.where(rows < change, first[:, None], second[:, None])


class Pictures:
    """Draws samples for one size from cached shards: `hidden` (C, s, s), `w` (512,), `image` (3, 2s, 2s)."""

    def __init__(self, files: Sequence[Path], size: int, crop: int = CROP) -> None:
        self.files, self.size, self.crop = files, size, crop

    def __call__(self, random: np.random.Generator) -> Sample:
        hidden, w, image = self[int(random.integers(len(self)))]
        side = min(self.crop, hidden.shape[1])
        y, x = (int(random.integers(0, hidden.shape[1] - side + 1)) for _ in range(2))
        return {
            "hidden": hidden[:, y : y + side, x : x + side],
            "w": w,
            "image": image[:, 2 * y : 2 * (y + side), 2 * x : 2 * (x + side)],
        }

    def __len__(self) -> int:
        return len(self.files) * SHARD

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (C, h, h) bfloat16, w (512,) and picture (3, 2h, 2h) float32 of window k; only it is read."""
        shard, row = self._shards[k // SHARD], k % SHARD
        hidden, w, image = (shard.get_slice(f"{key}_{self.size}")[row] for key in ("hidden", "w", "image"))
        return hidden.permute(2, 0, 1), w, image.float()

    @cached_property
    def _shards(self) -> list[Any]:
        return [safe_open(file, framework="pt") for file in self.files]


def losses(head: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
    """Mean over windows of log MSE, up to a factor their PSNR: that is what a head is judged by."""
    errors = (head(sample["hidden"], sample["w"]) - sample["image"]).square().mean((1, 2, 3))
    return {"log_mse": errors.clamp_min(1e-6).log().mean()}


def trained_head(
    files: Sequence[Path],
    size: int,
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device | None = None,
    observe: Observe | None = None,
) -> ShortHead:
    """The head for `size`, trained on all shards but the last four, which tell how it does on unseen pictures.

    Raises:
        DataError: `folder` holds a checkpoint of another recipe.
    """
    seen, unseen = Pictures(files[:-HELD_OUT], size), Pictures(files[-HELD_OUT:], size)
    examples = [seen[k] for k in range(0, len(seen), max(1, len(seen) // 200))]
    hidden, w = torch.stack([e[0] for e in examples]), torch.stack([e[1] for e in examples])
    torch.manual_seed(recipe.seed)
    head = ShortHead(w.shape[1], hidden.shape[1])
    head.centre.copy_(w.mean(0))
    head.scale.copy_(hidden.float().square().mean((0, 2, 3)).clamp_min(1e-12).rsqrt())

    def validate(network: nn.Module) -> Mapping[str, float]:
        return {"psnr_unseen": float(np.mean([_psnr(network, unseen[k], device) for k in range(len(unseen))]))}

    trained = fit(
        head,
        seen,
        losses,
        recipe,
        folder,
        device=device,
        validate=validate,
        observe=observe,
    )
    assert isinstance(trained, ShortHead)
    return trained


def _psnr(head: nn.Module, window: tuple[Tensor, Tensor, Tensor], device: torch.device | None) -> float:
    hidden, w, image = (x[None].to(device) for x in window)
    drawn = head(hidden, w).clamp(-1, 1)
    return float(-10 * ((drawn - image.clamp(-1, 1)) / 2).square().mean().log10())
