"""The report in a browser: real clicks, drags and keys in headless Chromium. Skipped where there is none."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgmatte.bench.report import browsing, chromium, drawn_run, processor_seconds, visit
from sgmatte.errors import DataError
from sgmatte.report.page import page as report_page
from sgmatte.report.page import write_report
from sgmatte.report.records import Record
from sgmatte.trimaps import Confidence

try:
    BROWSER = chromium()
except DataError as missing:
    pytest.skip(str(missing), allow_module_level=True)

from playwright.sync_api import Browser, Locator, Page, expect

expect.set_options(timeout=60_000)
Open = Callable[..., Page]
COUNT = 12
HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing(BROWSER) as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn photos, the third of which failed, and one whose name is markup; entropy 0.01 to 0.12."""
    folder = tmp_path_factory.mktemp("report")
    records = []
    for k, record in enumerate(drawn_run(folder / "photos", COUNT, scale=0.4)):
        unknown = 0.3 - 0.01 * k
        sure = Confidence(0.6 - unknown, unknown, 0.4, entropy=0.01 * (k + 1))
        records.append(replace(record, confidence=sure))
    records[2] = Record(records[2].photo, error=f"{records[2].photo}: no face found; --whole works without one")
    records.append(Record(Path(HOSTILE), error=f"{HOSTILE}: no such file"))
    return write_report(folder / "report.html", records, title="drawn photos")


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Open]:
    """Opens the report; whatever the page logs, throws or asks of a network fails the test."""
    contexts, told = [], []
    local = ("file:", "blob:", "data:")

    def page(path: Path = report, width: int = 1280, height: int = 800, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)  # patience costs nothing where all is well, and machines are busy
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: request.url.startswith(local) or told.append(request.url))
        visit(tab, path)
        return tab

    yield page
    for context in contexts:
        context.close()
    assert told == []


def cards(page: Page) -> Locator:
    return page.locator(".card:visible")


def shown(page: Page) -> list[str]:
    return [name.partition("_")[0] for name in page.locator(".card:visible .name").all_text_contents()]


def choose(page: Page, value: str) -> None:
    """A click on a radio button, as people see it: the input itself is hidden in its label."""
    page.locator(f"label:has(> input[value={value}])").click()


def pixels(element: Locator) -> np.ndarray:
    """A screenshot of an element once its pictures are drawn: (H, W, 3) uint8."""
    element.evaluate("box => Promise.all([...box.querySelectorAll('img')].map(img => img.src && img.decode()))")
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB"))


