"""The optimisation loop with networks small enough to see through, so that what it promises can be checked exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.enhancement.losses import pixel_distance, trimap_entropy
from sgmatte.enhancement.optimise import SURROUNDINGS, WORKING_PIXELS, Scene, enhanced, learning_rate, working_scene
from sgmatte.errors import UsageError
from sgmatte.face import Quad, crop_of
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.settings import LossWeights, Optimisation
from sgmatte.trimaps import Look, confidence

SIZE = 32
QUAD = Quad((10.0, 8.0), (32.0, 0.0), (0.0, 32.0))


class Painter:
    """A generator: W+ paints an 8x8 picture, enlarged; the one noise map adds brightness."""

    def synthesis(self, w_plus: Tensor, noise: list[Tensor]) -> Tensor:
        coarse = w_plus[:, :, :192].sum(dim=1).view(-1, 3, 8, 8)
        return 0.5 + F.interpolate(coarse, (SIZE, SIZE), mode="bilinear") + 0.2 * noise[0]


class Brightness:
    """A trimap network: dark is background, bright is foreground, grey is unknown."""

    def logits(self, image: Tensor) -> Tensor:
        grey = image.mean(dim=1, keepdim=True)
        return torch.cat([8 * (0.4 - grey), torch.zeros_like(grey), 8 * (grey - 0.6)], dim=1)

    def look(self, image: Tensor) -> Look:
        logits = self.logits(image)
        trimap = logits.argmax(dim=1, keepdim=True)
        certain = 1 - logits.softmax(1)[:, 1:2]
        return Look(trimap, (logits[:, 2:] - logits[:, :1]).sigmoid(), certain, confidence(trimap))


class Threshold:
    """A matting model."""

    name, differentiable = "threshold", True

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        return torch.where(trimap == 1, image.mean(dim=1, keepdim=True).clamp(0, 1), trimap / 2)


class Pooled(PerceptualDistance):
    """Features are the 4x4 means."""

    name = "pooled"

    def features(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image, 4)]

    def total(self, squared: list[Tensor]) -> Tensor:
        return squared[0].sum(dim=1).mean(dim=(1, 2))


@dataclass
class Start:
    w_plus: Tensor
    noise: list[Tensor]


@pytest.fixture
def judges() -> SimpleNamespace:
    critic = torch.nn.Conv2d(3, 1, 4, stride=4).requires_grad_(False)
    torch.nn.init.normal_(critic.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(
        trimap=Brightness(), matting=Threshold(), critic=lambda placed, trimap: critic(placed), perceptual=Pooled()
    )


@pytest.fixture
def photo() -> Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    return F.interpolate(coarse, (48, 60), mode="bicubic").clamp(0.02, 0.98)


@pytest.fixture
def scene(photo: Tensor, judges: SimpleNamespace) -> Scene:
    return working_scene(photo, QUAD, SIZE, judges, seed=1)


@pytest.fixture
def start() -> Start:
    generator = torch.Generator().manual_seed(2)
    return Start(
        0.1 * torch.randn(1, 5, 512, generator=generator), [torch.randn(1, 1, SIZE, SIZE, generator=generator)]
    )


ONLY_ENTROPY = LossWeights(entropy=1, pixels=0, perceptual=0, adversarial=0)


def test_a_step_of_zero_delivers_the_photo_itself(
    photo: Tensor, scene: Scene, judges: SimpleNamespace, start: Start
) -> None:
    result = enhanced(Painter(), start, scene, judges, settings=Optimisation(steps=0))
    torch.testing.assert_close(result.delivered(photo, QUAD), photo)
    assert result.best == 0
    assert len(result.losses) == 1
    assert result.losses[0]["pixels"] == result.losses[0]["perceptual"] == 0


def test_entropy_falls_and_every_step_is_recorded(scene: Scene, judges: SimpleNamespace, start: Start) -> None:
    seen: list[tuple[int, int]] = []
    result = enhanced(
        Painter(),
        start,
        scene,
        judges,
        ONLY_ENTROPY,
        Optimisation(steps=8, rate=0.05),
        observe=lambda step, steps, row: seen.append((step, steps)),
    )
    assert seen == [(step, 8) for step in range(9)]
    assert len(result.losses) == 9
    assert set(result.losses[0]) == {"entropy", "pixels", "perceptual", "total"}
    assert result.losses[result.best]["entropy"] < 0.95 * result.losses[0]["entropy"]


def test_the_best_step_is_kept(scene: Scene, judges: SimpleNamespace, start: Start) -> None:
    """With a rate far too high the loss rises in the end; what comes back is the best point and its own picture."""
    result = enhanced(Painter(), start, scene, judges, settings=Optimisation(steps=6, rate=0.3))
    totals = [row["total"] for row in result.losses]
    assert totals[result.best] == min(totals)
    torch.testing.assert_close(result.image, Painter().synthesis(result.w_plus, result.noise))
    torch.testing.assert_close(result.change, result.image - Painter().synthesis(start.w_plus, start.noise))


@pytest.mark.parametrize("paste", ["residual", "full"])
def test_losses_are_those_of_the_delivered_picture(
    photo: Tensor, scene: Scene, judges: SimpleNamespace, start: Start, paste: str
) -> None:
    result = enhanced(Painter(), start, scene, judges, ONLY_ENTROPY, Optimisation(steps=4, rate=0.01, paste=paste))
    delivered = result.delivered(scene.photo, QUAD)  # the working photo of this scene has the photo's own size
    kept = result.losses[result.best]
    assert trimap_entropy(judges.trimap.logits(delivered)).item() == pytest.approx(kept["entropy"], rel=1e-4)
    crop = result.image if paste == "full" else crop_of(photo, QUAD, SIZE) + result.change
    assert pixel_distance(crop, crop_of(photo, QUAD, SIZE)).item() == pytest.approx(kept["pixels"], rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("paste", ["residual", "full"])
def test_the_photo_outside_the_quad_stays(
    photo: Tensor, scene: Scene, judges: SimpleNamespace, start: Start, paste: str
) -> None:
    result = enhanced(Painter(), start, scene, judges, ONLY_ENTROPY, Optimisation(steps=3, rate=0.05, paste=paste))
    delivered = result.delivered(photo, QUAD)
    inside = torch.zeros_like(photo, dtype=torch.bool)
    inside[..., 8:40, 10:42] = True
    assert torch.equal(delivered[~inside], photo[~inside])
    assert (delivered - photo)[inside].abs().max() > 0.01
    assert 0 <= delivered.min() <= delivered.max() <= 1


@pytest.mark.parametrize("variables", ["latent", "noise", "both"])
def test_only_the_chosen_variables_move(scene: Scene, judges: SimpleNamespace, start: Start, variables: str) -> None:
    settings = Optimisation(variables=variables, steps=3, rate=0.01)
    result = enhanced(Painter(), start, scene, judges, ONLY_ENTROPY, settings)
    assert result.best > 0
    assert torch.equal(result.w_plus, start.w_plus) == (variables == "noise")
    assert torch.equal(result.noise[0], start.noise[0]) == (variables == "latent")


def test_twice_the_same(scene: Scene, judges: SimpleNamespace, start: Start) -> None:
    first, second = (enhanced(Painter(), start, scene, judges, settings=Optimisation(steps=3)) for _ in range(2))
    assert first.losses == second.losses
    assert torch.equal(first.image, second.image)


def test_pixels_and_perceptual_hold_the_portrait(scene: Scene, judges: SimpleNamespace, start: Start) -> None:
    settings = Optimisation(steps=8, rate=0.01)
    free = enhanced(Painter(), start, scene, judges, ONLY_ENTROPY, settings)
    held = enhanced(Painter(), start, scene, judges, replace(ONLY_ENTROPY, pixels=10, perceptual=100), settings)
    assert held.change.abs().mean() < 0.7 * free.change.abs().mean()


def test_the_adversarial_loss_pulls_on_the_alpha(scene: Scene, judges: SimpleNamespace, start: Start) -> None:
    weights = LossWeights(entropy=0, pixels=0, perceptual=0, adversarial=1)
    result = enhanced(Painter(), start, scene, judges, weights, Optimisation(steps=5, rate=0.01))
    assert result.losses[result.best]["adversarial"] < result.losses[0]["adversarial"]


def test_a_model_without_gradient_needs_the_adversarial_weight_at_0(
    scene: Scene, judges: SimpleNamespace, start: Start
) -> None:
    judges.matting.differentiable = False
    with pytest.raises(UsageError, match="threshold has none"):
        enhanced(Painter(), start, scene, judges, LossWeights(adversarial=1))
    result = enhanced(Painter(), start, scene, judges, ONLY_ENTROPY, Optimisation(steps=1))
    assert "adversarial" not in result.losses[0]


def test_the_working_photo_shows_the_quad_at_the_generators_resolution(judges: SimpleNamespace) -> None:
    photo = torch.rand(1, 3, 300, 240, generator=torch.Generator().manual_seed(0))
    scene = working_scene(photo, Quad((60.0, 50.0), (128.0, 0.0), (0.0, 128.0)), SIZE, judges)
    assert scene.photo.shape == (1, 3, 75, 60)
    assert scene.foreground.shape == scene.background.shape == scene.photo.shape
    assert scene.crop.shape == (1, 3, SIZE, SIZE)
    columns = scene.placement.columns
    assert (columns.start, columns.stop) == (15, 47)


def test_the_working_photo_is_at_most_the_papers_matting_size_and_never_enlarged(judges: SimpleNamespace) -> None:
    large = torch.rand(1, 3, 1000, 1500, generator=torch.Generator().manual_seed(0))
    scene = working_scene(large, Quad((0.0, 0.0), (40.0, 0.0), (0.0, 40.0)), SIZE, judges)
    assert 0.99 * WORKING_PIXELS < scene.photo[0, 0].numel() < 1.01 * WORKING_PIXELS
    small = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    assert working_scene(small, Quad.whole(20, 24), SIZE, judges).photo.shape == small.shape


def test_w_plus_takes_a_fifth_of_the_rate(scene: Scene, judges: SimpleNamespace, start: Start) -> None:
    result = enhanced(Painter(), start, scene, judges, ONLY_ENTROPY, Optimisation(steps=1, rate=0.01))
    assert result.best == 1
    first = learning_rate(0, Optimisation(steps=1, rate=0.01))  # Adam's first step is the rate itself
    assert (result.noise[0] - start.noise[0]).abs().max() == pytest.approx(first, rel=1e-3)
    assert (result.w_plus - start.w_plus).abs().max() == pytest.approx(0.2 * first, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"variables": "z"}, {"paste": "over"}, {"steps": -1}, {"rate": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Optimisation(**wrong)


def test_the_rate_warms_up_and_fades() -> None:
    settings = Optimisation(steps=50, rate=0.1)
    rates = [learning_rate(step, settings) for step in range(50)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == rates[4] < 0.1
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 0.0002


def test_the_window_holds_all_that_can_change(judges: SimpleNamespace) -> None:
    photo = torch.full((1, 3, 200, 240), 0.5)
    scene = working_scene(photo, QUAD, SIZE, judges, seed=1)
    rows, columns = scene.window
    assert (rows, columns) == (slice(0, 40 + SURROUNDINGS), slice(0, 42 + SURROUNDINGS))
    changed = scene.placement.added(photo, torch.ones(1, 3, SIZE, SIZE)) != photo
    assert changed.any()
    assert not changed[..., rows.stop :, :].any()
    assert not changed[..., columns.stop :].any()
    assert scene.part(photo).shape == scene.foreground.shape == scene.background.shape
