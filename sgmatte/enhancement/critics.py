"""Who judges composites in the adversarial term: sgmatte's own critic, or the discriminator of an AlphaGAN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sgmatte import zoo
from sgmatte.errors import UsageError
from sgmatte.nn.alphagan import PatchDiscriminator
from sgmatte.nn.critic import critic_model
from sgmatte.tensorfile import stored_width

Judge = Callable[[Tensor, Tensor], Tensor]
"""Composite (1, 3, H, W) in [0, 1] and trimap (1, 1, H, W) -> logits (1, 1, h, w), positive where it looks right."""

OWN = "composite"


def chosen_critic(choice: str, device: torch.device) -> Judge:
    """The critic that `--critic` means, frozen: sgmatte's "composite", or a file that `sgmatte train alphagan` wrote
    for its discriminator.

    Raises:
        UsageError: `choice` is neither.
        WeightError: its weights are missing, damaged, or another network's.
    """
    if choice == OWN:
        critic = critic_model(device)
        return lambda composite, trimap: critic(composite)
    file = Path(choice)
    if not file.is_file():
        raise UsageError(f"--critic is '{OWN}' or a discriminator's file from `sgmatte train alphagan`, not '{choice}'")
    state, width = zoo.state(file), stored_width(file, "a discriminator that `sgmatte train alphagan` wrote")
    discriminator = PatchDiscriminator(width)
    zoo.check_fit(f"{file} does not fit {PatchDiscriminator.__name__}", state, discriminator.state_dict())
    discriminator.load_state_dict(state)
    discriminator = discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return discriminator.requires_grad_(False).eval()
