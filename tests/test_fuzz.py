"""Damaged files for every reader, for some seconds, and the command that does it for hours."""

from __future__ import annotations

import json
import random
import sys
import textwrap
import time
import zlib
from pathlib import Path

import pytest

from sgmatte.bench.fuzz import Limits, Tally, fuzzed
from sgmatte.cli.app import main
from sgmatte.errors import WeightError
from sgmatte.fuzz.corpus import CORPUS
from sgmatte.fuzz.mutations import mutated
from sgmatte.fuzz.structures import taken_apart
from sgmatte.fuzz.targets import TARGETS, all_of
from sgmatte.fuzz.worker import input_files, outcome, written

SECONDS = 1.5  # for each target, sound files not counted


@pytest.fixture(scope="module")
def corpora() -> dict[str, list[dict[str, bytes]]]:
    return {target: [dict(files) for files in make()] for target, make in CORPUS.items()}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("target", TARGETS)
def test_sound_files_are_answered(target: str, corpora: dict, tmp_path: Path) -> None:
    """And most of them read; but checkpoints need a place in the zoo, and cut-outs transparency."""
    found = []
    for files in corpora[target]:
        written(files, tmp_path / "input")
        found.append(outcome(TARGETS[target], tmp_path / "input"))
    assert [why for kind, why in found if kind == "crash"] == []
    if target not in ("checkpoint", "trimap", "weights"):
        assert [kind for kind, _ in found] == ["read"] * len(found), found


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_get_one_line(target: str, corpora: dict, tmp_path: Path) -> None:
    ends, number = time.monotonic() + SECONDS, len(corpora[target])
    while number < len(corpora[target]) + 5 or time.monotonic() < ends:
        files = input_files(corpora[target], target, 0, number)
        written(files, tmp_path / "input")
        kind, why = outcome(TARGETS[target], tmp_path / "input")
        assert kind != "crash", f"`sgmatte bench fuzz --target {target} --inputs {number + 1}` repeats it: {why}"
        number += 1


def test_an_input_depends_on_seed_target_and_number_alone(corpora: dict) -> None:
    corpus = corpora["photo"]
    first = [input_files(corpus, "photo", 3, number) for number in range(60)]
    assert first == [input_files(corpus, "photo", 3, number) for number in range(60)]
    assert first[: len(corpus)] == corpus
    others = [input_files(corpus, "photo", 4, number) for number in range(len(corpus), 60)]
    assert sum(a != b for a, b in zip(first[len(corpus) :], others, strict=True)) > 20


@pytest.mark.parametrize("target", ["photo", "checkpoint", "weights", "wheel"])
def test_pieces_put_together_are_the_file(target: str, corpora: dict) -> None:
    """But for zips, whose members are the same and whose headers are not."""
    known = 0
    for files in corpora[target]:
        for data in files.values():
            pieces = taken_apart(data)
            if pieces is None:
                continue
            known += 1
            again = pieces.put_together(pieces.parts)
            if data[:2] == b"PK":
                assert taken_apart(again).parts == pieces.parts
            else:
                assert again == data
    assert known > len(corpora[target]) // 3


def test_damage_inside_of_pieces_keeps_their_sums(corpora: dict) -> None:
    """Otherwise a PNG's checksums would answer in place of its decoder."""
    (png,) = [files for files in corpora["photo"] if files["photo"][:4] == b"\x89PNG"][:1]
    sound = 0
    for number in range(300):
        data = mutated(png, [png], random.Random(number))["photo"]
        at, right = 8, data != png["photo"] and data[:8] == png["photo"][:8]
        while right and at + 12 <= len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            body = data[at + 4 : at + 8 + length]
            right = int.from_bytes(data[at + 8 + length : at + 12 + length], "big") == zlib.crc32(body)
            at += 12 + length
        sound += right
    assert sound > 60


READERS = """
import os
import time

from sgmatte.errors import PhotoError


def sound(folder):
    print("what readers print is no report")
    if (folder / "file").read_bytes() != b"sound":
        raise PhotoError("refused")


def crashing(folder):
    sound(folder)
    [].pop()


def dying(folder):
    if (folder / "file").read_bytes() != b"sound":
        os.abort()


def hanging(folder):
    while (folder / "file").read_bytes() != b"sound":
        pass


def sleeping(folder):
    if (folder / "file").read_bytes() != b"sound":
        time.sleep(1000)


def growing(folder):
    if (folder / "file").read_bytes() != b"sound":
        held = []
        while True:
            held.append(b"x" * (1 << 20))
            time.sleep(0.001)


def large(folder):
    if (folder / "file").read_bytes() != b"sound":
        b"x" * (300 << 20)


def talking(folder):
    raise PhotoError("two\\nlines")
"""


def test_what_kills_a_reader_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere no process can see the memory of another")
    (tmp_path / "badreaders.py").write_text(textwrap.dedent(READERS))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parent.parent}")
    corpus = [{"file": b"sound"}, {"file": b"other"}]
    seen: list[tuple[str, int, int]] = []

    def run_all(names: tuple[str, ...], limits: Limits) -> list[Tally]:
        return fuzzed(
            {name: f"badreaders:{name}" for name in names},
            dict.fromkeys(names, corpus),
            2 * len(names),
            limits=limits,
            keep=tmp_path / "kept",
            observe=lambda *at: seen.append(at),
        )

    tallies = run_all(("growing", "large"), Limits(seconds=60, memory_mb=250))
    tallies += run_all(("sound", "crashing", "dying", "hanging", "sleeping", "talking"), Limits(0.3, 250))
    by_name = {tally.target: tally for tally in tallies}
    kinds = {name: [(found.number, found.kind) for found in tally.findings] for name, tally in by_name.items()}
    assert kinds == {
        "sound": [],
        "crashing": [(0, "crash")],
        "dying": [(1, "crash")],
        "hanging": [(1, "hang")],
        "sleeping": [(1, "hang")],
        "growing": [(1, "memory")],
        "large": [(1, "memory")],
        "talking": [(0, "crash"), (1, "crash")],
    }
    assert all(tally.inputs == 2 for tally in tallies)
    assert (by_name["sound"].read, by_name["sound"].refused) == (1, 1)
    assert "IndexError" in by_name["crashing"].findings[0].why
    assert "SIGABRT" in by_name["dying"].findings[0].why
    assert by_name["large"].peak_mb > 250
    assert (tmp_path / "kept" / "dying-1" / "file").read_bytes() == b"other"
    assert seen[-1] == ("talking", 2, 2)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["sgmatte", "bench", "fuzz", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code or 0


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    assert run(monkeypatch, "--inputs", "12", "--target", "manifest", "--target", "latents", "--quiet", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["target"], row["inputs"]) for row in told["targets"]] == [("latents", 6), ("manifest", 6)]
    assert all(row["read"] + row["refused"] == 6 and row["peak_mb"] > 50 for row in told["targets"])
    assert not (tmp_path / "fuzz").exists()
    assert run(monkeypatch, "--target", "nothing") == 2
    assert "there is no target 'nothing'; they are photo, trimap" in capsys.readouterr().err


def test_a_refusal_does_not_hide_a_crash() -> None:
    def refusing() -> None:
        raise WeightError("refused")

    for readers in ((refusing, [].pop), ([].pop, refusing)):
        with pytest.raises(IndexError):
            all_of(*readers)
    with pytest.raises(WeightError):
        all_of(list, refusing, list)
