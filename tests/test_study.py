"""Studies of enhancement: rows that resume, what they say, and whose matte is kept."""

import json
import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from test_pipeline import Small
from typer.testing import CliRunner

from sgmatte import inversion, pipeline, zoo
from sgmatte.cli import study as cli_study
from sgmatte.cli.app import app
from sgmatte.device import chosen_device
from sgmatte.enhancement.choice import is_surer, joint_look, kept_matte
from sgmatte.enhancement.losses import boundary_entropy, consensus, doubt, inconsistency
from sgmatte.errors import DataError, UsageError, WeightError
from sgmatte.face import Quad, crop_of, detected_faces, ffhq_quad
from sgmatte.inversion import Stage
from sgmatte.photo import Photo
from sgmatte.results import Matte
from sgmatte.settings import Optimisation, Settings
from sgmatte.study import identity
from sgmatte.study.enhancing import numbered_problems, read_rows, study_rows
from sgmatte.study.page import filled_page, write_page
from sgmatte.study.pictures import extremes, write_plot, write_sheet
from sgmatte.study.summary import changes, fidelities, write_summary
from sgmatte.study.variants import VARIANTS, chosen_variants
from sgmatte.train.data import PortraitFolder
from sgmatte.trimaps import Confidence, Look


@pytest.fixture
def networks(monkeypatch):
    quick = partial(inversion.Schedule, w_plus=Stage(2, 0.3), noise=Stage(2, 0.1, 0.06), enough=0)
    monkeypatch.setattr(inversion, "Schedule", quick)
    monkeypatch.setattr(zoo, "_used", set())  # other tests open weights of manifests of their own
    monkeypatch.setattr(pipeline, "weight_hashes", lambda name, size: {"small": f"{name} {size}"})
    settings = Settings(generator="mobilestylegan", whole=True, optimisation=Optimisation(steps=2, rate=0.05))
    return Small(settings, chosen_device("cpu"))


def found(networks, data, folder, variants=("always",), count=2):
    subjects = numbered_problems(PortraitFolder(data / "portraits"), data / "backgrounds", count, 0)
    models = ["gca", "closed-form"]
    return study_rows(subjects, chosen_variants(list(variants)), models, networks, folder, {"seed": 0})


def test_a_study_goes_on_where_it_was(networks, data, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    rows, faceless = found(networks, data, folder, count=1)
    assert [(row.variant, row.model) for row in rows] == [("always", "gca"), ("always", "closed-form")]
    assert not faceless
    assert rows[0].psnr > 25
    assert rows[0].kept == "enhanced"
    assert rows[0].sad_before > 0
    worked = []
    monkeypatch.setattr("sgmatte.study.enhancing.moved_photo", lambda *a: worked.append(a) or pipeline.moved_photo(*a))
    again, _ = found(networks, data, folder, ["always", "surer"])
    assert len(worked) == 2  # once for each photo: whose matte is kept needs no other enhancement
    kept = read_rows(folder / "rows.csv")[:2]  # whose NaNs would not be equal
    assert [replace(row, identity=0) for row in again[:2]] == [
        replace(row, identity=0) for row in kept
    ]  # NaN is not NaN
    assert len(list((folder / "mobilestylegan-256-whole").iterdir())) == 2
    with pytest.raises(DataError, match="another study"):
        study_rows(iter(()), [], [], networks, folder, {"seed": 1})

    write_summary(folder, again)
    write_plot(folder, again)
    write_sheet(folder, extremes(again, "surer", "gca"))
    assert (folder / "summary.csv").read_text().count("\n") == 1 + 2 * 2 * 6
    sheet, strip = Image.open(folder / "extremes.png"), Image.open(next((folder / "strips").iterdir()))
    assert sheet.height == pytest.approx(2 * strip.height, abs=4)
    assert Image.open(folder / "changes.png").width == 800


def row(photo, before, after, **others):
    from sgmatte.study.enhancing import Row

    pairs = {
        f"{e}_{w}": v
        for e in ("sad", "mse", "sad_unknown", "mse_unknown", "gradient", "connectivity")
        for w, v in (("before", before), ("after", after))
    }
    about = {"entropy_before": 0.2, "entropy_after": 0.1, "doubt_before": 0.1, "doubt_after": 0.05, "kept": "enhanced"}
    about |= {"psnr": 40.0, "perceptual": 0.01, "psnr_inversion": 30.0, "seconds": 1.0}
    return Row(photo, "default", "gca", **pairs, **(about | others))


def test_faces_before_and_after_are_compared_where_an_embedding_is(networks, data, tmp_path, monkeypatch):
    class Brightness:
        def distance(self, first, second):
            assert first.shape == second.shape == (1, 3, 256, 256)
            return float((first - second).abs().mean())

    quad = Quad.whole(96, 96)
    monkeypatch.setattr("sgmatte.study.enhancing.face_quad", lambda image, settings: quad)
    monkeypatch.setattr("sgmatte.study.enhancing.face_embedding", Brightness)
    rows, _ = found(networks, data, tmp_path / "with", count=1)
    assert 0 < rows[0].identity < 0.1
    assert read_rows(tmp_path / "with" / "rows.csv")[0].identity == pytest.approx(rows[0].identity, rel=1e-4)
    monkeypatch.setattr("sgmatte.study.enhancing.face_embedding", lambda: None)
    rows, _ = found(networks, data, tmp_path / "without", count=1)
    assert math.isnan(rows[0].identity)


def test_an_embedding_tells_persons_apart_and_damage_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "find_spec", lambda name: None)
    assert identity.face_embedding() is None
    dlib = pytest.importorskip("dlib")  # the extra `identity`
    monkeypatch.undo()
    (tmp_path / identity.POINTS).write_bytes(b"no network")
    with pytest.raises(WeightError, match="install face-recognition-models anew"):
        identity.FaceEmbedding(tmp_path)
    embedding = identity.face_embedding()
    if embedding is None:
        pytest.skip(f"dlib {dlib.__version__} is here, its network is not")
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)[None] / 255
    face = crop_of(photo, ffhq_quad(detected_faces(photo)[0]), 256)
    assert embedding.distance(face, face) == 0
    assert embedding.distance(face, face.flip(3)) < identity.SAME < embedding.distance(face, face.flip(2))


