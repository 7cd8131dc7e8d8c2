"""AlphaGAN's training: the losses, the command, and a team of processes."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sgmatte import zoo
from sgmatte.cli.app import app
from sgmatte.nn.alphagan import AlphaGAN, PatchDiscriminator
from sgmatte.train.alphagan import Match, Weights, losses
from sgmatte.train.composites import CompositeSampler, Foregrounds, training_backgrounds
from sgmatte.train.data import PortraitFolder, batches


@pytest.fixture
def sample(data):
    foregrounds = Foregrounds.of(PortraitFolder(data / "portraits"), data / "cache")
    sampler = CompositeSampler(foregrounds, training_backgrounds(data / "backgrounds"), 64, layers=True)
    return next(iter(batches(sampler, 0, 4, 0, 1)))


def test_layers_make_the_composite(data):
    foregrounds = Foregrounds.of(PortraitFolder(data / "portraits"), data / "cache")
    behind = training_backgrounds(data / "backgrounds")
    plain = CompositeSampler(foregrounds, behind, 64, untouched=0)
    layered = CompositeSampler(foregrounds, behind, 64, untouched=0, layers=True)
    for one, more in zip(batches(plain, 3, 8, 0, 1), batches(layered, 3, 8, 0, 1), strict=True):
        assert all(torch.equal(one[key], more[key]) for key in one)  # the layers change no random choice
        made = more["alpha"] * more["foreground"] + (1 - more["alpha"]) * more["background"]
        assert (made - more["image"]).abs().mean() < 0.05  # but for noise, blur and JPEG


def test_each_loss_reaches_only_the_one_that_it_is_for(sample):
    match = Match(AlphaGAN(0.125), PatchDiscriminator(0.125))
    found = losses(match, sample, Weights())
    assert set(found) == {"alpha", "composition", "gan", "discriminator"}

    def reached(name):
        match.zero_grad()
        found[name].backward(retain_graph=True)
        parts = (match.generator, match.discriminator)
        return [any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts]

    assert reached("alpha") == reached("composition") == reached("gan") == [True, False]
    assert reached("discriminator") == [False, True]


def test_losses_of_a_perfect_alpha_are_next_to_nothing(sample, monkeypatch):
    match = Match(AlphaGAN(0.125), None)
    monkeypatch.setattr(match, "generator", torch.nn.Identity())
    monkeypatch.setattr(Match, "forward", lambda self, image, trimap: sample["alpha"])
    found = losses(match, sample, Weights(1, 1, 0))
    assert set(found) == {"alpha", "composition"}
    assert all(0 < float(value) < 2e-6 for value in found.values())


def arguments(data, run, *more):
    return [
        *("train", "alphagan", "--data", str(data / "portraits"), "--backgrounds", str(data / "backgrounds")),
        *("--run", str(run), "--out", str(run / "g.safetensors"), "--discriminator-out", str(run / "d.safetensors")),
        *("--cache", str(data / "cache"), "--width", "0.125", "--size", "32", "--batch", "2", "--workers", "0"),
        *("--lr", "0.002", "--device", "cpu", *more),
    ]


def test_the_command_trains_resumes_and_shows(data):
    run = data / "run"
    result = CliRunner().invoke(app, arguments(data, run, "--steps", "30"))
    assert result.exit_code == 0, result.output
    generator = zoo.state(run / "g.safetensors")
    assert (run / "d.safetensors").exists()
    (row,) = csv.DictReader((run / "validation.csv").open())
    assert 0 < float(row["unknown_mse"]) < 0.5
    (logged,) = csv.DictReader((run / "log.csv").open())
    assert {"alpha", "composition", "gan", "discriminator"} < set(logged)
    assert Image.open(run / "curves.png").size > (300, 200)
    assert Image.open(run / "sheets" / "000030.png").size > (600, 600)
    assert CliRunner().invoke(app, arguments(data, run, "--steps", "30")).exit_code == 0  # nothing is left to do
    again = zoo.state(run / "g.safetensors")
    assert all(torch.equal(generator[key], again[key]) for key in generator)
    refused = CliRunner().invoke(app, arguments(data, run, "--steps", "31"))
    assert "another recipe" in str(refused.exception)


def test_without_its_gan_loss_there_is_no_discriminator(data):
    run = data / "run"
    result = CliRunner().invoke(app, arguments(data, run, "--steps", "2", "--gan-weight", "0", "--precision", "fp32"))
    assert result.exit_code == 0, result.output
    assert (run / "g.safetensors").exists()
    assert not (run / "d.safetensors").exists()


def test_the_command_takes_people_of_another_folder(data):
    run = data / "run"
    more = ("--extra", str(data / "portraits"), "--extra-weight", "0.5", "--gan-weight", "0", "--steps", "2")
    result = CliRunner().invoke(app, arguments(data, run, *more))
    assert result.exit_code == 0, result.output
    (cache,) = (data / "cache").glob("extra-*")
    assert len(list(cache.iterdir())) == 3
    assert CliRunner().invoke(app, arguments(data, run, "--extra-weight", "2")).exit_code == 2


def torchrun(*command):
    """Two processes that share a training."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([sys.executable, *launcher, *command], capture_output=True, text=True, timeout=300)


def test_two_processes_train_the_command(data):
    run = data / "run"
    done = torchrun("-m", "--", "sgmatte", *arguments(data, run, "--steps", "4"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert zoo.state(run / "g.safetensors").keys() == AlphaGAN(0.125).state_dict().keys()
    assert zoo.state(run / "d.safetensors").keys() == PatchDiscriminator(0.125).state_dict().keys()
    (row,) = csv.DictReader((run / "log.csv").open())  # one of the two writes
    assert int(row["step"]) == 4


TOGETHER = """
import sys, torch
from pathlib import Path
from sgmatte.train.loop import Recipe, fit
from sgmatte.train.team import joined_team
sys.path.insert(0, {tests!r})
from test_loop import line_sampler, squared_error
with joined_team(torch.device("cpu")) as (team, device):
    torch.manual_seed(0)
    recipe = Recipe(20, 8 // team.size, 0.05, warmup=5, workers=0, bf16=False, log_every=10, checkpoint_every=10)
    trained = fit(torch.nn.Linear(4, 1), line_sampler, squared_error, recipe, Path({run!r}), team=team)
    if team.leads:
        torch.save(trained.state_dict(), {out!r})
"""


def test_two_processes_learn_what_one_does_from_the_same_samples(tmp_path):
    found = []
    for name, start in (
        ("one", lambda script: subprocess.run([sys.executable, script], check=True)),
        ("two", torchrun),
    ):
        script, out = tmp_path / f"{name}.py", tmp_path / f"{name}.pt"
        script.write_text(TOGETHER.format(tests=str(Path(__file__).parent), run=str(tmp_path / name), out=str(out)))
        start(str(script))
        found.append(torch.load(out, weights_only=True))
    for key in found[0]:
        torch.testing.assert_close(found[0][key], found[1][key])
