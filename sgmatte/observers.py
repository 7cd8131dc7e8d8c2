"""Who is told how far work on a photo is."""

from __future__ import annotations

from collections.abc import Callable

Observe = Callable[[str, int, int], None]
"""Called as (stage, done, total) while something long is going on."""


def silent(stage: str, done: int, total: int) -> None:
    """An observer for those who do not watch."""
