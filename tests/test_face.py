import math

import pytest
import torch
from skimage import data

from sgmatte import landmarks
from sgmatte.errors import NoFaceError, UsageError, WeightError
from sgmatte.face import Face, Placement, Quad, chosen_face, crop_of, detected_faces, ffhq_quad

CPU = torch.device("cpu")


def photo(picture) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    return photo(data.astronaut())


def waves(height: int, width: int, period: float = 40.0) -> torch.Tensor:
    """A smooth picture (1, 3, H, W) in [0.1, 0.9]."""
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    planes = [torch.sin(2 * math.pi * (a * x + b * y) / period) for a, b in ((1, 0.3), (-0.4, 1), (0.7, -0.7))]
    return 0.5 + 0.4 * torch.stack(planes)[None]


def face(*points: tuple[float, float]) -> Face:
    return Face((0.0, 0.0, 1.0, 1.0), points, 1.0, "mtcnn")


def rotated_quad(centre: tuple[float, float], side: float, degrees: float) -> Quad:
    c, s = math.cos(math.radians(degrees)) * side, math.sin(math.radians(degrees)) * side
    return Quad((centre[0] - (c - s) / 2, centre[1] - (s + c) / 2), (c, s), (-s, c))


# Detection


def test_astronaut_is_found(astronaut):
    (found,) = detected_faces(astronaut)
    assert found.landmarks == "mtcnn"
    assert found.score > 0.99
    quad = ffhq_quad(found)
    assert quad.side == pytest.approx(173, abs=8)
    (x0, y0), _, (x1, y1), _ = quad.corners
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((225, 106), abs=3)


def test_large_photo_gives_the_same_face_in_its_own_pixels(astronaut):
    large = torch.nn.functional.interpolate(astronaut, (2048, 3072), mode="bilinear")
    (found,), (expected,) = detected_faces(large), detected_faces(astronaut)
    for (x, y), (ex, ey) in zip(found.points, expected.points, strict=True):
        assert (x, y) == pytest.approx((ex * 6, ey * 4), abs=24)


@pytest.mark.parametrize("degrees", [-30, 30])
def test_rotated_astronaut_is_aligned(astronaut, degrees):
    level = ffhq_quad(detected_faces(astronaut)[0])
    turned = crop_of(astronaut, rotated_quad((256.0, 180.0), 512, degrees), 512)
    quad = ffhq_quad(detected_faces(turned)[0])
    angle, level_angle = (math.degrees(math.atan2(q.right[1], q.right[0])) for q in (quad, level))
    assert angle - level_angle == pytest.approx(-degrees, abs=5)
    assert quad.side == pytest.approx(level.side, rel=0.06)
    difference = crop_of(turned, quad, 64) - crop_of(astronaut, level, 64)
    assert difference.abs().mean() < 0.06


def test_two_faces_are_sorted_by_size(astronaut):
    near = torch.nn.functional.interpolate(astronaut[..., :256, 96:352], (512, 512), mode="bilinear")
    faces = detected_faces(torch.cat([astronaut, near], dim=-1))
    assert len(faces) == 2
    assert faces[0].area > 2 * faces[1].area
    assert faces[0].box[0] > 512 > faces[1].box[2]
    assert chosen_face(faces) == faces[0]
    assert chosen_face(faces, 1) == faces[1]
    with pytest.raises(UsageError, match=r"no face 2.* 2 faces, --face 0 to 1"):
        chosen_face(faces, 2)


def test_plain_picture_has_no_face():
    with pytest.raises(NoFaceError, match="--whole"):
        chosen_face(detected_faces(torch.full((1, 3, 120, 160), 0.3)))


# Landmarks of the face-alignment package


