"""The whole chain on a real portrait, with the bundled networks and a generator of random weights."""

from __future__ import annotations

import copy
import dataclasses
import json
from functools import cached_property, partial

import pytest
import torch
from PIL import Image
from skimage import data

from sgmatte import inversion, pipeline, zoo
from sgmatte.device import chosen_device
from sgmatte.enhancement import optimise
from sgmatte.errors import DataError, NoFaceError
from sgmatte.generator import StyleGAN2Generator
from sgmatte.inversion import Stage
from sgmatte.latents import SUFFIX, read_latents, write_latents
from sgmatte.nn.stylegan2 import Generator, StyledConv
from sgmatte.photo import read_photo
from sgmatte.pipeline import Networks, enhance_photo, invert_photo, matte_photo, trimap_photo
from sgmatte.results import write_enhanced
from sgmatte.settings import Optimisation, Settings
from sgmatte.trimaps import UNKNOWN, TrimapNetwork, trimap_model


class Small(Networks):
    @cached_property
    def generator(self):
        torch.manual_seed(0)
        network = Generator(256, channels=(16, 16, 8, 8, 8, 4, 4)).requires_grad_(False)
        for module in network.modules():
            if isinstance(module, StyledConv):
                module.noise["weight"].fill_(0.1)
        return StyleGAN2Generator(network, "small")

    @cached_property
    def trimap(self):
        bundled = trimap_model()
        return TrimapNetwork(bundled.network, 160, bundled.unknown_bias)  # the photo is as small


@pytest.fixture(scope="module")
def loaded():
    networks = Small(Settings(), chosen_device("cpu"))  # its encoder is loaded where it is first wanted
    assert networks.generator
    assert networks.trimap
    assert networks.matting
    assert networks.critic
    assert networks.perceptual
    return networks


@pytest.fixture
def networks(loaded, monkeypatch):
    quick = partial(inversion.Schedule, w_plus=Stage(3, 0.3), noise=Stage(2, 0.1, 0.06), enough=0)
    monkeypatch.setattr(inversion, "Schedule", quick)
    monkeypatch.setattr(zoo, "_used", {"gca.portrait"})  # other tests open weights of manifests of their own
    monkeypatch.setattr(pipeline, "weight_hashes", lambda name, size: {"small": f"{name} {size}"})

    def with_settings(**settings):
        settings.setdefault("optimisation", Optimisation(steps=2))
        same = copy.copy(loaded)
        same.settings = Settings(generator="mobilestylegan", size=256, **settings)
        return same

    return with_settings


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "astronaut.png"
    Image.fromarray(data.astronaut()[:300, 60:380]).resize((160, 150)).save(path)
    return path


def test_a_photo_becomes_six_files_of_its_own_size(networks, portrait, tmp_path):
    seen = []
    result = enhance_photo(portrait, networks(), lambda *stage: seen.append(stage))
    files = write_enhanced(result, tmp_path)
    kinds = ["enhanced", "trimap", "alpha", "cutout", "preview", "report"]
    assert [file.stem for file in files] == [f"astronaut_{kind}" for kind in kinds]
    opened = {kind: Image.open(file) for kind, file in zip(kinds[:4], files, strict=False)}
    assert {kind: (image.mode, image.size) for kind, image in opened.items()} == {
        "enhanced": ("RGB", (160, 150)),
        "trimap": ("L", (160, 150)),
        "alpha": ("L", (160, 150)),
        "cutout": ("RGBA", (160, 150)),
    }
    report = json.loads(files[-1].read_text())
    assert len(report["losses"]["enhancement"]) == 3
    assert len(report["losses"]["inversion"]) == 5
    assert report["trimap_entropy"]["after"] <= report["trimap_entropy"]["before"]
    assert {"gca.portrait", "w-encoder.faces"} <= set(report["weights"])  # and what no test before has opened
    assert list(report["seconds"]) == ["read", "inversion", "enhancement", "matte"]
    stages = list(dict.fromkeys(stage for stage, *_ in seen))
    assert stages == ["face", "inversion", "enhancement", "trimap", "alpha"]
    alpha = result.matte.alpha[0, 0]
    assert alpha[100, 80] == 1  # her suit
    assert alpha[5, 5] == 0


def test_without_steps_the_photo_is_matted_as_it_is(networks, portrait):
    enhanced = enhance_photo(portrait, networks(optimisation=Optimisation(steps=0)))
    matte = matte_photo(portrait, networks())
    torch.testing.assert_close(enhanced.image, read_photo(portrait).image)
    torch.testing.assert_close(enhanced.matte.alpha, matte.alpha)
    assert enhanced.matte.confidence == matte.confidence
    assert matte.confidence.unknown == pytest.approx(float((matte.trimap == UNKNOWN).float().mean()))
    assert 0 < matte.confidence.entropy < 1
    assert enhanced.report["psnr"]["enhanced_photo"] is None


CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


