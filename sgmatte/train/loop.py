"""The training loop of every `sgmatte train` command: seeded, resumable, logged, with an averaged model at the end.

Several processes may run it together (train/team.py): each sees samples of its own, one writes.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sgmatte import zoo
from sgmatte.checkpoint import checkpoint
from sgmatte.errors import DataError
from sgmatte.train.curves import write_curves
from sgmatte.train.data import Sample, Sampler, batches
from sgmatte.train.team import Team
from sgmatte.writers import write_image

Losses = Callable[[nn.Module, Sample], Mapping[str, Tensor]]
Validate = Callable[[nn.Module], Mapping[str, float]]
Sheet = Callable[[nn.Module], np.ndarray]
Observe = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Everything that decides the result is here or in the sampler."""

    steps: int
    batch: int  # of each process
    lr: float
    warmup: int = 200
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8  # of Adam; far below any gradient it should be
    clip: float = 1.0  # gradient norm; composites with an empty unknown band otherwise give rare, huge steps
    ema: float = 0.998  # averages ~500 steps: small data needs it more than a low final learning rate
    bf16: bool = True  # autocast; twice the convolution speed on CPUs with AVX-512 bf16
    seed: int = 0
    workers: int = 1
    log_every: int = 50
    checkpoint_every: int = 250
    validate_every: int = 1000


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The exponential moving average of weights, whose window grows with the steps taken until `decay` is reached.

    With a constant decay the first weights keep a share of decay^n, which in a short run outweighs all it learned.
    """

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)  # counters of batch norms

    return update


def begin_at(network: nn.Module, start: Path) -> None:
    """Fill `network` with the last weights, not their average, of the run in folder `start`, or with those of a file.

    Raises:
        WeightError: `start` holds no checkpoint, or one of another network.
    """
    state = _model_state(start / "checkpoint.pt") if start.is_dir() else zoo.state(start)
    zoo.check_fit(f"{start} does not fit {type(network).__name__}", state, network.state_dict())
    network.load_state_dict(state)


def _model_state(file: Path) -> dict[str, Tensor]:
    content = checkpoint(file)
    return zoo.float_state(content.get("model") if isinstance(content, dict) else None, f"{file}: its model")


class _Taught(nn.Module):
    """A model with its losses: what processes share must be called as one module."""

    def __init__(self, model: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, sample: Sample) -> Mapping[str, Tensor]:
        return self.losses(self.model, sample)


def fit(
    model: nn.Module,
    sampler: Sampler,
    losses: Losses,
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device | None = None,
    team: Team = Team(),  # noqa: B008, it is frozen
    validate: Validate | None = None,
    sheet: Sheet | None = None,
    observe: Observe | None = None,
) -> nn.Module:
    """Train `model` and return its exponential moving average in eval mode.

    `losses` returns named scalars; their sum is minimised, so weights belong inside. `folder` receives checkpoint.pt,
    recipe.json, log.csv, validation.csv, curves.png and, where `sheet` makes a picture of what the network can do by
    now, sheets/STEP.png. If it holds a checkpoint, training goes on from there and sees exactly the batches that an
    unbroken run would have seen.

    Raises:
        DataError: `folder` holds a checkpoint of another recipe.
    """
    device = device or torch.device("cpu")
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to(device)
    for parameter in model.parameters():
        if parameter.ndim == 4:  # convolutions; Module.to would refuse the 5-dimensional ones of StyleGAN2
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=moving_average(recipe.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad),
        lr=recipe.lr,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        fused=True,  # half the time of an update; a step of a small batch is a tenth faster for it
    )
    first_step = _resume(folder, recipe, model, average, optimizer)
    team.wait()  # before the one that leads writes a checkpoint that others would take for where they are
    taught = team.shared(_Taught(model, losses))
    records = _Records(folder, recipe, first_step, observe) if team.leads else None
    loader = batches(sampler, recipe.seed, recipe.batch, first_step, recipe.steps, workers=recipe.workers, team=team)
    model.train()
    for step, batch in enumerate(loader, start=first_step):
        # Dropout and the like depend on the step, not on the history.
        torch.manual_seed((recipe.seed * 1_000_003 + step) * team.size + team.rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        batch = {
            key: value.to(device, memory_format=torch.channels_last) if value.ndim == 4 else value.to(device)
            for key, value in batch.items()
        }
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
            terms = taught(batch)
            total = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        average.update_parameters(model)

        if records is None:
            continue
        done = step + 1
        records.log(done, terms)
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            _save(folder, recipe, done, model, average, optimizer)
        if done % recipe.validate_every == 0 or done == recipe.steps:
            records.judge(done, average.module, validate, sheet)
    team.wait()
    return average.module.eval()


class _Records:
    """What a training tells while it runs: tables, curves, sheets, and an observer."""

    def __init__(self, folder: Path, recipe: Recipe, first_step: int, observe: Observe | None) -> None:
        self.folder, self.recipe, self.observe = folder, recipe, observe
        self.rows, self.validation = (Table(folder / f"{name}.csv", first_step) for name in ("log", "validation"))
        self.sums: dict[str, float] = {}
        self.started = time.monotonic()

    def log(self, done: int, terms: Mapping[str, Tensor]) -> None:
        """Count a step; its terms enter the mean of the row that is due next."""
        for key, value in terms.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value.detach())
        if done % self.recipe.log_every and done != self.recipe.steps:
            return
        count = (done - 1) % self.recipe.log_every + 1
        row = {key: value / count for key, value in self.sums.items()}
        self._told(self.rows, done, {**row, "seconds_per_step": (time.monotonic() - self.started) / count})
        self.sums, self.started = {}, time.monotonic()

    def judge(self, done: int, averaged: nn.Module, validate: Validate | None, sheet: Sheet | None) -> None:
        """Measure and show the averaged network."""
        averaged.eval()
        with torch.inference_mode():
            if validate:
                self._told(self.validation, done, validate(averaged))
            if sheet:
                write_image(self.folder / "sheets" / f"{done:06d}.png", sheet(averaged))
        averaged.train()
        write_curves(self.folder)
        self.started = time.monotonic()

    def _told(self, table: Table, done: int, row: Mapping[str, float]) -> None:
        table.append(done, row)
        if self.observe:
            self.observe(done, self.recipe.steps, row)


def _save(
    folder: Path, recipe: Recipe, step: int, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    partial = folder / "checkpoint.pt.part"
    torch.save(
        {
            "step": step,
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        partial,
    )
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    os.replace(partial, folder / "checkpoint.pt")


def _resume(
    folder: Path, recipe: Recipe, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Restore the last checkpoint and return the step to go on with; 0 where there is none."""
    last = folder / "checkpoint.pt"
    if not last.exists():
        return 0
    before = json.loads((folder / "recipe.json").read_text())
    decides = ("steps", "batch", "lr", "seed")  # a longer log interval is no reason to refuse
    now = asdict(recipe)
    changed = [f"{key} {before[key]} -> {now[key]}" for key in decides if before[key] != now[key]]
    if changed:
        raise DataError(f"{last} comes from another recipe ({', '.join(changed)}); choose an empty folder")
    state = checkpoint(last)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


class Table:
    """A CSV of (step, values) that grows a row at a time; rows past a resumed checkpoint are dropped."""

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first_step]
            path.unlink()
            for row in rows:
                self.append(int(row.pop("step")), {key: float(value) for key, value in row.items()})

    def append(self, step: int, values: Mapping[str, float]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
