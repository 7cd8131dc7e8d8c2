"""The processes that train one network together, as `torchrun` starts them; usually a single one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Team:
    """This process's number among `size`; number 0 leads: it alone validates, writes and tells."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """For all others."""
        if self.size > 1:
            distributed.barrier()

    def shared(self, network: nn.Module) -> nn.Module:
        """`network` so that going backward averages its gradients over the team."""
        if self.size == 1:
            return network
        # Lessons leave parts of a network alone, whose gradients must not be waited for.
        return nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)


@contextmanager
def joined_team(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """The team that torchrun's environment variables speak of, and the device of this process; one GPU for each."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
