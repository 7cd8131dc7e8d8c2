"""The benchmarks of operators and generator: the two formulations are the same function, and every figure is there."""

from __future__ import annotations

import torch

from sgmatte.bench.generator import VARIANTS, Step, Usual, share_in_convolutions
from sgmatte.bench.ops import timings
from sgmatte.nn.stylegan2 import Generator


def test_usual_formulation_is_the_same_function():
    usual, ours, fast = (Step(32, 1, variant, batch=2)() for variant in VARIANTS)
    assert len(usual) == 2 + 7  # picture, W+, noise maps of 4, 8, 8, 16, 16, 32, 32 pixels
    for found, expected in zip(ours, usual, strict=True):
        assert (found - expected).norm() < 1e-3 * expected.norm()
    assert (fast[0] - usual[0]).norm() < 0.02 * usual[0].norm()
    assert usual[-1].norm() > 0


def test_usual_formulation_keeps_the_parameters():
    generator = Generator(16, 1)
    assert {id(p) for p in Usual(generator).parameters()} == {id(p) for p in generator.parameters()}


def test_share_in_convolutions():
    assert 0 < share_in_convolutions(Step(16, 1, "usual")) < 1


def test_operators_are_timed_in_all_their_forms():
    rows = list(timings(16, 4, torch.device("cpu"), tries=1))
    assert len(rows) == 2 * 2 * 8
    assert len({(row.name, row.dtype, row.order) for row in rows}) == len(rows)
    assert all(row.compiled > 0 and row.ratio == row.reference / row.compiled for row in rows)
