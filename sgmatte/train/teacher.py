"""What a StyleGAN2 is taught with: MobileStyleGAN's features and pictures, and the latents that both draw from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.generator import MobileGenerator
from sgmatte.nn import stylegan2
from sgmatte.train.data import Sample

MIXED = 0.3  # share of pictures whose finer resolutions come from a second w, so that W+ is learned as well as W
SHARD = 64  # pictures per file of an album


class Teacher:
    """MobileStyleGAN's trunk and short head: features at every resolution but the finest, and the picture.

    Noise maps are drawn anew for each picture, at the strength of the maps that came with the weights: were they
    constant, the student could ignore its own.
    """

    def __init__(self, generator: MobileGenerator) -> None:
        self.mapping, self.synthesis = generator.networks
        self.strengths = [float(noise.std()) for noise in self.synthesis.noise]
        self.channels = [self.synthesis.config.constant, *self.synthesis.config.blocks]

    @torch.no_grad()
    def w(self, z: Tensor) -> Tensor:
        return self.mapping(z)

    @torch.no_grad()
    def mapping_layers(self, z: Tensor) -> list[Tensor]:
        """What each layer of the mapping network makes of z (N, latent); the last is w."""
        x, found = stylegan2.PixelNorm()(z), []
        for layer in self.mapping.layers:
            x = F.leaky_relu(layer(x), stylegan2.SLOPE) * stylegan2.GAIN
            found.append(x)
        return found

    @torch.no_grad()
    def features(self, w: Tensor, change: Tensor, noise: Sequence[Tensor], stages: int) -> list[Tensor]:
        """Features [(N, C, r, r)] of the first `stages` resolutions, as far as it has them; w as in `picture`."""
        trunk = self.synthesis
        if stages < len(self.channels):
            trunk = trunk.shortened(2 ** (stages + 2))
        scaled = [strength * noise_map for strength, noise_map in zip(self.strengths, noise, strict=False)]
        return trunk.features(self._rows(w, change), scaled)

    @torch.no_grad()
    def picture(self, features: Sequence[Tensor], w: Tensor, change: Tensor) -> Tensor:
        """(N, 3, S, S) from all features and w (N, 2, latent), whose second row counts from resolution `change` on."""
        return self.synthesis.head(features[-1], self._rows(w, change)[:, -1])

    def drawn(self, sample: Sample, latents: Latents) -> Tensor:
        """Pictures (N, 3, S, S) of a batch of `latents`."""
        device = next(self.mapping.parameters()).device
        z, change, noise = (sample[key].to(device) for key in ("z", "change", "noise"))
        return self.drawn_at(self.w(z.flatten(0, 1)).unflatten(0, (-1, 2)), change, latents.maps(noise))

    def drawn_at(self, w: Tensor, change: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Pictures (N, 3, S, S) of w (N, 2, latent), whose second row counts from resolution `change` (N,) on."""
        return self.picture(self.features(w, change, noise, len(self.channels)), w, change)

    def _rows(self, w: Tensor, change: Tensor) -> Tensor:
        rows = torch.arange(self.synthesis.config.layers, device=w.device)
        resolution = (rows + 2) // 3  # row 0 draws 4x4; 1, 2, 3 draw 8x8 ...
        return torch.where((resolution < change[:, None])[..., None], w[:, :1], w[:, 1:])


def student_rows(layers: int, w: Tensor, change: Tensor) -> Tensor:
    """W+ (N, layers, 512) of a StyleGAN2 from w (N, 2, 512): the second from resolution `change` (N,) on.

    The row that an RGB shares with the next resolution's first convolution goes with the latter.
    """
    resolution = (torch.arange(layers, device=w.device) + 1) // 2  # row 0 draws 4x4; 1 and 2 draw 8x8 ...
    return torch.where((resolution < change[:, None])[..., None], w[:, :1], w[:, 1:])


