"""The operators alone: the shapes in which the generators use them, compiled and in plain torch by turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sgmatte.ops import bias_act, haar_synthesis, native, reference, upfirdn2d

Work = Callable[[], object]
ORDERS = ("contiguous", "channels_last")
FILTERS: tuple[Callable[..., Tensor], ...] = (upfirdn2d, reference.upfirdn2d)
ACTIVATIONS: tuple[Callable[..., Tensor], ...] = (bias_act, reference.bias_act)
WAVELETS: tuple[Callable[..., Tensor], ...] = (haar_synthesis, reference.haar_synthesis)


@dataclass(frozen=True)
class Timing:
    """Milliseconds, the shortest of several tries each."""

    name: str
    dtype: str
    order: str  # one of ORDERS
    compiled: float
    reference: float

    @property
    def ratio(self) -> float:
        return self.reference / self.compiled


def by_turns(works: Sequence[Work], tries: int) -> list[float]:
    """Shortest time of each, in seconds, after one try that does not count."""
    best = [float("inf")] * len(works)
    for turn in range(tries + 1):
        for k, work in enumerate(works):
            started = time.perf_counter()
            work()
            if turn:
                best[k] = min(best[k], time.perf_counter() - started)
    return best


def timings(size: int, channels: int, device: torch.device, tries: int = 5) -> Iterator[Timing]:
    """Of one sample with `channels` at `size` x `size`, for both types and memory formats.

    Raises:
        OperatorError: SGMATTE_OPS=require, and there are no compiled operators.
    """
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device)
    blur = torch.outer(taps, taps) / 64
    for dtype in native.TYPES:
        for last in (False, True):
            make = torch.Generator().manual_seed(0)

            def random(*shape: int, make: torch.Generator = make) -> Tensor:
                return torch.randn(*shape, generator=make).to(device)

            order = native.memory_format(last)
            x, rgb = (random(1, c, size, size).to(dtype).contiguous(memory_format=order) for c in (channels, 3))
            halves = random(1, 4 * channels, size // 2, size // 2).to(dtype).contiguous(memory_format=order)
            given, styles = (
                [random(channels), random(1, 1, size, size), random(1), random(1, channels).exp()],
                random(1, 4 * channels),
            )
            cases: dict[str, list[Work]] = {
                "blur": [partial(fir, x, blur, pad=(2, 1)) for fir in FILTERS],
                "blur, both ways": [_both_ways(partial(fir, kernel=blur, pad=(2, 1)), [x]) for fir in FILTERS],
                "RGB doubled": [partial(fir, rgb, blur, up=2, pad=(2, 1)) for fir in FILTERS],
                "halved": [partial(fir, x, blur, down=2, pad=(1, 1)) for fir in FILTERS],
                "activation": [partial(act, x, *given) for act in ACTIVATIONS],
                "activation, both ways": [_both_ways(act, [x, *given]) for act in ACTIVATIONS],
                "wavelet": [partial(wavelet, halves, styles) for wavelet in WAVELETS],
                "wavelet, both ways": [_both_ways(wavelet, [halves, styles]) for wavelet in WAVELETS],
            }
            for name, works in cases.items():
                compiled, plain = by_turns([_finished(work, device) for work in works], tries)
                kind = str(dtype).removeprefix("torch.")
                yield Timing(name, kind, ORDERS[last], compiled * 1e3, plain * 1e3)


def _both_ways(act: Callable[..., Tensor], inputs: list[Tensor]) -> Work:
    leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in inputs]
    return lambda: torch.autograd.grad((y := act(*leaves)), leaves, y.detach())


def _finished(work: Work, device: torch.device) -> Work:
    def done() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return done