def test_the_slider_uncovers_the_photo(opened: Open) -> None:
    page = opened()
    choose(page, "black")
    box = cards(page).first.locator(".compare")
    halves = pixels(box)
    height, width, _ = halves.shape
    wall, gone = halves[6:20, 6 : width // 2 - 6], halves[6:20, width // 2 + 6 : -6]
    assert wall.mean() > 60
    assert gone.mean() < 3  # the cut-out on black
    place = box.bounding_box()
    assert place
    page.mouse.move(place["x"] + width / 2, place["y"] + height / 2)
    page.mouse.down()
    page.mouse.move(place["x"] + 0.9 * width, place["y"] + height / 2, steps=4)
    page.mouse.up()
    assert box.locator("input").input_value() == "90"
    assert pixels(box)[6:20, width // 2 + 6 : int(0.85 * width)].mean() > 60
    expect(page.locator("#viewer")).to_be_hidden()  # a drag is no click


def test_the_slider_obeys_keys(opened: Open) -> None:
    page = opened()
    cards(page).first.locator(".name").focus()
    page.keyboard.press("Shift+Tab")
    slider = page.locator(":focus")
    assert slider.get_attribute("aria-label") == "How much of the photo is shown before the cut-out: 0001_photo.jpg"
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "55"
    assert slider.get_attribute("aria-valuetext") == "55 % photo"
    assert cards(page).first.locator(".compare").evaluate("box => box.style.getPropertyValue('--at')") == "55%"


def test_filters_and_orders(opened: Open) -> None:
    page = opened()
    assert len(shown(page)) == COUNT + 1
    choose(page, "failed")
    assert shown(page) == ["0003", HOSTILE]
    expect(cards(page).first).to_contain_text("no face found")
    choose(page, "done")
    assert len(shown(page)) == COUNT - 1
    page.locator("#entropy-least").focus()
    for _ in range(100):  # of 200 steps
        page.keyboard.press("ArrowRight")
    assert shown(page) == [f"{k:04}" for k in range(7, 13)]
    page.select_option("#sort", "entropy")
    assert shown(page) == [f"{k:04}" for k in range(12, 6, -1)]
    page.locator("#reverse").click()
    assert shown(page)[0] == "0007"
    page.locator("#search").fill("0011")
    assert shown(page) == ["0011"]
    expect(page.locator("#count")).to_have_text(f"1 of {COUNT + 1}")
    page.locator("#search").fill("nobody")
    expect(page.locator("#empty")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    assert len(shown(page)) == COUNT + 1
    page.select_option("#sort", "unknown")
    page.locator("#reverse").click()
    assert shown(page)[0] == "0001"  # the most unknown; those without any come last
    assert shown(page)[-2:] == ["0003", HOSTILE]


def test_one_photo_large_and_its_neighbours(opened: Open) -> None:
    page = opened()
    cards(page).nth(1).locator(".compare").click(position={"x": 20, "y": 30})
    viewer = page.locator("#viewer")
    expect(viewer).to_be_visible()
    expect(page.locator("#viewer-name")).to_have_text("0002_photo.jpg")
    expect(page.locator("#facts")).to_contain_text("0.020")
    expect(viewer.locator("img.before")).to_have_attribute("src", "photos/0002_photo.jpg")  # the file itself
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-name")).to_have_text("0003_photo.jpg")
    expect(page.locator("#facts .error")).to_have_text("no face found; --whole works without one")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert viewer.locator("input[type=range]").input_value() == "55"
    page.locator("#next").click()
    expect(page.locator("#viewer-count")).to_have_text(f"5 of {COUNT + 1}")
    page.keyboard.press("z")
    expect(page.locator("#viewer-stage")).to_have_class("stage zoomed")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.locator(":focus")).to_have_text("0005_photo.jpg")  # where its reader has got to, once `close` is told
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer-name")).to_have_text("0006_photo.jpg")


def test_views_and_backgrounds(opened: Open, tmp_path: Path) -> None:
    page = opened()
    box = cards(page).first.locator(".compare")

    def corner() -> list[float]:
        return pixels(box)[6:16, -16:-6].mean((0, 1)).round().tolist()

    choose(page, "white")
    assert corner() == [255, 255, 255]
    page.keyboard.press("b")
    assert corner() == [0, 0, 0]
    choose(page, "colour")
    page.locator("#colour").fill("#ff0000")
    assert corner() == [255, 0, 0]
    Image.new("RGB", (40, 40), (0, 0, 255)).save(tmp_path / "sky.png")
    choose(page, "image")
    page.locator("#file").set_input_files(tmp_path / "sky.png")
    page.wait_for_timeout(100)  # a background has no event of its own
    assert corner() == [0, 0, 255]
    page.keyboard.press("2")
    assert page.locator("html").get_attribute("data-view") == "alpha"
    assert max(corner()) < 4
    expect(box.locator("img").nth(1)).to_have_attribute("alt", "Alpha of 0001_photo.jpg")


def test_names_are_shown_not_obeyed(opened: Open) -> None:
    page = opened()  # and no dialog appears, which `opened` would tell
    expect(cards(page).last.locator(".name")).to_have_text(HOSTILE)
    assert page.locator("img[onerror]").count() == 0


def test_dark_and_light(opened: Open) -> None:
    def paper(page: Page) -> float:
        return float(pixels(page.locator("header.top"))[2].mean())

    page = opened(color_scheme="dark")
    assert paper(page) < 60
    page.get_by_role("button", name="Dark").click()
    assert paper(page) > 200
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert paper(page) > 200  # the page remembers
    assert paper(opened(color_scheme="light")) > 200


def test_keys_are_listed_and_can_be_switched_off(opened: Open) -> None:
    page = opened()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.get_by_label("Keys of a single letter").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    assert len(shown(page)) == COUNT + 1
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Keys of a single letter").check()
    page.get_by_role("button", name="Close", exact=True).click()
    page.keyboard.press("f")
    assert len(shown(page)) == 2


def test_a_phones_width_is_enough(opened: Open) -> None:
    page = opened(width=390, height=844, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_text("Filter and sort").tap()
    expect(page.locator("#sort")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cards(page).first.locator(".compare").tap(position={"x": 20, "y": 20})
    expect(page.locator("#viewer")).to_be_visible()


def test_500_photos(opened: Open, browser: Browser, report: Path) -> None:
    entries = re.search(r'id="data">(.*?)</script>', report.read_text(), re.DOTALL)
    assert entries
    many = report.with_name("many.html")
    many.write_text(report_page("many", (json.loads(entries[1])["photos"] * 42)[:500]), encoding="utf-8")
    seconds = []
    for _ in range(3):
        before = processor_seconds(browser)
        page = opened(many)
        seconds.append(processor_seconds(browser) - before)
    assert min(seconds) < 2  # of processor time until all is there, the first paint too: others' work is not counted
    assert len(shown(page)) == 500
    waiting = page.evaluate("[...document.querySelectorAll('.card img')].filter(img => !img.complete).length")
    assert waiting > 300  # of 1000: those far below are loaded when somebody gets there
    page.locator(".card").last.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('.card:last-child img')].every(img => img.naturalWidth)")