class Latents:
    """Draws z (2, 512), the resolution at which the second takes over, and noise maps in one row of numbers."""

    def __init__(self, latent: int, shapes: Sequence[tuple[int, ...]], resolutions: int) -> None:
        self.latent, self.resolutions = latent, resolutions
        self.counts = [shape[2] * shape[3] for shape in shapes]

    def __call__(self, random: np.random.Generator) -> Sample:
        change = int(random.integers(1, self.resolutions)) if random.random() < MIXED else self.resolutions
        return {
            "z": torch.from_numpy(random.standard_normal((2, self.latent), dtype=np.float32)),
            "change": torch.tensor(change),
            "noise": torch.from_numpy(random.standard_normal(sum(self.counts), dtype=np.float32)),
        }

    def maps(self, noise: Tensor) -> list[Tensor]:
        """Noise maps [(N, 1, r, r)] of a batch, as many as there are numbers for."""
        ends = [end for end in accumulate(self.counts) if end <= noise.shape[1]]
        parts = noise.split(self.counts[: len(ends)], 1)
        return [part.view(-1, 1, *[round(part.shape[1] ** 0.5)] * 2) for part in parts]


def latents_of(size: int, latent: int = 512) -> Latents:
    """What a StyleGAN2 of `size` draws from, whatever its channels."""
    network = stylegan2.Generator(size, latent=latent, depth=0, channels=[1] * (size.bit_length() - 2))
    return Latents(latent, network.noise_shapes, len(network.channels))


class Album:
    """Pictures that the teacher drew, kept on disk, for each is looked at several times and drawing takes as long as
    learning from it does. Picture k depends on (seed, k) only.

    As a sampler it gives the row of `Latents` that a picture was drawn from, and `picture` (3, S, S), uint8.
    """

    def __init__(self, teacher: Teacher, latents: Latents, folder: Path, count: int, seed: int) -> None:
        self.teacher, self.latents, self.folder, self.seed = teacher, latents, folder, seed
        self.count = max(SHARD, count // SHARD * SHARD)

    @property
    def files(self) -> list[Path]:
        return [self.folder / f"{k:04d}.npy" for k in range(self.count // SHARD)]

    def draw(self, observe: Callable[[int, int], None] | None = None) -> None:
        """Draw what is not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for k, file in enumerate(self.files):
            if not file.exists():
                partial = file.with_suffix(".part.npy")
                np.save(partial, self._shard(k))
                partial.replace(file)
            if observe:
                observe((k + 1) * SHARD, self.count)

    def _shard(self, k: int, batch: int = 8) -> np.ndarray:
        parts = []
        for first in range(k * SHARD, (k + 1) * SHARD, batch):
            rows = [self.row(number) for number in range(first, first + batch)]
            drawn = self.teacher.drawn({key: torch.stack([row[key] for row in rows]) for key in rows[0]}, self.latents)
            parts.append(as_bytes(drawn).cpu().numpy())
        return np.concatenate(parts)

    def row(self, number: int) -> Sample:
        """The latents of picture `number`."""
        return self.latents(np.random.default_rng((self.seed, number)))

    def __call__(self, random: np.random.Generator) -> Sample:
        number = int(random.integers(self.count))
        return {**self.row(number), "picture": self.picture(number)}

    def picture(self, number: int) -> Tensor:
        """Picture `number` alone, (3, S, S), uint8."""
        return torch.from_numpy(self._shards[number // SHARD][number % SHARD].copy())

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [np.load(file, mmap_mode="r") for file in self.files]


def as_bytes(picture: Tensor) -> Tensor:
    """What an album keeps of pictures in [-1, 1]."""
    return ((picture + 1) * 127.5).round().clamp(0, 255).byte()


def as_picture(stored: Tensor) -> Tensor:
    """Pictures in [-1, 1] from the bytes of an album."""
    return stored.float() / 127.5 - 1


def reduced(target: Tensor, picture: Tensor) -> Tensor:
    """`target` averaged down to the size of `picture`."""
    return F.avg_pool2d(target, target.shape[-1] // picture.shape[-1])


def picture_errors(pictures: Sequence[Tensor], target: Tensor) -> Tensor:
    """Sum over resolutions of the MSE, of values in [0, 1], between a student's pictures and the target's averages."""
    return torch.stack([F.mse_loss(picture, reduced(target, picture)) / 4 for picture in pictures]).sum()
