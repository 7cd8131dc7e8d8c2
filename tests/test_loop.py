"""The training loop: what is resumed equals what was never interrupted."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from sgmatte import zoo
from sgmatte.errors import DataError, WeightError
from sgmatte.train.loop import Recipe, begin_at, fit, learning_rate, moving_average


def line_sampler(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(rng.standard_normal(4).astype(np.float32))
    return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 3.0, 0.5]).unsqueeze(1)}


def squared_error(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"mse": (model(batch["x"]) - batch["y"]).square().mean()}


def recipe(**changes: object) -> Recipe:
    values = {"steps": 60, "batch": 8, "lr": 0.05, "warmup": 5, "workers": 0, "bf16": False, "checkpoint_every": 20}
    return Recipe(**{**values, "log_every": 10, "validate_every": 30, **changes})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))


class StopHereError(Exception):
    pass


def test_resumed_training_ends_like_an_unbroken_one(tmp_path):
    whole = fit(network(), line_sampler, squared_error, recipe(), tmp_path / "whole")

    def stop_at_50(step: int, steps: int, row: dict[str, float]) -> None:
        if step == 50:
            raise StopHereError

    with pytest.raises(StopHereError):
        fit(network(), line_sampler, squared_error, recipe(), tmp_path / "broken", observe=stop_at_50)
    resumed = fit(network(), line_sampler, squared_error, recipe(), tmp_path / "broken")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    rows = list(csv.DictReader((tmp_path / "broken" / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40, 50, 60]


def test_training_learns_and_validates(tmp_path):
    def validate(model: nn.Module) -> dict[str, float]:
        assert not model.training
        return {"weight": float(next(model.parameters()).abs().mean())}

    fit(network(), line_sampler, squared_error, recipe(steps=300, ema=0.9), tmp_path, validate=validate)
    log = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert float(log[-1]["mse"]) < 0.2 * float(log[0]["mse"])
    assert len(list(csv.DictReader((tmp_path / "validation.csv").open()))) == 10


def test_checkpoint_of_another_recipe_is_refused(tmp_path):
    fit(network(), line_sampler, squared_error, recipe(), tmp_path)
    with pytest.raises(DataError, match=r"lr 0\.05 -> 0\.01"):
        fit(network(), line_sampler, squared_error, recipe(lr=0.01), tmp_path)


def test_learning_rate_warms_up_and_ends_at_zero():
    plan = recipe(steps=100, warmup=10, lr=1.0)
    assert learning_rate(0, plan) == pytest.approx(0.1)
    assert learning_rate(9, plan) == pytest.approx(1.0)
    assert learning_rate(100, plan) == pytest.approx(0.0, abs=1e-12)


def test_first_weights_do_not_linger_in_the_average():
    average, counter = torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    update = moving_average(0.999)
    for step in range(1, 101):
        update([average], [torch.ones(1)], step)
        update([counter], [torch.full((1,), step)], step)
    assert average.item() > 0.99  # a constant decay would have reached 0.095
    assert counter.item() == 100


def test_training_begins_where_a_run_or_a_weight_file_ended(tmp_path):
    fit(network(), line_sampler, squared_error, recipe(steps=20), tmp_path / "run")
    last = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["model"]
    zoo.save_weights(tmp_path / "last.safetensors", last)
    for start in (tmp_path / "run", tmp_path / "last.safetensors"):
        begun = network()
        begin_at(begun, start)
        for key, value in begun.state_dict().items():
            torch.testing.assert_close(value, last[key], rtol=1e-3, atol=1e-4)  # files hold half precision
    with pytest.raises(WeightError, match=r"last\.safetensors does not fit Linear"):
        begin_at(nn.Linear(4, 8), tmp_path / "last.safetensors")
    for nothing, named in ((tmp_path, r"checkpoint\.pt"), (tmp_path / "none.safetensors", r"none\.safetensors")):
        with pytest.raises(WeightError, match=named):
            begin_at(network(), nothing)
