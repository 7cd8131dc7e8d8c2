"""Who is the person of a portrait: Robust Video Matting, adapted to portraits by small additions to its convolutions.

RVM has seen many people, mostly in films and as a whole. Its values stay as its authors left them; what portraits teach
is kept beside them: to each kernel a matrix of low rank is added (Hu et al., *LoRA*, ICLR 2022), to each bias a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.device import fast_in_bf16
from sgmatte.nn.rvm import RVM, rvm_model

WEIGHT = "person.portrait"
RANK = 16
SIDE, LOOKS = 448, 1  # longest side of what is seen, and how often it is looked at


class Adapter(nn.Module):
    """What is added to the convolutions of RVM, without its depthwise kernels and guided filter; untrained, nothing."""

    def __init__(self, rank: int = RANK) -> None:
        super().__init__()
        self.down, self.up, self.bias = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for name, module in RVM().named_modules():
            if not isinstance(module, nn.Conv2d) or name.startswith("refine"):
                continue
            key, outputs = name.replace(".", "/"), module.out_channels
            if module.groups == 1:
                inputs = module.weight[0].numel()
                self.down[key] = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
                self.up[key] = nn.Parameter(torch.zeros(outputs, rank))
            if module.bias is not None:
                self.bias[key] = nn.Parameter(torch.zeros(outputs))

    def weakened(self, strength: float) -> dict[str, Tensor]:
        """Its state with `strength` of what it adds; in [0, 1].

        Between what a network was and what it has become lies one that has most of what it learned, and has forgotten
        little (Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022, section 3).
        """
        state = self.state_dict()
        return {name: value if name.startswith("down") else strength * value for name, value in state.items()}

    def adapted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of RVM with what is added to it."""
        found = dict(state)
        for key, up in self.up.items():
            name = f"{key.replace('/', '.')}.weight"
            found[name] = state[name] + (up @ self.down[key]).view_as(state[name])
        for key, bias in self.bias.items():
            name = f"{key.replace('/', '.')}.bias"
            found[name] = state[name] + bias
        return found


class Person(nn.Module):
    """How likely each pixel is a person's.

    Args:
        rvm: adapted to portraits.
    """

    mattes = True  # what it answers is an alpha, and so tells where boundaries are

    def __init__(self, rvm: RVM) -> None:
        super().__init__()
        self.rvm = rvm

    @torch.no_grad()
    def person(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 1, h, w) in [0, 1], the longest side at most `SIDE`: the mean over picture
        and mirror image. In bfloat16 where that is fast.
        """
        scale = SIDE / max(image.shape[2:])
        if scale < 1:
            height, width = (max(1, round(length * scale)) for length in image.shape[2:])
            image = F.interpolate(image, (height, width), mode="bilinear", align_corners=False, antialias=True)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=fast_in_bf16(image.device)):
            both = self.rvm(torch.cat((image, image.flip(3))))
        plain, mirrored = both.chunk(2)
        return (plain + mirrored.flip(3)) / 2


def person_model(device: torch.device) -> Person:
    """`rvm.mobilenetv3`, adapted by `person.portrait`; frozen, in eval mode.

    Raises:
        WeightError: see `zoo.path`.
    """
    return Person(adapted_rvm(zoo.load_into(Adapter(), WEIGHT))).eval().requires_grad_(False).to(device)


def adapted_rvm(adapter: Adapter) -> RVM:
    """RVM with what `adapter` adds to it; see `person_model`."""
    rvm = rvm_model(torch.device("cpu"))
    with torch.no_grad():
        rvm.load_state_dict(adapter.adapted(rvm.state_dict()))
    rvm.side, rvm.looks = SIDE, LOOKS
    return rvm