def test_landmark_source_without_fan(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert landmarks.landmark_source("auto") == "mtcnn"
    assert landmarks.landmark_source("mtcnn") == "mtcnn"
    with pytest.raises(UsageError, match="auto, mtcnn, fan"):
        landmarks.landmark_source("dlib")
    with pytest.raises(WeightError, match=rf"s3fd-.* and 2DFAN4.* not found in {tmp_path}.*--landmarks mtcnn"):
        landmarks.landmark_source("fan")


def test_landmark_source_prefers_fan_where_all_of_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    detector, network = (url.rsplit("/", 1)[1] for url in landmarks._weight_urls())
    (folder / detector).touch()
    assert landmarks.landmark_source("auto") == "mtcnn"
    (folder / network).touch()
    assert landmarks.landmark_source("auto") == "fan"


def test_five_of_68():
    points = torch.zeros(1, 68, 2)
    points[0, 36:42] = torch.tensor([[0.0, 5], [1, 4], [2, 4], [3, 5], [2, 6], [1, 6]])
    points[0, 42:48] = points[0, 36:42] + torch.tensor([10.0, 1.0])
    points[0, 30], points[0, 48], points[0, 54] = torch.tensor([[6.0, 9], [3, 12], [10, 13]])
    assert landmarks.five_of_68(points)[0].tolist() == [[1.5, 5], [11.5, 6], [6, 9], [3, 12], [10, 13]]


# The FFHQ quad


def test_ffhq_quad_by_hand():
    # Eyes 40 apart, mouth 50 below: half a side is max(2 * 40, 1.8 * 50) = 90, the centre 5 below the eyes.
    quad = ffhq_quad(face((80, 100), (120, 100), (100, 125), (85, 150), (115, 150)))
    assert sum(quad.corners, ()) == pytest.approx((10, 15, 190, 15, 190, 195, 10, 195))
    assert quad.side == pytest.approx(180)


def test_ffhq_quad_of_a_face_lying_on_its_side():
    # The same face turned by 90 degrees clockwise: its up is the picture's right.
    quad = ffhq_quad(face((100, 80), (100, 120), (75, 100), (50, 85), (50, 115)))
    assert sum(quad.corners, ()) == pytest.approx((185, 10, 185, 190, 5, 190, 5, 10))


def test_ffhq_quad_weighs_skew_between_eyes_and_mouth():
    # Eyes level, mouth to the right: x is the mean direction of (60, 0) and of (50, -30), eye-to-mouth turned by 90.
    quad = ffhq_quad(face((0, 0), (60, 0), (30, 30), (50, 50), (70, 50)))
    assert math.atan2(quad.right[1], quad.right[0]) == pytest.approx(math.atan2(-30, 110))
    assert quad.side == pytest.approx(2 * max(120, 1.8 * math.hypot(30, 50)))


# Quads, crops and placements


def test_whole_quad_and_scaling():
    quad = Quad.whole(30, 40)
    assert quad.corners == ((0, 0), (40, 0), (40, 30), (0, 30))
    assert quad.scaled(0.5) == Quad.whole(15, 20)
    assert quad.scaled(2, 3) == Quad.whole(90, 80)
    assert rotated_quad((50, 60), 20, 33).side == pytest.approx(20)


def test_crop_of_a_ramp_has_exact_values():
    # The ramp's value at a pixel centre is that centre's coordinate / 100, so a crop's pixels tell where they lie.
    x = ((torch.arange(100) + 0.5) / 100).expand(100, 100)
    image = torch.stack([x, x.T, torch.zeros_like(x)])[None]
    quad = Quad((30.0, 40.0), (16.0, 8.0), (-8.0, 16.0))  # (u, v) = ((j + 0.5) / 16, (i + 0.5) / 16), step under 1.12
    crop = crop_of(image, quad, 16) * 100
    for i, j in ((0, 0), (0, 15), (15, 0), (7, 9)):
        u, v = (j + 0.5) / 16, (i + 0.5) / 16
        assert crop[0, :2, i, j].tolist() == pytest.approx([30 + 16 * u - 8 * v, 40 + 8 * u + 16 * v], abs=0.1)


def test_crop_of_pixels_on_the_grid_is_a_copy():
    image = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    quad = Quad((7.0, 9.0), (16.0, 0.0), (0.0, 16.0))
    assert torch.allclose(crop_of(image, quad, 16), image[..., 9:25, 7:23], atol=1e-5)


def test_crop_beyond_the_border_is_mirrored():
    image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    crop = crop_of(image, Quad((-4.0, -30.0), (32.0, 0.0), (0.0, 32.0)), 32)
    columns = [3, 2, 1, 0, *range(20), 19, 18, 17, 16, 15, 14, 13, 12]
    rows = [*range(10, 20), *range(19, -1, -1), 0, 1]  # mirrored at -1 | 0 and once more at -21 | -20
    assert torch.allclose(crop, image[..., rows, :][..., columns], atol=1e-5)


def test_shrinking_crop_is_low_passed():
    stripes = (torch.arange(512) % 2).float().expand(1, 3, 512, 512)  # finest detail there is
    for quad in (Quad.whole(512, 512), rotated_quad((256, 256), 300, 20)):
        crop = crop_of(stripes, quad, 64)
        assert (crop - 0.5).abs().max() < 0.03


@pytest.mark.parametrize("degrees", [0, 25, -160])
@pytest.mark.parametrize("size", [96, 256])
def test_crop_and_paste_round_trip(degrees, size):
    image = waves(240, 200)
    quad = rotated_quad((95, 130), 120, degrees)
    placement = Placement(quad, (240, 200), size)
    pasted = placement.pasted(image, crop_of(image, quad, size))
    assert (pasted - image).abs().max() < 0.012
    assert torch.equal(pasted[..., :20, :], image[..., :20, :])


def test_round_trip_at_the_border():
    image = waves(240, 200)
    quad = rotated_quad((150, 40), 160, 15)
    placement = Placement(quad, (240, 200), 160)
    pasted = placement.pasted(image, crop_of(image, quad, 160))
    assert (pasted - image)[..., 4:, :-4].abs().max() < 0.01
    assert (pasted - image).abs().max() < 0.05


def test_whole_replaces_everything():
    image, patch = waves(60, 80), waves(120, 120).flip(1)
    placement = Placement(Quad.whole(60, 80), (60, 80), 120)
    assert torch.equal(placement.mask, torch.ones(1, 1, 60, 80))
    pasted = placement.pasted(image, patch)
    expected = torch.nn.functional.interpolate(patch, (60, 80), mode="bicubic", antialias=True)
    assert torch.allclose(pasted, expected, atol=1e-4)


def test_square_photo_of_the_patch_size_is_an_identity():
    image, patch = waves(64, 64), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    quad = Quad.whole(64, 64)
    assert torch.allclose(crop_of(image, quad, 64), image, atol=1e-5)
    assert torch.allclose(Placement(quad, (64, 64), 64).pasted(image, patch), patch, atol=1e-5)


def test_feather_rises_from_the_sides():
    placement = Placement(Quad((10.0, 20.0), (100.0, 0.0), (0.0, 100.0)), (200, 200), 50, feather=0.2)
    assert (placement.columns, placement.rows) == (slice(10, 110), slice(20, 120))
    row = placement.mask[0, 0, 50]
    assert row[0] == pytest.approx(3 * 0.025**2 - 2 * 0.025**3, abs=1e-5)  # half a pixel in, of 20
    assert row[9:11].mean() == pytest.approx(0.5, abs=1e-3)
    assert (row[:20].diff() > 0).all()
    assert torch.equal(row[20:80], torch.ones(60))
    assert torch.allclose(placement.mask, placement.mask.flip(-1), atol=1e-5)
    assert torch.allclose(placement.mask, placement.mask.mT, atol=1e-5)


def test_no_feather_at_the_photo_s_border():
    placement = Placement(Quad((-5.0, 0.0), (60.0, 0.0), (0.0, 60.0)), (90, 55), 60, feather=0.2)
    assert (placement.columns, placement.rows) == (slice(0, 55), slice(0, 60))
    assert torch.equal(placement.mask[0, 0, :40], torch.ones(40, 55))  # left, top and right lie on or beyond it
    assert placement.mask[0, 0, -1].max() < 0.01


def test_hard_edge_covers_the_pixels_whose_centres_lie_inside():
    placement = Placement(Quad((10.6, 10.0), (20.0, 0.0), (0.0, 20.0)), (50, 50), 20, feather=0)
    assert placement.mask[0, 0, 5].nonzero().flatten().tolist() == list(range(1, 21))


def test_residual_of_nothing_changes_nothing():
    image = waves(100, 100)
    placement = Placement(rotated_quad((50, 50), 60, 12), (100, 100), 64)
    assert torch.equal(placement.added(image, torch.zeros(1, 3, 64, 64)), image)
    brighter = placement.added(image, torch.full((1, 3, 64, 64), 0.1))
    assert torch.allclose(brighter[..., 50, 50] - image[..., 50, 50], torch.tensor(0.1), atol=1e-6)


@pytest.mark.parametrize("mode", ["pasted", "added"])
def test_gradient_reaches_the_patch(mode):
    image = torch.rand(1, 3, 24, 20, dtype=torch.float64)
    patch = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    placement = Placement(rotated_quad((11, 12), 12, 20), (24, 20), 16)
    placement.mask = placement.mask.double()
    placement._resampling.grid = placement._resampling.grid.double()
    weights = torch.rand_like(image)
    loss = (getattr(placement, mode)(image, patch) * weights).sum()
    (gradient,) = torch.autograd.grad(loss, patch)
    step = torch.zeros_like(patch)
    step[0, 1, 8, 7] = 1e-3
    with torch.no_grad():
        moved = (getattr(placement, mode)(image, patch + step) * weights).sum()
    assert (moved - loss).item() / 1e-3 == pytest.approx(gradient[0, 1, 8, 7].item(), rel=1e-6)
    assert (gradient[..., 4:12, 4:12].abs() > 0).all()


def test_placement_follows_a_resized_photo():
    quad = rotated_quad((100, 120), 90, 10)
    full = Placement(quad, (240, 200), 64).added(torch.zeros(1, 3, 240, 200), waves(64, 64))
    half = Placement(quad.scaled(0.5), (120, 100), 64).added(torch.zeros(1, 3, 120, 100), waves(64, 64))
    assert (torch.nn.functional.avg_pool2d(full, 2) - half).abs().max() < 0.03


def test_quad_outside_the_photo_is_refused():
    with pytest.raises(ValueError, match="covers nothing"):
        Placement(Quad((300.0, 0.0), (50.0, 0.0), (0.0, 50.0)), (100, 100), 32)
    with pytest.raises(ValueError, match="covers nothing"):
        Placement(Quad((0.0, 0.0), (50.0, 0.0), (50.0, 0.0)), (100, 100), 32)
