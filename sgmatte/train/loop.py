"""The training loop of every `sgmatte train` command: seeded, resumable, logged, with an averaged model at the end."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sgmatte.errors import DataError
from sgmatte.train.data import Sample, Sampler, batches

Losses = Callable[[nn.Module, Sample], Mapping[str, Tensor]]
Validate = Callable[[nn.Module], Mapping[str, float]]
Observe = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Everything that decides the result is here or in the sampler."""

    steps: int
    batch: int
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


def fit(
    model: nn.Module,
    sampler: Sampler,
    losses: Losses,
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device | None = None,
    validate: Validate | None = None,
    observe: Observe | None = None,
) -> nn.Module:
    """Train `model` and return its exponential moving average in eval mode.

    `losses` returns named scalars; their sum is minimised, so weights belong inside. `folder` receives checkpoint.pt,
    recipe.json, log.csv and validation.csv. If it holds a checkpoint, training goes on from there and sees exactly the
    batches that an unbroken run would have seen.

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
    log, validation = Table(folder / "log.csv", first_step), Table(folder / "validation.csv", first_step)
    loader = batches(
        sampler,
        seed=recipe.seed,
        batch=recipe.batch,
        first_step=first_step,
        steps=recipe.steps,
        workers=recipe.workers,
    )
    sums: dict[str, float] = {}
    started = time.monotonic()
    model.train()
    for step, batch in enumerate(loader, start=first_step):
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout and the like depend on the step, not on the history
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        batch = {
            key: value.to(device, memory_format=torch.channels_last) if value.ndim == 4 else value.to(device)
            for key, value in batch.items()
        }
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
            terms = losses(model, batch)
            total = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        average.update_parameters(model)

        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        done = step + 1
        if done % recipe.log_every == 0 or done == recipe.steps:
            count = (done - 1) % recipe.log_every + 1
            row = {key: value / count for key, value in sums.items()}
            row["seconds_per_step"] = (time.monotonic() - started) / count
            log.append(done, row)
            if observe:
                observe(done, recipe.steps, row)
            sums, started = {}, time.monotonic()
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            _save(folder, recipe, done, model, average, optimizer)
        if validate and (done % recipe.validate_every == 0 or done == recipe.steps):
            averaged = average.module.eval()
            with torch.inference_mode():
                row = dict(validate(averaged))
            averaged.train()
            validation.append(done, row)
            if observe:
                observe(done, recipe.steps, row)
            started = time.monotonic()
    return average.module.eval()


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
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        return 0
    before = json.loads((folder / "recipe.json").read_text())
    decides = ("steps", "batch", "lr", "seed")  # a longer log interval is no reason to refuse
    now = asdict(recipe)
    changed = [f"{key} {before[key]} -> {now[key]}" for key in decides if before[key] != now[key]]
    if changed:
        raise DataError(f"{checkpoint} comes from another recipe ({', '.join(changed)}); choose an empty folder")
    state = torch.load(checkpoint, weights_only=True)
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
