"""The critic, the damage it learns to see, and that good and bad training pictures differ by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import default_collate

from sgmatte import zoo
from sgmatte.enhancement.backgrounds import background, synthetic_background
from sgmatte.enhancement.critics import chosen_critic
from sgmatte.errors import DataError, UsageError, WeightError
from sgmatte.nn.alphagan import PatchDiscriminator
from sgmatte.nn.critic import Critic, untrained_critic
from sgmatte.train.composites import Foregrounds
from sgmatte.train.critic import DAMAGES, VerdictSampler, damage_map, damaged, losses
from sgmatte.train.data import PortraitFolder


def disc(size: int, radius: float, softness: float = 6) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.clip((radius - np.hypot(x, y)) / softness + 0.5, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> VerdictSampler:
    """Three discs of one colour each in front of another, as portraits; two made-up backgrounds."""
    folder = tmp_path_factory.mktemp("portraits")
    for name in ("image", "alpha", "backgrounds"):
        (folder / name).mkdir()
    for k, (inside, outside) in enumerate(
        [((220, 180, 150), (20, 60, 20)), ((90, 60, 40), (200, 210, 230)), ((250, 240, 90), (60, 0, 90))]
    ):
        alpha = disc(160, 50)[..., None]
        photo = np.round(alpha * np.array(inside) + (1 - alpha) * np.array(outside)).astype(np.uint8)
        Image.fromarray(photo).save(folder / "image" / f"{k}.png")
        Image.fromarray(np.round(alpha[..., 0] * 255).astype(np.uint8)).save(folder / "alpha" / f"{k}.png")
        made_up = synthetic_background((160, 160), np.random.default_rng(k))
        Image.fromarray(np.round(made_up * 255).astype(np.uint8)).save(folder / "backgrounds" / f"{k}.png")
    backgrounds = sorted((folder / "backgrounds").iterdir())
    return VerdictSampler(Foregrounds.of(PortraitFolder(folder), folder / "cache"), backgrounds, size=64)


def test_one_verdict_for_each_whole_16_pixels() -> None:
    critic = Critic().eval()
    with torch.no_grad():
        assert critic(torch.rand(2, 3, 70, 96)).shape == (2, 1, 4, 6)


def test_an_alphagan_discriminator_judges_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = PatchDiscriminator(0.125).eval()
    zoo.save_weights(tmp_path / "d.safetensors", trained.state_dict(), trained.config, fp16=False)
    judge = chosen_critic(str(tmp_path / "d.safetensors"), torch.device("cpu"))
    placed, trimap = torch.rand(1, 3, 64, 80, requires_grad=True), torch.randint(0, 3, (1, 1, 64, 80))
    torch.testing.assert_close(judge(placed, trimap), trained(placed, trimap))
    assert torch.autograd.grad(judge(placed, trimap).sum(), placed)[0].abs().sum() > 0


def test_what_is_no_critic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--critic is 'composite' or a discriminator's file"):
        chosen_critic("nobody", torch.device("cpu"))
    save_file({"a": torch.ones(1)}, tmp_path / "broken.safetensors", metadata={"config": "{no json"})
    with pytest.raises(WeightError, match=r"broken\.safetensors: its config cannot be read"):
        chosen_critic(str(tmp_path / "broken.safetensors"), torch.device("cpu"))
    for name, config in (("none", {}), ("huge", {"width": 1e6}), ("odd", {"width": 0.25})):
        file = tmp_path / f"{name}.safetensors"
        zoo.save_weights(file, PatchDiscriminator(0.125).state_dict(), config)
        with pytest.raises(WeightError, match=f"{name}.safetensors"):
            chosen_critic(str(file), torch.device("cpu"))


def test_training_leaves_the_trunk_alone() -> None:
    critic = Critic().train()
    before = {key: value.clone() for key, value in critic.trunk.state_dict().items()}
    critic(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in critic.trunk.state_dict().items())
    assert all(parameter.grad is None for parameter in critic.trunk.parameters())
    assert all(parameter.grad is not None for parameter in critic.head.parameters())


def test_the_gradient_reaches_the_whole_picture_without_a_checkerboard() -> None:
    """Strided convolutions that overlap unevenly would print a grid into whatever is optimised against the critic."""
    torch.manual_seed(0)
    critic = untrained_critic().eval()
    total = torch.zeros(1, 3, 96, 96)
    for _ in range(4):
        picture = torch.rand(1, 3, 96, 96, requires_grad=True)
        total += torch.autograd.grad(critic(picture).sum(), picture)[0].square()
    cells = total[..., 16:-16, 16:-16].sum(dim=1).reshape(1, 16, 4, 16, 4).mean(dim=(0, 1, 3))  # by place in a 4x4 cell
    assert cells.min() > 0.2 * cells.max()


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_shows_and_stays_in_range(name: str) -> None:
    alpha = disc(96, 30)
    colours, photo = np.full((96, 96, 3), 0.8, np.float32), np.full((96, 96, 3), 0.2, np.float32)
    bad, bad_colours = damaged(name, alpha, colours, photo, np.random.default_rng(1))
    assert bad.dtype == np.float32
    assert bad.shape == alpha.shape
    assert 0 <= bad.min() <= bad.max() <= 1
    change = np.abs(bad[..., None] * bad_colours - alpha[..., None] * colours).mean()
    assert 0.001 < change < 0.6


def test_good_and_bad_share_everything_but_the_damage(sampler: VerdictSampler) -> None:
    """Away from the damage the twins are equal to the bit, noise included, so neither can give the other away."""
    equal_places = 0
    for k in range(12):
        pair = VerdictSampler(sampler.foregrounds, sampler.backgrounds, 64, untouched=0)(np.random.default_rng((3, k)))
        apart = (pair["good"] - pair["bad"]).abs()
        near = F.max_pool2d(pair["difference"].amax(dim=0)[None, None], 33, stride=1, padding=16)[0, 0]
        assert apart[:, near == 0].numel() == 0 or apart[:, near == 0].max() < 2 / 255
        equal_places += int((near == 0).sum())
    assert equal_places > 1000


def test_samples_depend_on_their_generator_alone(sampler: VerdictSampler) -> None:
    first, second, other = (sampler(np.random.default_rng((7, k))) for k in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["good"], other["good"])


def test_damage_map_marks_where_pictures_differ() -> None:
    difference = torch.zeros(1, 3, 128, 128)
    difference[..., 64:80, 16:32] = 0.5
    marked = damage_map(difference, 8)[0, 0].nonzero().tolist()
    assert sorted(marked) == [[row, column] for row in (3, 4, 5) for column in (0, 1, 2)]


def test_the_losses_teach_the_critic_to_tell(sampler: VerdictSampler) -> None:
    torch.manual_seed(0)
    critic = untrained_critic().train()
    batch = default_collate([sampler(np.random.default_rng((5, k))) for k in range(5)])
    optimizer = torch.optim.Adam(critic.head.parameters(), lr=4e-3)
    totals = []
    for _ in range(25):
        total = torch.stack(list(losses(critic, batch).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.6 * totals[0]
    with torch.no_grad():
        good, bad = (F.softplus(-critic(batch[key])).mean(dim=(1, 2, 3)) for key in ("good", "bad"))
    assert (bad > good).sum() >= 4


def test_made_up_backgrounds_are_seeded_smooth_and_varied() -> None:
    first, again, other = (background((90, 60), seed) for seed in (1, 1, 2))
    assert first.shape == (1, 3, 90, 60)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.02
    assert 0 <= first.min() <= first.max() <= 1
    assert (first[..., 1:] - first[..., :-1]).abs().mean() < 0.05


def test_backgrounds_of_a_folder_fill_the_size(tmp_path: Path) -> None:
    Image.new("RGB", (80, 40), (255, 0, 0)).save(tmp_path / "red.png")
    picture = background((50, 30), 0, tmp_path)
    torch.testing.assert_close(picture, torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 50, 30))
    with pytest.raises(DataError, match="no such folder"):
        background((50, 30), 0, tmp_path / "missing")
