"""Where a report lies; imports nothing, since commands ask before they compute."""

from __future__ import annotations

from pathlib import Path

from sgmatte.errors import UsageError

SUFFIXES = (".html", ".htm")


def check_report(path: Path) -> None:
    """Raises UsageError where `path` cannot name a page."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a report is a page; let its name end in .html")


def files_folder(page: Path) -> Path:
    """The folder of the small pictures that a page shows: <stem>_files beside it, as browsers name it too."""
    return page.with_name(f"{page.stem}_files")
