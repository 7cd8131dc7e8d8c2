"""How a report of many photos feels: seconds until it is painted, and until a filter or a slider answers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sgmatte.errors import DataError
from sgmatte.report.page import write_report
from sgmatte.report.records import Record
from sgmatte.trimaps import Confidence

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# The browser is to draw a file and nothing else: no update, no first-run pages, no network.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEWPORT: ViewportSize = {"width": 1440, "height": 900}
DRAWN = 24  # different photos; beyond that they come again under other names
FAILING = 60  # one in so many photos is none
# Milliseconds from an action to the frame that shows it.
FRAME = """act => new Promise(done => {
  const start = performance.now();
  act();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
DRAWN_IN_VIEW = """[...document.querySelectorAll('.card img')].every(
  img => img.complete || img.getBoundingClientRect().top > innerHeight
)"""
INPUT = "const input = document.querySelector('{}'); input.value = {}; input.dispatchEvent(new Event('input'))"


@dataclass(frozen=True)
class ReportFigures:
    """Of one report in one browser; times in seconds."""

    photos: int
    bytes: int  # of the page itself
    pictures_bytes: int  # beside it
    written: float  # to write the page with all previews
    again: float  # to write it once more
    first_paint: float
    usable: float  # until all cards are there and listen
    processor: float  # time of the browser's processes until then, which other programs do not lengthen
    pictures: float  # until all pictures of the first screen are drawn
    filtered: float  # from a click on a filter to the frame that shows it, the longest of all tried
    slid: float  # from a step of a slider to its frame, the longest


def drawn_run(folder: Path, count: int, seed: int = 0, scale: float = 1) -> list[Record]:
    """Photos of people who are ellipses, with alpha, cut-out and trimap, as files in `folder`; one in `FAILING` failed.

    They are some 800 pixels high, times `scale`. Confidences and seconds are drawn too.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    suffixes = {"photo": ".jpg", "alpha": ".png", "cutout": ".png", "trimap": ".png"}
    for k in range(min(count, DRAWN)):
        height, width = ((800, 600), (600, 800), (800, 800), (800, 533))[k % 4 if k % 3 else 0]
        pictures = _drawn(round(height * scale), round(width * scale), rng)
        for (kind, suffix), picture in zip(suffixes.items(), pictures, strict=True):
            Image.fromarray(picture).save(folder / f"drawn_{k}_{kind}{suffix}", quality=92)
    records = []
    for k in range(count):
        mine = {kind: folder / f"{k + 1:04}_{kind}{suffix}" for kind, suffix in suffixes.items()}
        if k % FAILING == FAILING - 1:
            records.append(Record(mine["photo"], error=f"{mine['photo']}: no such file"))
            continue
        for kind, suffix in suffixes.items():
            shutil.copyfile(folder / f"drawn_{k % DRAWN}_{kind}{suffix}", mine[kind])
        photo, unknown = mine.pop("photo"), float(rng.beta(3, 20))
        sure = Confidence(0.6 * (1 - unknown), unknown, 0.4 * (1 - unknown), float(rng.gamma(4, 0.03)))
        records.append(Record(photo, mine, confidence=sure, seconds=float(rng.gamma(9, 0.1))))
    return records


def _drawn(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Photo, alpha, cut-out and trimap, uint8."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle, shoulder = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.95, 1.1)
    radius = 0.2 * min(height, width)
    head = radius - np.hypot(x - middle, (y - 0.38 * height) * 0.8)
    body = 0.34 * height - np.hypot((x - middle) * 0.8, y - shoulder)
    ruffled = np.maximum(head, body) + 3 * np.sin(x / 3) * np.sin(y / 5)
    alpha = np.clip(ruffled / 8 + 0.5, 0, 1)[..., None]
    wall = np.stack([0.5 + 0.3 * np.sin(x / rng.uniform(40, 200) + c + y / 170) for c in rng.uniform(0, 6, 3)], -1)
    person = np.where((head > body)[..., None], rng.uniform(0.45, 0.9, 3), rng.uniform(0.1, 0.7, 3))
    person = person * (0.75 + 0.25 * np.cos((x - middle) / radius))[..., None]
    photo = alpha * person + (1 - alpha) * wall + rng.normal(0, 0.01, (height, width, 1))
    levels = [np.clip(255 * values, 0, 255).astype(np.uint8) for values in (photo, alpha, person)]
    trimap = np.where(np.abs(ruffled) < 12, 128, np.where(ruffled > 0, 255, 0)).astype(np.uint8)
    return levels[0], levels[1][..., 0], np.concatenate((levels[2], levels[1]), -1), trimap


def chromium(given: Path | None = None) -> Path:
    """A Chromium to drive: the one given, or one of `NAMES` on the path.

    Raises:
        DataError: there is none, or no Playwright to drive it.
    """
    found = str(given) if given else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None or not os.access(found, os.X_OK):
        raise DataError(f"{given or 'chromium'}: no such browser; on Debian `apt-get install chromium` brings one")
    try:
        import playwright  # noqa: F401
    except ImportError as error:
        raise DataError("a browser is driven by Playwright: pip install playwright") from error
    return Path(found)


@contextmanager
def browsing(path: Path) -> Iterator[Browser]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield running
        finally:
            running.close()


def processor_seconds(browser: Browser) -> float:
    """Processor time of all processes of a browser up to now; what else the machine does, does not count."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
    return sum(process["cpuTime"] for process in found["processInfo"])


def visit(page: Page, path: Path) -> None:
    """Open a report in a page, and wait until its scripts have run."""
    page.goto(path.resolve().as_uri(), wait_until="commit")
    page.wait_for_selector("html[data-ready]")


def report_figures(
    folder: Path, count: int, browser: Path, seed: int = 0, observe: Callable[[int, int], None] = lambda *_: None
) -> ReportFigures:
    """Write a report of `count` drawn photos into `folder`, open it, and time what its reader waits for."""
    records = drawn_run(folder / "photos", count, seed)
    path = folder / "report.html"
    started = time.monotonic()
    write_report(path, records, title=f"{count} drawn photos", observe=observe)
    written = time.monotonic() - started
    started = time.monotonic()
    write_report(path, records, title=f"{count} drawn photos")
    again = time.monotonic() - started
    with browsing(browser) as running:
        page = running.new_context(viewport=VIEWPORT).new_page()
        page.set_default_timeout(600_000)  # a slow answer is a figure too
        before = processor_seconds(running)
        visit(page, path)
        processor = processor_seconds(running) - before
        page.wait_for_function(DRAWN_IN_VIEW)
        pictures = page.evaluate("performance.now()")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        usable = page.evaluate("performance.getEntriesByName('usable')[0].startTime")
        states = [f"document.querySelector('[value={state}]').click()" for state in ("failed", "done", "all")]
        thumbs = [INPUT.format("#entropy-least", at) for at in (60, 120, 0)]
        thumbs += [INPUT.format("#unknown-most", at) for at in (120, 60, 200)]
        steps = [INPUT.format(".card input", at) for at in range(10, 100, 10)]
        filtered, slid = (
            max(page.evaluate(f"({FRAME})(() => {{ {act} }})") for act in acts) for acts in (states + thumbs, steps)
        )
    return ReportFigures(
        photos=count,
        bytes=path.stat().st_size,
        pictures_bytes=sum(file.stat().st_size for file in path.with_name("report_files").iterdir()),
        written=written,
        again=again,
        first_paint=paint / 1e3,
        usable=usable / 1e3,
        processor=processor,
        pictures=pictures / 1e3,
        filtered=filtered / 1e3,
        slid=slid / 1e3,
    )
