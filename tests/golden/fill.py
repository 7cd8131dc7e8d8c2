"""Deterministic weights for parity tests: the same numbers on every machine, nothing to download.

fill(shapes, family) returns a float32 array for every checkpoint key. The golden outputs beside this file were
computed with these weights by the original implementations of each network, so a network that loads them under the
official key names and reproduces the outputs will also load the official checkpoint.
"""

import json
import math
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def shapes(name):
    """Key -> shape of an official checkpoint: stylegan2_g_64, stylegan2_d_64, gca, deeplab, alphagan_g, alphagan_d."""
    return {k: tuple(v) for k, v in json.loads((HERE / "shapes" / f"{name}.json").read_text()).items()}


def fill(shapes, family, seed=0):
    """family: 'equalized' (StyleGAN2) or 'plain' (the others). Fixed buffers (blur kernels) are left out."""
    out = {}
    for j, key in enumerate(sorted(shapes)):
        shape = shapes[key]
        if key.endswith(".kernel"):
            continue
        n = int(np.prod(shape)) if shape else 1
        x = np.random.RandomState(seed * 100003 + j).standard_normal(n).reshape(shape or (1,))
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "num_batches_tracked":
            x = np.zeros(shape)
        elif leaf == "running_var":
            x = 1 + 0.25 * np.abs(x)
        elif leaf == "running_mean":
            x = 0.1 * x
        elif leaf == "bias":
            x = (1 if key.endswith("modulation.bias") else 0) + 0.1 * x
        elif leaf in ("weight_u", "weight_v"):
            continue  # below, from weight_bar
        elif len(shape) == 1 and leaf == "weight":
            x = 0.1 * x if key.endswith("noise.weight") else 1 + 0.1 * x
        elif leaf in ("weight", "weight_bar") and family == "plain":
            x = x * math.sqrt(2 / np.prod(shape[1:]))
        elif leaf == "weight" and key.startswith("style."):
            x = x * 100  # the mapping layers have a learning-rate multiplier of 0.01
        out[key] = x.astype(np.float32)
    for key in [k for k in shapes if k.endswith("weight_u")]:
        w = out[key[:-2] + "_bar"].astype(np.float64)
        w = w.reshape(w.shape[0], -1)
        u = np.ones(w.shape[0]) / math.sqrt(w.shape[0])
        for _ in range(50):
            v = w.T @ u
            v /= np.linalg.norm(v)
            u = w @ v
            u /= np.linalg.norm(u)
        out[key] = u.astype(np.float32)
        out[key[:-2] + "_v"] = v.astype(np.float32)
    return out
