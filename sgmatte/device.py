"""Which device computes, and why."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgmatte.errors import UsageError

if TYPE_CHECKING:
    import torch

CHOICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Device:
    """A torch device name and the reason it was chosen, in words for the user."""

    name: str
    reason: str

    @property
    def torch(self) -> torch.device:
        """torch's device. The first to ask for it in a process sets torch up there, so ask before computing."""
        import torch

        # Attention leaves numbers too small for float32's full precision, which cost Intel's CPUs many times the time.
        # Threads that torch starts later do as this one does.
        torch.set_flush_denormal(True)
        return torch.device(self.name)


def chosen_device(choice: str = "auto") -> Device:
    """The device for `--device`; torch is imported where it is needed to tell.

    Raises:
        UsageError: `choice` is unknown, or names a device that this machine or this build of torch lacks.
    """
    if choice not in CHOICES:
        raise UsageError(f"unknown device '{choice}'; choose one of {', '.join(CHOICES)}")
    if choice == "cpu":
        return Device("cpu", "asked for")

    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if choice == "auto":
        for name, present in available.items():
            if present:
                return Device(name, f"{name} is available")
        return Device("cpu", f"no GPU found, {torch.get_num_threads()} threads")
    if not available[choice]:
        raise UsageError(f"device '{choice}' is not available here; use --device cpu, or install a torch build for it")
    return Device(choice, "asked for")


def fast_in_bf16(device: torch.device | str) -> bool:
    """Whether bfloat16 convolutions are twice as fast as float32 ones there: CPUs with AVX-512 bf16."""
    import torch

    return torch.device(device).type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def pymatting() -> Any:
    """PyMatting, a library that compiles on import, so only for those who need it.

    Its Numba is held to the threads that torch has: left alone it gives torch as many as there are cores, in the middle
    of a batch.
    """
    import torch

    os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))
    import pymatting

    return pymatting


def process_cores() -> int:
    """Cores this process may run on (containers and `taskset` count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> int | None:
    """Largest resident memory of this process so far, in 10^6 bytes; None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
