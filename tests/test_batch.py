"""Batches keep books and lose nothing: runs that are cut short, photos that fail, workers that die."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_tasks import Copies

from sgmatte.batch import attempts
from sgmatte.batch.engines import Here
from sgmatte.batch.inputs import Input
from sgmatte.batch.manifest import FAILURES, MANIFEST, Manifest, lines
from sgmatte.batch.names import Job, Place
from sgmatte.batch.processes import Processes
from sgmatte.batch.run import Plan, Summary, Todo, books_of, run, todo
from sgmatte.errors import SgmatteError, UsageError, WeightError
from sgmatte.files import PARTIAL, clean_partials, write_bytes


class Nobody:
    def began(self, job: Job) -> None: ...

    def ended(self, job: Job, record: dict[str, Any]) -> None: ...


class Killer(Nobody):
    """Ends the run as if it were killed, after some photos."""

    class Killed(BaseException):
        pass

    def __init__(self, after: int) -> None:
        self.after = after

    def began(self, job: Job) -> None:
        self.after -= 1
        if self.after < 0:
            raise self.Killed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(attempts, "PAUSES", (0.0, 0.0))
    return tmp_path


@pytest.fixture
def batch(folder: Path) -> Callable[..., tuple[Summary, Todo]]:
    """Run a batch over photos with these texts, by name; -> how it went, and what was to do."""

    def batch(
        texts: dict[str, str], *, word: str = "copied", jobs: int = 1, watcher: Nobody | None = None, **options: Any
    ):
        (folder / "in").mkdir(exist_ok=True)
        for name, text in texts.items():
            if not (folder / "in" / name).exists() or (folder / "in" / name).read_text() != text:
                (folder / "in" / name).write_text(text)
        place = Place(folder / "out")
        planned = [place.job(Input(folder / "in" / name, folder / "in"), ["a", "b"]) for name in texts]
        plan = Plan("copy", planned, {"word": word}, **{"keep": True} | options)
        books = books_of(plan)
        work = todo(plan, books)
        task = Copies(word)
        return run(plan, work, books, Processes(task, jobs) if jobs > 1 else Here(task), watcher or Nobody()), work

    return batch


def states(folder: Path) -> dict[str, list[str]]:
    """What the manifest says of each photo, line by line."""
    found: dict[str, list[str]] = {}
    for line in lines(folder / "out" / MANIFEST):
        if "photo" in line:
            found.setdefault(Path(line["photo"]).name, []).append(line["state"])
    return found


def failures(folder: Path) -> list[str]:
    file = folder / "out" / FAILURES
    return [Path(json.loads(line)["photo"]).name for line in file.read_text().splitlines()] if file.exists() else []


def test_the_manifest_tells_all_that_is_needed_of_a_photo(batch, folder) -> None:
    summary, _ = batch({"x.jpg": "hello", "bad.jpg": "broken"})
    assert (summary.done, len(summary.failed), summary.exit_code) == (1, 1, 1)
    run_line, _, done, _, failed, ended = lines(folder / "out" / MANIFEST)
    assert (run_line["state"], run_line["options"], run_line["photos"]) == ("run", {"word": "copied"}, 2)
    assert done["photo"] == str(folder / "in" / "x.jpg")
    assert done["files"] == {"a": "x_a.png", "b": "x_b.png"}
    assert (done["size"], done["input"]["bytes"]) == ([1, 2], 5)
    assert done["input"]["sha256"] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert failed["error"].endswith("bad.jpg: broken")
    assert (ended["state"], ended["done"], ended["failed"]) == ("ended", 1, 1)
    assert failures(folder) == ["bad.jpg"]


def test_what_is_done_is_done_once_and_what_failed_is_tried_again(batch, folder) -> None:
    texts = {"x.jpg": "hello", "bad.jpg": "broken"}
    batch(texts)
    summary, work = batch(texts)
    assert (summary.skipped, len(summary.failed)) == (1, 1)
    assert list(work.skipped.values()) == ["its results are there"]
    assert failures(folder) == ["bad.jpg"]
    summary, _ = batch(texts | {"bad.jpg": "mended"})
    assert (summary.done, summary.exit_code) == (1, 0)
    assert not (folder / "out" / FAILURES).exists()
    assert batch(texts | {"bad.jpg": "mended"}, keep=False)[0].done == 2


@pytest.mark.parametrize("keep", [True, False])
def test_a_killed_run_goes_on_where_it_was(batch, folder, keep: bool) -> None:
    texts = {f"{k}.jpg": "broken" if k == 1 else f"photo {k}" for k in range(6)}
    for after in (2, 0, 2):
        with pytest.raises(Killer.Killed):
            batch(texts, watcher=Killer(after), keep=keep)
    summary, work = batch(texts, keep=keep)
    assert len(work.jobs) == 2
    assert (summary.done, summary.skipped, len(summary.failed), summary.exit_code) == (2, 3, 1, 1)
    ends = {name: [state for state in told if state != "started"] for name, told in states(folder).items()}
    assert ends == {name: ["failed" if text == "broken" else "done"] for name, text in texts.items()}
    assert failures(folder) == ["1.jpg"]
    assert len(batch(texts, keep=keep)[1].jobs) == (1 if keep else 6)  # that run is over: another one has begun


def test_results_of_a_photo_that_was_cut_short_are_not_trusted(batch, folder) -> None:
    with pytest.raises(Killer.Killed):
        batch({"x.jpg": "hello"}, watcher=Killer(0))
    for kind in "ab":
        (folder / "out" / f"x_{kind}.png").write_text("old")
    assert batch({"x.jpg": "hello"})[0].done == 1
    assert (folder / "out" / "x_a.png").read_text().startswith("copied hello")


def test_results_that_were_there_before_any_batch_are_kept(batch, folder) -> None:
    (folder / "out").mkdir()
    for kind in "ab":
        (folder / "out" / f"x_{kind}.png").write_text("mine")
    assert batch({"x.jpg": "hello"})[0].skipped == 1
    (folder / "out" / "x_b.png").unlink()
    assert batch({"x.jpg": "hello"})[0].done == 1


def test_a_photo_that_has_changed_is_done_again_and_one_that_was_touched_is_not(batch, folder) -> None:
    batch({"x.jpg": "hello", "y.jpg": "there"})
    os.utime(folder / "in" / "x.jpg", (1, 1))
    _summary, work = batch({"x.jpg": "hello", "y.jpg": "where"})
    assert [job.photo.name for job in work.jobs] == ["y.jpg"]
    assert work.remarks == ["1 photo changed since: worked on again"]


def test_other_settings_are_told_and_results_kept(batch, folder) -> None:
    batch({"x.jpg": "hello"})
    summary, work = batch({"x.jpg": "hello"}, word="painted")
    assert summary.skipped == 1
    assert work.remarks == [
        "1 photo with results of other settings (word copied, now painted): kept; --overwrite does them again"
    ]
    batch({"x.jpg": "hello"}, word="painted", keep=False)
    assert (folder / "out" / "x_a.png").read_text().startswith("painted")
    assert batch({"x.jpg": "hello"}, word="painted")[1].remarks == []


def test_a_manifest_with_half_a_line_is_read_and_mended(batch, folder) -> None:
    batch({"x.jpg": "hello"})
    manifest = folder / "out" / MANIFEST
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"state": "started", "photo": "/hal')
    assert batch({"x.jpg": "hello"})[0].skipped == 1
    assert manifest.read_bytes().startswith(whole + b'{"state": "run"')
    assert all(json.loads(line) for line in manifest.read_text().splitlines())


def test_a_file_of_somebody_elses_is_no_manifest(batch, folder) -> None:
    (folder / "out").mkdir()
    (folder / "out" / MANIFEST).write_text('{"file_name": "a.png"}\n')
    with pytest.raises(UsageError, match=r"manifest.jsonl: not written by sgmatte"):
        batch({"x.jpg": "hello"})
    assert (folder / "out" / MANIFEST).read_text() == '{"file_name": "a.png"}\n'


def test_a_line_without_what_it_should_say_is_no_line(folder) -> None:
    (folder / "out").mkdir()
    run, failed = '{"state": "run", "task": "t"}', '{"state": "failed", "task": "t", "photo": "x.jpg"}'
    (folder / "out" / MANIFEST).write_text(f"{run}\n{failed}\n")
    assert Manifest(folder / "out").history("t").latest == {}


def test_one_batch_at_a_time_in_a_folder(batch, folder) -> None:
    batch({"x.jpg": "hello"})
    with Manifest(folder / "out").opened(), pytest.raises(UsageError, match="another batch is at work"):
        batch({"x.jpg": "hello"})


def test_temporary_files_of_the_dead_are_removed_and_no_others(folder) -> None:
    dead = folder / f".x.png-999999999-abc{PARTIAL}"
    alive = folder / f".x.png-{os.getppid()}-abc{PARTIAL}"
    others = [folder / ".x.png.tmp", folder / f"x{PARTIAL}", folder / f".x{PARTIAL}"]
    for file in (dead, alive, *others):
        file.touch()
    assert clean_partials([folder, folder / "missing"]) == 1
    assert sorted(folder.iterdir()) == sorted([alive, *others])
    os.utime(alive, (1, 1))  # a process of today has the number of one of long ago
    assert clean_partials([folder]) == 1
    with pytest.raises(TypeError):
        write_bytes(folder / "y.png", "no bytes")  # type: ignore[arg-type]
    assert sorted(folder.iterdir()) == sorted(others)


# --- what goes wrong


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bug", "a fault of sgmatte, please report it (ZeroDivisionError: oh)"),
        ("memory", "there is not enough memory for it"),
        ("EIO", "the drive does not answer (Input/output error), tried 3 times"),
        ("EACCES", "Permission denied"),
    ],
)
def test_each_trouble_has_its_own_words(batch, text: str, told: str) -> None:
    summary, _ = batch({"x.jpg": text, "y.jpg": "fine"})
    assert told in summary.failed[0]["error"]
    assert summary.done == 1
    assert ("traceback" in summary.failed[0]) == (text == "bug")


def test_a_drive_that_recovers_costs_nothing(batch, folder, monkeypatch) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "x.jpg").write_text("ESTALE")
    monkeypatch.setattr(attempts.time, "sleep", lambda _: (folder / "in" / "x.jpg").write_text("well again"))
    assert batch({"x.jpg": "ESTALE"})[0].done == 1


@pytest.mark.parametrize(("text", "told"), [("ENOSPC", "the disk is full; make room"), ("EROFS", "can only be read")])
def test_a_full_disk_stops_the_batch_and_the_rest_is_done_later(batch, folder, text: str, told: str) -> None:
    texts = {"w.jpg": "fine", "x.jpg": text, "y.jpg": "fine"}
    summary, _ = batch(texts)
    assert told in (summary.stopped or "")
    assert (summary.done, summary.exit_code) == (1, 1)
    summary, _ = batch(texts | {"x.jpg": "room"})
    assert (summary.done, summary.skipped, summary.exit_code) == (2, 1, 0)


def test_a_photo_that_vanishes_says_so(batch, folder) -> None:
    class Thief(Nobody):
        def began(self, job: Job) -> None:
            job.photo.unlink()

    summary, _ = batch({"x.jpg": "hello"}, watcher=Thief())
    assert summary.failed[0]["error"].endswith("x.jpg: has vanished since the batch began")


def test_missing_weights_stop_everything(batch) -> None:
    for jobs in (1, 2):
        with pytest.raises(WeightError, match="the weights are missing"):
            batch({"x.jpg": "no weights", "y.jpg": "fine"}, jobs=jobs)


def test_a_folder_that_cannot_be_written_to_says_so(batch, folder) -> None:
    (folder / "out").write_text("in the way")
    with pytest.raises(SgmatteError, match=r"out: nothing can be written there"):
        batch({"x.jpg": "hello"})


# --- several processes


def test_processes_share_the_cores_and_a_dead_one_costs_its_photo_alone(batch, folder, monkeypatch) -> None:
    monkeypatch.setattr("sgmatte.batch.processes.process_cores", lambda: 6)
    texts = {"a.jpg": "fine", "b.jpg": "die", "c.jpg": "die once", "d.jpg": "fine", "e.jpg": "broken"}
    summary, _ = batch(texts, jobs=2)
    assert summary.done == 3
    assert sorted(Path(record["photo"]).name for record in summary.failed) == ["b.jpg", "e.jpg"]
    dead = next(record for record in summary.failed if "b.jpg" in record["photo"])
    assert "died twice (SIGKILL, as when the system runs out of memory)" in dead["error"]
    assert (folder / "out" / "a_a.png").read_text() == "copied fine 3"
    assert sorted(failures(folder)) == ["b.jpg", "e.jpg"]


@pytest.mark.parametrize("first", ["a.jpg", "b.jpg"])  # whichever worker is ready sooner, no one waits for the slow one
def test_an_interrupt_ends_all_processes_and_the_run_goes_on_later(batch, folder, first: str) -> None:
    class Impatient(Nobody):
        def ended(self, job: Job, record: dict[str, Any]) -> None:
            threading.Timer(0.3, os.kill, (os.getpid(), 15)).start()  # SIGTERM, while the others are at work

    started = time.monotonic()
    texts = {"a.jpg": "slow", "b.jpg": "slow", "c.jpg": "slow"} | {first: "fine"}
    summary, _ = batch(texts, jobs=2, watcher=Impatient())
    assert (summary.interrupted, summary.done, summary.exit_code) == (True, 1, 130)
    assert time.monotonic() - started < 30
    assert not [file for file in (folder / "out").iterdir() if file.name.endswith(PARTIAL)]
    summary, _ = batch({name: "fine" if name == first else "quick" for name in texts}, jobs=2)
    assert (summary.done, summary.skipped, summary.exit_code) == (2, 1, 0)


def test_processes_do_not_hear_ctrl_c_even_while_they_start(folder) -> None:
    worker = Processes(Copies(), 1)
    hired = worker.hired()
    try:
        os.kill(hired.process.pid, 2)
        assert hired.connection.recv() == ("ready", None)
    finally:
        worker.dismiss([hired])
    assert hired.process.exitcode == -15  # it was told to end, which it had not before
