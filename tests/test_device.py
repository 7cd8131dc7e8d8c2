"""Choosing a device, and saying why."""

import os
import pickle
import subprocess
import sys

import pytest
import torch

from sgmatte.device import chosen_device, process_cores
from sgmatte.errors import UsageError


def test_auto_names_its_reason():
    device = chosen_device("auto")
    assert device.torch.type == device.name
    assert device.reason
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert device.name == "cpu"
        assert "threads" in device.reason


def test_what_is_asked_for_is_used_or_refused():
    assert chosen_device("cpu").name == "cpu"
    with pytest.raises(UsageError, match="choose one of auto, cpu, cuda, mps"):
        chosen_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device cpu"):
            chosen_device("cuda")


def test_process_has_cores():
    assert process_cores() >= 1


def test_numbers_next_to_nothing_are_nothing_wherever_a_device_is_used():
    torch.set_flush_denormal(False)
    device = pickle.loads(pickle.dumps(chosen_device("cpu")))  # as it comes to the processes of a batch
    assert float(torch.tensor(1e-30) * 1e-10) > 0
    assert device.torch.type == "cpu"
    assert float(torch.tensor(1e-30) * 1e-10) == 0


def test_pymatting_leaves_torch_its_threads():
    code = (
        "import numpy as np, torch; torch.set_num_threads(1); from sgmatte.foreground import foreground_colours as f;"
        "f(np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32)); print(torch.get_num_threads())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "1\n"
