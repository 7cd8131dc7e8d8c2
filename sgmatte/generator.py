"""The face generator behind one small interface, so that what inverts and enhances need not know which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sgmatte import zoo
from sgmatte.errors import UsageError
from sgmatte.nn import mobilestylegan
from sgmatte.nn.openvino_ir import read_graph

WEIGHT = "mobilestylegan.ffhq-1024"
HEADS = {256: "mobilestylegan-head.256", 512: "mobilestylegan-head.512"}
SIZES = (256, 512, 1024)


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
        random = torch.Generator().manual_seed(seed)
        device = self.networks[1].first.constant.device
        with torch.inference_mode():
            z = torch.randn(count, self.config.latent, generator=random)
            return self.mapping(z.to(device)).mean(0, keepdim=True).clone()

    def default_noise(self) -> list[Tensor]:
        return [noise.clone() for noise in self.networks[1].noise]


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
    full.fast = not exact and torch.device(device).type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return mobilestylegan.mapping_from(mapping).to(device), full


def load_generator(size: int = 256, device: torch.device | str = "cpu", exact: bool = False) -> MobileGenerator:
    """The generator for pictures of `size` x `size`.

    On CPUs that compute in bfloat16 it does, twice as fast and good to more than 50 dB, unless `exact`.

    Raises:
        UsageError: no such size.
        WeightError: its weights are missing or damaged.
    """
    if size not in SIZES:
        raise UsageError(f"there is no generator of size {size}; choose one of {', '.join(map(str, SIZES))}")
    mapping, full = load_networks(device, exact)
    smallest = MobileGenerator(mapping, with_head(full, SIZES[0]))
    if size == SIZES[0]:
        return smallest
    return MobileGenerator(mapping, with_head(full, size) if size in HEADS else full, coarse=smallest)


def with_head(synthesis: mobilestylegan.Synthesis, size: int) -> mobilestylegan.Synthesis:
    """`synthesis`, which keeps its weights, cut short to `size` with the bundled head for it."""
    short = synthesis.shortened(size)
    zoo.load_into(short.head, HEADS[size]).to(synthesis.first.constant.device)
    return short.requires_grad_(False)