def test_what_memory_is_too_small_for_is_enhanced_smaller_and_says_so(networks, portrait, monkeypatch):
    """Stands in for a small machine alone: the sizes below are those of MobileStyleGAN, and all else is real."""
    tried = []

    def short(generator, crop, *rest, **options):
        tried.append(crop.shape[-1])
        if crop.shape[-1] > 256:
            raise RuntimeError(CPU)
        return inversion.inverted(generator, crop, *rest, **options)

    monkeypatch.setattr(pipeline, "inverted", short)
    large = networks()
    large.settings = dataclasses.replace(large.settings, size=1024)
    result = enhance_photo(portrait, large)
    assert tried == [1024, 512, 256]
    assert result.matte.photo.notes == ("memory is too small for it: it was enhanced with a picture of 256 pixels",)
    assert result.report["settings"]["size"] == 256
    assert list(result.report["seconds"]) == ["read", "inversion", "enhancement", "matte"]
    torch.testing.assert_close(result.image, enhance_photo(portrait, networks()).image)


def test_the_working_photo_is_made_smaller_last(networks, portrait, monkeypatch):
    shown = []

    def short(generator, inversion, scene, *rest, **options):
        shown.append(scene.photo.shape[-2:])
        if scene.photo.shape[-1] > 100:
            raise MemoryError
        return optimise.enhanced(generator, inversion, scene, *rest, **options)

    monkeypatch.setattr(pipeline, "WORKING_PIXELS", 150 * 160)
    monkeypatch.setattr(pipeline, "enhanced", short)
    result = enhance_photo(portrait, networks())
    assert shown == [(150, 160), (75, 80)]
    assert "with a picture of 256 pixels and the photo at half the working size" in result.matte.photo.notes[0]
    assert result.image.shape == (1, 3, 150, 160)
    monkeypatch.setattr(pipeline, "WORKING_PIXELS", 4 * 150 * 160)
    with pytest.raises(MemoryError):
        enhance_photo(portrait, networks())


def test_enhancing_from_a_latent_file_is_enhancing(networks, portrait, tmp_path):
    direct = enhance_photo(portrait, networks())
    latents, inversion = invert_photo(portrait, networks())
    assert len(inversion.losses) == 5
    file = tmp_path / f"astronaut{SUFFIX}"
    write_latents(file, latents)
    resumed = enhance_photo(portrait, networks(latents=tmp_path))
    assert torch.equal(resumed.image, direct.image)
    assert resumed.report["losses"]["inversion"] == []
    assert resumed.report["settings"]["latents"] == str(tmp_path)


def test_latents_go_round_and_belong_to_one_photo_and_one_generator(networks, portrait, tmp_path, monkeypatch):
    latents, _ = invert_photo(portrait, networks())
    file = tmp_path / "a.safetensors"
    write_latents(file, latents)
    again = read_latents(file)
    assert (again.quad, again.origin) == (latents.quad, latents.origin)
    assert torch.equal(again.w_plus, latents.w_plus)
    assert all(torch.equal(a, b) for a, b in zip(again.noise, latents.noise, strict=True))
    before = file.read_bytes()
    write_latents(file, again)
    assert file.read_bytes() == before

    other = tmp_path / "other.png"
    Image.open(portrait).crop((0, 0, 150, 150)).save(other)
    with pytest.raises(DataError, match=r"another size of photo \(160x150, not 150x150\)"):
        enhance_photo(other, networks(latents=file))
    monkeypatch.setattr(pipeline, "weight_hashes", lambda name, size: {"small": "trained anew"})
    with pytest.raises(DataError, match="another version of the generator's weights; run `sgmatte invert` again"):
        enhance_photo(portrait, networks(latents=file))


def test_files_that_are_no_latents_say_so(networks, portrait, tmp_path):
    with pytest.raises(DataError, match="no such latent file; `sgmatte invert` writes it"):
        enhance_photo(portrait, networks(latents=tmp_path))
    file = tmp_path / "no.safetensors"
    for content in (b"", b"no latents", b"\x10\0\0\0\0\0\0\0{}              "):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"not a (latent|readable safetensors) file"):
            read_latents(file)
    latents, _ = invert_photo(portrait, networks())
    write_latents(file, type(latents)(latents.w_plus[:, :3], latents.noise, latents.quad, latents.origin))
    with pytest.raises(DataError, match="do not fit the generator"):
        enhance_photo(portrait, networks(latents=file))


def test_a_photo_without_a_face_says_so_and_whole_does_without(networks, tmp_path):
    path = tmp_path / "wall.png"
    Image.new("RGB", (96, 64), (90, 120, 140)).save(path)
    with pytest.raises(NoFaceError, match="--whole"):
        enhance_photo(path, networks())
    assert enhance_photo(path, networks(whole=True)).image.shape == (1, 3, 64, 96)


def test_a_photo_need_be_no_file(networks, portrait):
    photo = read_photo(portrait)
    matte, again = (matte_photo(given, networks()) for given in (portrait, photo))
    assert torch.equal(again.alpha, matte.alpha)
    given = matte_photo(photo, networks(), trimap=matte.trimap)
    assert torch.equal(given.trimap, matte.trimap)  # but of what is unknown there, the trimap network is not asked
    assert torch.equal(given.alpha[matte.trimap != 1], matte.alpha[matte.trimap != 1])
    assert 0 < float((given.alpha - matte.alpha).abs().mean()) < 0.02
    assert torch.equal(trimap_photo(photo, networks())[1], matte.trimap)


def test_networks_that_two_settings_share_are_loaded_once():
    networks = Networks(Settings(), chosen_device("cpu"))
    other = networks.under(Settings(model="closed-form"))
    assert other.trimap is networks.trimap
    assert (networks.matting.name, other.matting.name) == ("gca", "closed-form")
    assert other.under(Settings()).matting is networks.matting
