"""The face generator behind one small interface, so that what inverts and enhances need not know which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.device import fast_in_bf16
from sgmatte.generators import GENERATORS, HEADS, WEIGHT, chosen_generator
from sgmatte.nn import mobilestylegan, stylegan2
from sgmatte.nn.openvino_ir import read_graph


class Generator(Protocol):
    """Faces from latents. W+ is (N, layers, 512); noise maps are a list of (1, 1, r, r), one per shape."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Side of the picture in pixels."""

    @property
    def layers(self) -> int:
        """Rows of W+."""

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]: ...

    @property
    def coarse(self) -> Generator | None:
        """A generator of smaller pictures with the same first layers: its noise maps, and its rows of W+ but the last,
        are this one's first. None for the smallest."""

    def mapping(self, z: Tensor) -> Tensor:
        """z (N, 512) ~ N(0, 1) -> w (N, 512)."""

    def synthesis(self, w_plus: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Picture (N, 3, size, size), float32 in about [0, 1], not clamped."""

    def mean_w(self, count: int = 10_000, seed: int = 0) -> Tensor:
        """Mean (1, 512) of `count` mapped latents."""

    def default_noise(self) -> list[Tensor]:
        """Noise maps to start from; the caller may change them."""


class MobileGenerator:
    """MobileStyleGAN (FFHQ), whole at 1024 or cut short with a refitted head at 512 and 256."""

    def __init__(
        self,
        mapping: mobilestylegan.Mapping,
        synthesis: mobilestylegan.Synthesis,
        coarse: MobileGenerator | None = None,
    ) -> None:
        self.networks = mapping, synthesis
        self.coarse = coarse
        self.config = synthesis.config
        self.name = f"{WEIGHT} at {self.size}"

    @property
    def size(self) -> int:
        return self.config.size

    @property
    def layers(self) -> int:
        return self.config.layers

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        return self.config.noise_shapes

    def mapping(self, z: Tensor) -> Tensor:
        return self.networks[0](z)

    def synthesis(self, w_plus: Tensor, noise: Sequence[Tensor]) -> Tensor:
        return (self.networks[1](w_plus, noise) + 1) / 2

    def mean_w(self, count: int = 10_000, seed: int = 0) -> Tensor:
        return _mean_w(self.networks[0], self.config.latent, count, seed)

    def default_noise(self) -> list[Tensor]:
        return [noise.clone() for noise in self.networks[1].noise]


class StyleGAN2Generator:
    """StyleGAN2 of any size; it has no coarse twin, for its pictures at lower resolutions are not smaller pictures."""

    coarse = None

    def __init__(self, network: stylegan2.Generator, name: str) -> None:
        self.network, self.name = network, name

    @property
    def size(self) -> int:
        return self.network.size

    @property
    def layers(self) -> int:
        return self.network.layers

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        return self.network.noise_shapes

    def mapping(self, z: Tensor) -> Tensor:
        return self.network.mapping(z)

    def synthesis(self, w_plus: Tensor, noise: Sequence[Tensor]) -> Tensor:
        return (self.network(w_plus, noise) + 1) / 2

    def mean_w(self, count: int = 10_000, seed: int = 0) -> Tensor:
        return _mean_w(self.network.style, self.network.latent, count, seed)

    def default_noise(self) -> list[Tensor]:
        return [noise.clone() for noise in self.network.noise]


@torch.no_grad()
def _mean_w(mapping: nn.Module, latent: int, count: int, seed: int) -> Tensor:
    z = torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))
    return mapping(z.to(next(mapping.parameters()).device)).mean(0, keepdim=True)


def load_networks(
    device: torch.device | str = "cpu", exact: bool = True
) -> tuple[mobilestylegan.Mapping, mobilestylegan.Synthesis]:
    """Mapping and full 1024 synthesis network from the cached OpenVINO files; `exact` as in `load_generator`.

    Raises:
        WeightError: they are not in the cache (the message names the command that fetches them) or are damaged.
    """
    folder = zoo.path(WEIGHT)
    mapping = read_graph(folder / "MappingNetwork.xml", folder / "MappingNetwork.bin")
    synthesis = read_graph(folder / "SynthesisNetwork.xml", folder / "SynthesisNetwork.bin")
    full = mobilestylegan.synthesis_from(synthesis).to(device)
    full.fast = not exact and fast_in_bf16(device)
    return mobilestylegan.mapping_from(mapping).to(device), full


def with_head(synthesis: mobilestylegan.Synthesis, size: int) -> mobilestylegan.Synthesis:
    """`synthesis`, which keeps its weights, cut short to `size` with the bundled head for it."""
    short = synthesis.shortened(size)
    zoo.load_into(short.head, HEADS[size]).to(synthesis.first.constant.device)
    return short.requires_grad_(False)


def load_mobilestylegan(size: int, device: torch.device | str, exact: bool) -> MobileGenerator:
    """MobileStyleGAN for pictures of `size` x `size`, one of 256, 512 and 1024.

    Raises:
        WeightError: its weights are missing or damaged.
    """
    mapping, full = load_networks(device, exact)
    smallest = MobileGenerator(mapping, with_head(full, min(HEADS)))
    if size == smallest.size:
        return smallest
    return MobileGenerator(mapping, with_head(full, size) if size in HEADS else full, coarse=smallest)


def load_stylegan2(weight: str, device: torch.device | str, exact: bool) -> StyleGAN2Generator:
    """The StyleGAN2 of a weight whose config holds the arguments of its constructor.

    Raises:
        WeightError: it is missing or damaged, or has other shapes than its config says.
    """
    with torch.device("meta"):  # its own random weights would only be thrown away
        network = stylegan2.Generator(**zoo.config(weight))
    zoo.load_into(network.to_empty(device="cpu"), weight)
    network.fast = not exact and fast_in_bf16(device)
    return StyleGAN2Generator(network.to(device).requires_grad_(False), weight)


def load_generator(
    size: int | None = 256, device: torch.device | str = "cpu", exact: bool = False, name: str = "auto"
) -> Generator:
    """The generator for pictures of `size` x `size`; `name` and `size` as in `chosen_generator`.

    On CPUs that compute in bfloat16 it does, twice as fast and good to more than 50 dB, unless `exact`.

    Raises:
        UsageError: no such generator, or none of this size.
        WeightError: its weights are missing or damaged.
    """
    found, side = chosen_generator(name, size)
    weight = GENERATORS[found].weight
    if weight == WEIGHT:
        return load_mobilestylegan(side, device, exact)
    return load_stylegan2(weight, device, exact)
