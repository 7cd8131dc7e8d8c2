"""What this machine offers and what became of the compiled operators, as plain values for people and scripts."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from typing import Any

import torch

from sgmatte import __version__, zoo
from sgmatte.device import chosen_device, fast_in_bf16, process_cores
from sgmatte.ops import build, native
from sgmatte.readers import optional_readers


def health() -> dict[str, Any]:
    """Everything `sgmatte doctor` tells; building, loading and checking the operators is part of it.

    Raises:
        UsageError: SGMATTE_OPS is no known mode.
    """
    device, ninja = chosen_device(), build.ninja()
    return {
        "sgmatte": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": {"name": device.name, "reason": device.reason},
        "threads": torch.get_num_threads(),
        "cores": process_cores(),
        "bfloat16": "fast" if fast_in_bf16("cpu") else "slow",
        "tools": {
            "C++ compiler": _version(build.cxx()),
            "nvcc": _version(build.nvcc()),
            "ninja": _version((ninja,) if ninja else None),
        },
        "readers": optional_readers(),
        "mode": native.mode(),
        "operators": {name: _operators(name) for name in native.DEVICES},
        "cache": str(zoo.home()),
        "weights": {name: "present" if zoo.present(name) else "missing" for name in zoo.records()},
    }


def _operators(device: str) -> dict[str, Any]:
    state, mode = native.state(device), native.mode()
    compiled = state.library is not None and mode != "reference"
    return {
        "used": "compiled" if compiled else "plain torch",
        "reason": "SGMATTE_OPS=reference" if mode == "reference" else state.reason,
        "library": str(state.path) if state.path else None,
        "seconds": round(state.seconds, 3),
        "self_check": state.disagreement,
    }


def _version(command: Sequence[str] | None) -> str | None:
    """A command and the line of `--version` that holds it; None without a command."""
    if command is None:
        return None
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stdout.splitlines() if any(c.isdigit() for c in line)]
    told = [line for line in lines if "release" in line] or lines  # nvcc's first lines are about copyright
    return f"{' '.join(command)} ({told[0] if told else 'prints no version'})"
