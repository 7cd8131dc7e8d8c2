"""The self-check of compiled operators, run once in each process that loads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sgmatte.ops import reference

if TYPE_CHECKING:
    from sgmatte.ops.native import Library


@torch.inference_mode(False)  # the first picture may well be drawn in that mode, where no gradient can be taken
def worst_disagreement(library: Library, device: str) -> float:
    """Largest difference from the reference on small inputs, in units of what the type can hold; 1 is agreement."""
    make = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make).to(device)

    x, kernel, other = random(2, 19, 9, 11), random(4, 3), torch.tensor([1.0, 3.0, 3.0, 1.0], device=device)
    bias, noise, strength, scale = random(19), random(2, 1, 9, 11), random(1), random(2, 19).abs() + 0.5
    coefficients, factors, image = random(2, 12, 5, 3), random(2, 12), random(2, 3, 10, 6)
    worst = 0.0
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for last in (False, True):
            order = torch.channels_last if last else torch.contiguous_format
            given, high, low = (t.to(dtype).contiguous(memory_format=order) for t in (x, coefficients, image))
            leaves: Any = [t.clone().requires_grad_() for t in (given, bias, noise, strength, scale)]
            with torch.enable_grad():
                y = reference.bias_act(*leaves)
                gradients = torch.autograd.grad(y, leaves, given)
            ours = library.bias_act(given, bias, noise, strength, scale, 0.2, math.sqrt(2))
            dx, channels, pixels = library.bias_act_backward(
                given, y.detach(), bias, noise, strength, scale, 0.2, math.sqrt(2), True, True
            )
            pairs = [
                (ours, y.detach()),
                (dx, gradients[0]),
                (channels[..., 0].sum(0), gradients[1]),
                (strength * pixels, gradients[2]),
                (channels[..., 1] / scale, gradients[4]),
            ]
            for taps, up, down, pad in (
                (torch.outer(other, other), (1, 1), (1, 1), (1, 2, 1, 2)),
                (torch.outer(other, other), (2, 2), (1, 1), (2, 1, 2, 1)),
                (kernel, (1, 2), (2, 1), (2, -1, -2, 3)),
            ):
                expected = reference.upfirdn2d(given.float(), taps, up, down, pad)
                pairs.append((library.upfirdn2d(given, taps, up, down, pad), expected))
            leaves = [high.float().requires_grad_(), factors.clone().requires_grad_()]
            with torch.enable_grad():
                y = reference.haar_synthesis(*leaves)
                gradients = torch.autograd.grad(y, leaves, low.float())
            ours = library.haar_synthesis(high, factors)
            dx, sums = library.haar_synthesis_backward(low, high, factors)
            pairs += [(ours, y.detach()), (dx, gradients[0]), (sums, gradients[1])]
            for found, expected in pairs:
                found, expected = found.float(), expected.float()
                far = ((found - expected).abs().max() / expected.abs().max() / tolerance).item()
                worst = max(worst, far) if far == far else math.inf
    return worst