def test_what_is_not_known_is_null_for_scripts():
    values = cli_study._known(asdict(fidelities([row("same", 10.0, 10.0, psnr=math.inf)])[0]))
    assert (values["psnr"], values["identity"], values["photos"]) == (None, None, 1)
    json.dumps(values, allow_nan=False)


def test_what_rows_say():
    rows = [row(str(k), 10.0, 9.0 - 0.1 * k) for k in range(7)] + [
        row("same", 10.0, 10.0, psnr=math.inf),
        row("bad", 10.0, 12.0),
    ]
    change = changes(rows)[0]
    assert (change.error, change.photos, change.before) == ("sad", 9, 10.0)
    assert change.after == pytest.approx(np.mean([r.sad_after for r in rows]))
    assert change.change == pytest.approx(change.after / 10 - 1)
    assert change.worse == pytest.approx(1 / 9)
    assert 0.01 < change.p < 0.3
    assert changes([row("a", 1.0, 1.0)])[0].p == 1
    fidelity = fidelities(rows)[0]
    assert (fidelity.psnr, fidelity.photos) == (40.0, 9)  # what did not change has no finite one
    assert [r.photo for r in extremes(rows, "default", "gca")] == ["6", "5", "4", "3", "1", "0", "same", "bad"]


def matte(alpha, entropy):
    picture = torch.zeros(1, 3, 2, 2)
    values = torch.tensor(alpha).float().view(1, 1, 2, 2)
    return Matte(
        Photo(Path("x"), picture), picture, torch.ones(1, 1, 2, 2).long(), values, Confidence(0, 1, 0, entropy)
    )


def test_the_surer_matte_is_kept():
    soft, firm = matte([0, 0.4, 0.6, 1], 0.2), matte([0, 0.1, 0.5, 1], 0.1)
    assert is_surer(firm, soft)
    assert not is_surer(soft, firm)
    assert not is_surer(firm, firm)
    assert not is_surer(matte([0, 0.1, 0.5, 1], 0.3), soft)  # alpha surer, trimap less so
    assert kept_matte(soft, firm, "better") == (firm, "both")
    assert kept_matte(soft, firm, "moved") == (firm, "enhanced")
    assert kept_matte(firm, soft, "better") == kept_matte(firm, soft, "moved") == (firm, "photo")
    assert kept_matte(firm, soft, "enhanced") == (soft, "enhanced")
    both, whose = kept_matte(soft, firm, "surer")
    torch.testing.assert_close(both.alpha.flatten(), torch.tensor([0, 0.1, 0.6, 1]))
    assert whose == "both"


