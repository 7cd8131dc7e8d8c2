"""Batches of real photos through the real command line, killed and shared out; Ray does the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from batch_tasks import Copies

from sgmatte.batch.engines import Engine
from sgmatte.batch.inputs import Input
from sgmatte.batch.names import Place
from sgmatte.batch.processes import Processes
from sgmatte.batch.run import Plan, Summary, books_of, run, todo
from sgmatte.bench.batch import batch_cost, killed_batch, same_bytes
from sgmatte.bench.batch_photos import BROKEN, made_photos
from sgmatte.errors import PhotoError, UsageError
from sgmatte.photo import read_photo


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))


def test_photos_break_in_ten_ways_and_the_others_are_photos(tmp_path: Path) -> None:
    made = made_photos(tmp_path / "one", 14, 10, generated=0)
    assert len(BROKEN) == len({photo.stem[4:] for photo in made.broken}) == 10
    for photo in made.broken:
        with pytest.raises(PhotoError):
            read_photo(photo)
    assert all(read_photo(photo).size > (100, 100) for photo in made.good)
    again = made_photos(tmp_path / "two", 14, 10, generated=0)
    assert [a.read_bytes() for a in made.good] == [b.read_bytes() for b in again.good]


def test_a_killed_batch_of_photos_loses_nothing(tmp_path: Path) -> None:
    made = made_photos(tmp_path / "in", 6, 3, generated=0)
    found = killed_batch(made, tmp_path / "out", "trimap", kills=1, seed=3)
    assert found.is_flawless, found
    assert (found.good, found.broken, found.leftovers) == (3, 3, ())


def test_jobs_give_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    photos = made_photos(tmp_path / "in", 2, 0, generated=0).good
    costs = [batch_cost(photos, tmp_path / f"jobs-{jobs}", "trimap", jobs, 1) for jobs in (1, 2)]
    assert same_bytes(tmp_path / "jobs-1", tmp_path / "jobs-2")
    assert all(cost.seconds > 0 for cost in costs)
    if sys.platform == "linux":
        one, two = (cost.memory_mb for cost in costs)
        assert one is not None
        assert two is not None
        assert one < two < one + 2 * 600


# --- Ray


class Nobody:
    def began(self, job: object) -> None: ...

    def ended(self, job: object, record: object) -> None: ...


def copied(folder: Path, out: Path, engine: Engine) -> Summary:
    place = Place(out)
    jobs = [place.job(Input(photo, folder), ["copy"]) for photo in sorted(folder.glob("*.png"))]
    plan = Plan("copy", jobs)
    books = books_of(plan)
    return run(plan, todo(plan, books), books, engine, Nobody())


def test_ray_does_what_processes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'sgmatte[ray]')")
    from sgmatte.batch.remote import Ray

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Ray's workers find this folder's task by it
    monkeypatch.setattr("sgmatte.batch.processes.process_cores", lambda: 4)
    monkeypatch.setattr("sgmatte.batch.remote.process_cores", lambda: 4)
    texts = {"a": "one", "b": "two", "c": "die", "d": "die once", "e": "broken", "f": "three"}
    folder = tmp_path / "in"
    folder.mkdir()
    found = {}
    for name, engine in (("plain", Processes(Copies(), 2)), ("ray", Ray(Copies(), 2))):
        for stem, text in texts.items():
            (folder / f"{stem}.png").write_text(text)
            (folder / f"{stem}.died").unlink(missing_ok=True)
        found[name] = copied(folder, tmp_path / name, engine)
    assert same_bytes(tmp_path / "plain", tmp_path / "ray")
    assert (tmp_path / "ray" / "a_copy.png").read_text() == "copied one 2"  # its share of the cores
    for summary in found.values():
        assert summary.done == 4
        assert sorted(Path(record["photo"]).stem for record in summary.failed) == ["c", "e"]
        assert any("died twice" in record["error"] for record in summary.failed)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from sgmatte.batch.remote import Ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'sgmatte\[ray\]'"):
        Ray(Copies(), 2)
