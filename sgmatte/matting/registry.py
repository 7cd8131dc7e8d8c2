"""Which matting models there are: sgmatte's own and those of other packages. Loading one is what takes time."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

GROUP = "sgmatte.matting_models"
"""Entry points by which a package adds models: functions of a torch device that return one, frozen. The first line of
their docstring is what `--model list` shows."""

OWN = {
    "gca": "networks:gca",
    "gca-plain": "networks:gca_plain",
    "alphagan": "networks:alphagan",
    "alphagan-plain": "networks:alphagan_plain",
    "gca-dist": "networks:gca_dist",
    "alphagan-public": "networks:alphagan_public",
    "closed-form": "classical:closed_form",
    "knn": "classical:knn",
}


def matting_models() -> dict[str, EntryPoint]:
    """All models by name; nobody replaces sgmatte's own."""
    own = [EntryPoint(name, f"{__package__}.{place}", GROUP) for name, place in OWN.items()]
    others = [entry for entry in sorted(entry_points(group=GROUP)) if entry.name not in OWN]
    return {entry.name: entry for entry in (*own, *others)}


def description(entry: EntryPoint) -> str:
    """The first line that a model's maker says about it."""
    try:
        lines = (entry.load().__doc__ or "").strip().splitlines()
    except (ImportError, AttributeError) as error:
        return f"cannot be imported: {error}"
    return lines[0] if lines else ""