def look(trimap, person, certain, entropy):
    person, certain = (torch.full(trimap.shape, x) if isinstance(x, float) else x for x in (person, certain))
    return Look(trimap, person, certain, Confidence(0, 1, 0, entropy))


def test_both_versions_say_what_is_whose_the_surer_one_louder():
    trimap = torch.ones(1, 1, 20, 300).long()
    trimap[..., 295:] = 0  # what the photo's own is certain of
    sides = (torch.arange(300) >= 150).float().expand(1, 1, 20, 300)
    own, moved = look(trimap, 0.4, 0.1, 0.2), look(2 * sides.long(), sides, 1.0, 0.1)
    joint = joint_look(own, moved)
    assert joint.person[0, 0, 0, 0].item() == pytest.approx(0.1 * 0.4 / 1.1)
    assert joint.person[0, 0, 0, 200].item() == pytest.approx((0.1 * 0.4 + 1) / 1.1)
    assert joint.certain[0, 0, 0, 0].item() == pytest.approx(0.55)
    assert joint.confidence == moved.confidence
    row = joint.trimap[0, 0, 0]  # settled where 3 pixels around are
    assert row.tolist() == [0] * 147 + [1] * 6 + [2] * 142 + [0] * 5


def test_nobody_learns_from_a_version_that_knows_nothing():
    trimap = torch.ones(1, 1, 4, 4).long()
    joint = joint_look(look(trimap, 0.7, 0.2, 0.2), look(trimap, 0.1, 0.0, 0.1))
    torch.testing.assert_close(joint.person, torch.full_like(joint.person, 0.7))
    assert torch.equal(joint.trimap, trimap)


def test_losses_that_might_help():
    logits = torch.tensor([[9.0, 0, 0], [0, 1, 0], [0, 9, 0], [0, 0, 9]]).T.reshape(1, 3, 2, 2)
    unsure = torch.tensor([0.0, 1, 0]).softmax(0)
    sure = torch.tensor([0.0, 9, 0]).softmax(0)
    expected = -sum(float((p * p.log()).sum()) for p in (unsure, sure)) / 2
    assert boundary_entropy(logits).item() == pytest.approx(expected, rel=1e-4)
    assert boundary_entropy(torch.tensor([9.0, 0, 0]).view(1, 3, 1, 1)).item() == 0
    assert consensus(torch.zeros(1, 3, 2, 2), logits.softmax(1)).item() == pytest.approx(math.log(3))
    assert doubt(torch.tensor([0.0, 0.5, 1, 1])).item() == pytest.approx(0.25)
    assert inconsistency(torch.zeros(4), torch.tensor([0.0, 0, 0, 1])).item() == pytest.approx(0.25)


def test_each_variant_differs_from_the_default():
    default = Settings()
    assert VARIANTS["default"].settings(default) == default
    assert all(v.settings(default) != default for name, v in VARIANTS.items() if name != "default")
    assert len({repr(v.settings(default)) for v in VARIANTS.values()}) == len(VARIANTS)
    with pytest.raises(UsageError, match="no variant 'none'"):
        chosen_variants(["none"])


def test_the_command_lists_variants(tmp_path):
    result = CliRunner().invoke(
        app, ["study", "enhance", "--data", str(tmp_path), "-o", str(tmp_path), "--variant", "list"]
    )
    assert result.exit_code == 0
    assert all(name in result.stdout for name in VARIANTS)


def test_a_page_is_filled_from_tables(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("Words.\n<!-- study: ours -->\nold\n<!-- end -->\nMore.\n")
    with pytest.raises(DataError, match=r"summary|fidelity"):
        write_page(page)
    write_summary(tmp_path / "results/ours", [row("a", 10.0, 9.0), row("b", 10.0, 8.0)])
    write_page(page)
    text = page.read_text()
    assert text.startswith("Words.\n<!-- study: ours -->\n")
    assert text.endswith("<!-- end -->\nMore.\n")
    assert "| default | gca | sad | 10 | 8.5 | -15.0% |" in text
    assert "| default | 2 | 40.0 dB, 40.0 |" in text
    assert "old" not in text
    write_page(page)
    assert page.read_text() == text
    page.write_text("Words.\n")
    with pytest.raises(DataError, match="no place for a study"):
        write_page(page)


def test_the_page_of_results_is_that_of_its_tables():
    page = Path(__file__).parents[1] / "docs/results.md"
    assert filled_page(page) == page.read_text(encoding="utf-8")
