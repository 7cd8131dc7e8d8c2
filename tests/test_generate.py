"""Generated portraits: which are kept, the books of their folder, and the folder as training data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_tasks import Coins
from PIL import Image
from test_cli import Run, run  # noqa: F401, a fixture

from sgmatte.batch.engines import Engine, Here
from sgmatte.batch.manifest import MANIFEST, lines
from sgmatte.batch.processes import Processes
from sgmatte.device import Device
from sgmatte.errors import SgmatteError, UsageError
from sgmatte.face import Face
from sgmatte.generation import limits as fault
from sgmatte.generation.limits import faults, faults_of_faces, shape_of
from sgmatte.generation.portraits import Portraits
from sgmatte.generation.run import KINDS, Order, Progress
from sgmatte.generation.run import run as generated
from sgmatte.generation.settings import Drawing, Limits
from sgmatte.pipeline import Networks
from sgmatte.settings import LossWeights, Optimisation, Settings
from sgmatte.train.data import PortraitFolder
from sgmatte.trimaps import Confidence

SURE = Confidence(background=0.4, unknown=0.1, foreground=0.5, entropy=0.05)
GENERATOR = "stylegan2-portrait-256"


# --- which are kept


def bust() -> np.ndarray:
    """A head and shoulders, 100 x 100, that leave the picture at the bottom alone."""
    alpha = np.zeros((100, 100), np.float32)
    alpha[20:80, 30:70] = 1
    alpha[70:, 15:85] = 1
    return alpha


def found(alpha: np.ndarray, confidence: Confidence = SURE, limits: Limits = Limits()) -> list[str]:  # noqa: B008
    return faults(shape_of(alpha), confidence, limits)


def test_a_whole_person_has_no_fault() -> None:
    shape = shape_of(bust())
    assert (shape.hole, shape.detached, shape.top, shape.side) == (0, 0, 0, 1)
    assert shape.person == pytest.approx(0.41)
    assert found(bust()) == []


def test_gaps_inside_the_person_are_holes_and_those_at_the_border_are_not() -> None:
    alpha = bust()
    alpha[90:, 40:60] = 0  # open at the bottom
    assert found(alpha) == []
    alpha[40:44, 50:54] = 0.3
    assert shape_of(alpha).hole == pytest.approx(16e-4)
    assert found(alpha) == [fault.HOLE]
    assert found(alpha, limits=Limits(max_hole=0.002)) == []


def test_what_stands_apart_is_detached_even_if_it_is_faint() -> None:
    alpha = bust()
    alpha[5:10, 5:10] = 0.3
    assert shape_of(alpha).detached == pytest.approx(25e-4)
    assert found(alpha) == [fault.DETACHED]


def test_a_head_that_the_frame_cuts_is_refused_and_one_that_touches_it_is_not() -> None:
    alpha = bust()
    alpha[:20, 30:65] = 1
    assert shape_of(alpha).top == pytest.approx(0.35)
    assert found(alpha) == []
    alpha[:20, 25:70] = 1
    assert found(alpha) == [fault.CUT]


def test_hair_may_leave_low_at_a_side_and_not_high() -> None:
    alpha = bust()
    alpha[60:, :40] = 1
    assert found(alpha) == []
    alpha[20:, :40] = 1
    assert shape_of(alpha).side == pytest.approx(0.2)
    assert found(alpha) == [fault.CUT]


@pytest.mark.parametrize(
    ("alpha", "confidence", "reasons"),
    [
        (np.pad(np.ones((40, 40), np.float32), ((60, 0), (30, 30))), SURE, [fault.SMALL]),
        (np.pad(np.ones((90, 96), np.float32), ((10, 0), (2, 2))), SURE, [fault.LARGE]),
        (bust(), Confidence(0.4, 0.1, 0.5, 0.2), [fault.UNSURE]),
        (bust(), Confidence(0.3, 0.3, 0.4, 0.05), [fault.VAGUE]),
    ],
)
def test_each_limit_has_its_reason(alpha, confidence, reasons) -> None:
    assert found(alpha, confidence) == reasons
    assert faults(shape_of(alpha), confidence, Limits(**dict.fromkeys(vars(Limits()), 1) | {"min_person": 0})) in (
        [],
        [fault.CUT],  # `side_from` of 1 lets nothing leave
    )


def test_one_face_is_wanted() -> None:
    face = Face((0, 0, 50, 50), ((1, 1),) * 5, 0.99, "mtcnn")
    doubtful = Face((0, 0, 50, 50), ((1, 1),) * 5, 0.7, "mtcnn")
    assert faults_of_faces([face]) == []
    assert faults_of_faces([]) == faults_of_faces([doubtful]) == [fault.NO_FACE]
    assert faults_of_faces([face, face]) == [fault.SEVERAL]


def test_limits_at_first_sight_refuse_nothing_that_the_limits_themselves_would_keep() -> None:
    limits = Limits()
    for name, value in vars(limits.at_first_sight).items():
        assert value <= getattr(limits, name) if name in ("side_from", "min_person") else value > getattr(limits, name)


@pytest.mark.parametrize(("maker", "values"), [(Limits, {"max_hole": 1.1}), (Drawing, {"truncation": 0})])
def test_options_out_of_range_are_told(maker, values) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(values)).replace('_', '-')}"):
        maker(**values)


# --- portraits


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    settings = Settings(
        generator=GENERATOR, optimisation=Optimisation(steps=2, rate=1e-2), weights=LossWeights(adversarial=0)
    )
    return Portraits(Networks(settings, Device("cpu", "a test")), Drawing(), Limits())


def test_a_portrait_depends_on_its_number_alone(portraits: Portraits) -> None:
    one = portraits[0]
    assert one.reasons == []
    for kind, channels in (("image", 3), ("foreground", 3), ("alpha", 1), ("trimap", 1)):
        assert one.pictures[kind].shape == (1, channels, 256, 256)
    alpha, trimap = one.pictures["alpha"], one.pictures["trimap"]
    assert (alpha[trimap == 0] == 0).all()
    assert (alpha[trimap == 2] == 1).all()
    assert one.scores["entropy_enhanced"] < one.scores["entropy_drawn"]
    assert one.scores["psnr"] > 35
    again = portraits[0]
    assert again.scores == one.scores
    assert all(torch.equal(picture, again.pictures[kind]) for kind, picture in one.pictures.items())


def test_truncation_draws_towards_the_mean(portraits: Portraits) -> None:
    half = Portraits(portraits.networks, Drawing(truncation=0.35), Limits())
    whole = portraits.w_plus(3) - portraits.mean
    torch.testing.assert_close(half.w_plus(3) - half.mean, whole / 2)
    assert not torch.equal(portraits.w_plus(4), portraits.w_plus(3))
    other = Portraits(portraits.networks, Drawing(seed=1), Limits())
    assert not torch.equal(other.w_plus(3), portraits.w_plus(3))


def test_what_is_refused_at_once_is_not_enhanced(portraits: Portraits) -> None:
    strict = Portraits(portraits.networks, Drawing(), Limits(max_top=0, side_from=1))
    refused = strict[0]
    assert refused.reasons == [fault.CUT]
    assert "psnr" not in refused.scores
    assert refused.pictures == {}


# --- the folder and its books

GOOD = (1, 2, 5, 7, 8, 9)


class Nobody:
    def drawn(self, line: dict, progress: Progress) -> None: ...


class Killer:
    """Ends a run as if it were killed, after some draws."""

    class Killed(BaseException):
        pass

    def __init__(self, after: int) -> None:
        self.after = after

    def drawn(self, line: dict, progress: Progress) -> None:
        if progress.draws == self.after:
            raise self.Killed


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if not {"run", "portraits"} & set(request.fixturenames):  # who draws would compile the operators anew there
        monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))


def order(folder: Path, count: int, seed: int = 0, **options: object) -> Order:
    return Order(folder, count, {"drawing.seed": seed, "generator": "none", **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("*/*.png"))}


def draws(folder: Path) -> list[tuple[int, str]]:
    return [(line["index"], line["state"]) for line in lines(folder / MANIFEST) if "index" in line]


def test_draws_go_on_until_enough_are_kept(tmp_path: Path) -> None:
    progress = generated(order(tmp_path / "x", 3), Here(Coins(GOOD)), Nobody())
    assert (progress.kept, progress.drawn, progress.core_seconds) == (3, 6, 3.0)
    assert progress.told() == "3 accepted of 6 drawn; refused: tails 3"
    states = ["refused", "done", "done", "refused", "refused", "done"]
    assert draws(tmp_path / "x") == list(enumerate(states))
    assert list(contents(tmp_path / "x")) == [f"{kind}/0-00000{k}.png" for kind in sorted(KINDS) for k in (1, 2, 5)]
    line = [line for line in lines(tmp_path / "x" / MANIFEST) if "index" in line][1]
    assert (line["seed"], line["reasons"], line["scores"]) == (0, [], {"luck": 1})
    assert line["files"]["alpha"] == "alpha/0-000001.png"


@pytest.mark.parametrize("engine", [lambda: Here(Coins(GOOD)), lambda: Processes(Coins(GOOD), 2, threads=1)])
def test_a_folder_is_the_same_whoever_works_on_it_and_however_often_it_is_cut_short(tmp_path: Path, engine) -> None:
    generated(order(tmp_path / "whole", 4), Here(Coins(GOOD)), Nobody())
    cut = tmp_path / "cut"
    for after in (2, 3):
        with pytest.raises(Killer.Killed):
            generated(order(cut, 4), engine(), Killer(after))
    with (cut / MANIFEST).open("a") as file:
        file.write('{"state": "done", "phot')  # the power went
    progress = generated(order(cut, 4), engine(), Nobody())
    assert (progress.kept, progress.draws) == (4, 3)
    assert contents(cut) == contents(tmp_path / "whole")
    assert draws(cut) == draws(tmp_path / "whole")
    more = generated(order(cut, 5), engine(), Nobody())
    assert (more.kept_now, more.drawn) == (1, 9)
    nothing = generated(order(cut, 2), engine(), Nobody())
    assert (nothing.kept, nothing.draws) == (5, 0)


def test_pictures_that_the_books_do_not_know_are_removed_and_others_are_let_be(tmp_path: Path) -> None:
    generated(order(tmp_path, 1), Here(Coins(GOOD)), Nobody())
    for name in ("0-000007.png", "1-000007.png", "mine.png"):
        (tmp_path / "image" / name).write_bytes(b"x")
    generated(order(tmp_path, 1), Here(Coins(GOOD)), Nobody())
    assert sorted(file.name for file in (tmp_path / "image").iterdir()) == ["0-000001.png", "1-000007.png", "mine.png"]


def test_other_settings_and_other_weights_are_told(tmp_path: Path) -> None:
    generated(order(tmp_path, 1, steps=8), Here(Coins(GOOD)), Nobody())
    with pytest.raises(UsageError, match=r"other settings \(steps 8, now 9\)"):
        generated(order(tmp_path, 1, steps=9), Here(Coins(GOOD)), Nobody())
    with pytest.raises(UsageError, match=r"drawing.seed 0, now 1"):
        generated(order(tmp_path, 1, seed=1, steps=8), Here(Coins(GOOD)), Nobody())
    with pytest.raises(SgmatteError, match="other weights"):
        generated(order(tmp_path, 2, steps=8), Here(Coins(GOOD, weights="b")), Nobody())
    assert draws(tmp_path) == [(0, "refused"), (1, "done")]


def test_settings_under_which_nothing_is_good_are_given_up(tmp_path: Path) -> None:
    with pytest.raises(SgmatteError, match=r"0 accepted of 100 drawn; refused: tails 100; .*--max-refused 0.9"):
        generated(order(tmp_path, 1), Here(Coins(())), Nobody())
    progress = generated(Order(tmp_path, 1, order(tmp_path, 1).options, 1.0), Here(Coins((101,))), Nobody())
    assert (progress.kept, progress.drawn) == (1, 102)


def test_books_of_something_else_are_refused(tmp_path: Path) -> None:
    line = {"state": "done", "task": "generate", "photo": "a.png", "settings": order(tmp_path, 1).settings}
    (tmp_path / MANIFEST).write_text(json.dumps(line) + "\n")
    with pytest.raises(UsageError, match="portraits 0, 1, 2"):
        generated(order(tmp_path, 1), Here(Coins(GOOD)), Nobody())


def test_a_worker_that_fails_ends_the_run_and_costs_nothing_else(tmp_path: Path) -> None:
    class Broken(Coins):
        def worker(self):
            work = super().worker()

            def breaks(job, observe):
                if job.index == 2:
                    raise MemoryError
                return work(job, observe)

            return breaks

    engine: Engine = Here(Broken(GOOD))
    with pytest.raises(SgmatteError, match=r"0-000002.png: there is not enough memory.*goes on where it was"):
        generated(order(tmp_path, 3), engine, Nobody())
    assert generated(order(tmp_path, 3), Here(Coins(GOOD)), Nobody()).drawn == 6


# --- the command


def test_the_command_makes_training_data_the_same_with_any_number_of_jobs(run: Run, tmp_path: Path) -> None:  # noqa: F811
    command = ["generate", "-n", 1, "--generator", GENERATOR, "--steps", 1, "--device", "cpu"]
    code, out, err = run(*command, "-o", tmp_path / "one", "--jobs", 1)
    assert code == 0, err
    assert out.strip() == str(tmp_path / "one" / "sheet.jpg")
    assert "1 accepted of 1 drawn; " in err.splitlines()[-1]
    assert "core seconds each" in err.splitlines()[-1]
    folder = PortraitFolder(tmp_path / "one")
    assert [path.stem for path in folder.images] == list(folder.alphas) == list(folder.foregrounds)
    assert set(np.unique(np.asarray(Image.open(tmp_path / "one/trimap/0-000000.png")))) == {0, 128, 255}
    assert Image.open(tmp_path / "one/image/0-000000.png").mode == "RGB"
    assert Image.open(tmp_path / "one/alpha/0-000000.png").mode == "L"

    code, out, err = run(*command, "-o", tmp_path / "two", "--jobs", 2, "--json")
    assert code == 0, err
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0]  # that the other drew too is one too many
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert (tmp_path / "two/sheet.jpg").read_bytes() == (tmp_path / "one/sheet.jpg").read_bytes()

    code, _, err = run(*command, "-o", tmp_path / "two", "--truncation", 0.5)
    assert code == 2
    assert "drawing.truncation 0.7, now 0.5" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--truncation", 1.5],
        ["--truncation", 0],
        ["--max-entropy", -1],
        ["--count", 0],
        ["--size", 512, "--generator", GENERATOR],
        ["--model", "none such"],
        ["--seed", -1],
    ],
)
def test_options_out_of_range_leave_nothing(run: Run, tmp_path: Path, options: list[object]) -> None:  # noqa: F811
    code, out, _ = run("generate", "-o", tmp_path / "x", "--generator", GENERATOR, "--device", "cpu", *options)
    assert (code, out) == (2, "")
    assert not (tmp_path / "x" / "image").exists()
