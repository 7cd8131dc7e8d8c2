"""Everything the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console

errors = Console(stderr=True, highlight=False)


def error_line(message: str) -> None:
    """One line on stderr; the message is data, so no markup is read from it."""
    errors.print(f"error: {message}", style="red", markup=False, soft_wrap=True)


def training_lines() -> Callable[[int, int, Mapping[str, float]], None]:
    """An observer for `train.loop.fit` that prints a line per logged row, with the time that is left."""

    def observe(step: int, steps: int, row: Mapping[str, float]) -> None:
        seconds = row.get("seconds_per_step")
        left = f"  {(steps - step) * seconds / 60:.0f} min left" if seconds else ""
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
        errors.print(f"step {step}/{steps}  {values}{left}", markup=False, soft_wrap=True)

    return observe
