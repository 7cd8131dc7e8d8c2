import pytest
import torch
from skimage import data

from sgmatte import zoo
from sgmatte.nn.mtcnn import MTCNN, kept, moved, squared


@pytest.fixture(scope="module")
def mtcnn() -> MTCNN:
    return zoo.load_into(MTCNN(), "mtcnn.facenet")


def photo(picture) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


def kept_by_loops(boxes: list, scores: list, overlap: float, of_smaller: bool) -> list[int]:
    """Non-maximum suppression, spelt out."""
    keep: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        ax0, ay0, ax1, ay1 = boxes[i]
        for k in keep:
            bx0, by0, bx1, by1 = boxes[k]
            common = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
            a, b = (ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0)
            if common > overlap * (min(a, b) if of_smaller else a + b - common):
                break
        else:
            keep.append(i)
    return keep


@pytest.mark.parametrize("of_smaller", [False, True])
def test_kept_agrees_with_loops(of_smaller):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(80, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(80, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(80, generator=generator)
    expected = kept_by_loops(boxes.tolist(), scores.tolist(), 0.4, of_smaller)
    assert kept(boxes, scores, 0.4, of_smaller=of_smaller).tolist() == expected
    assert 1 < len(expected) < 80


def test_kept_of_nothing_is_nothing():
    assert kept(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_moved_and_squared_by_hand():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    assert moved(boxes, torch.tensor([[0.1, -0.1, 0.5, 0.25]])).tolist() == [[12.0, 16.0, 40.0, 70.0]]
    assert squared(boxes).tolist() == [[0.0, 20.0, 40.0, 60.0]]


def test_astronaut_has_one_face_with_its_points_in_place(mtcnn):
    boxes, points, scores = mtcnn(photo(data.astronaut()), 40.0)
    assert len(boxes) == 1
    assert scores[0] > 0.99
    by_eye = torch.tensor([[204.0, 101.0], [247.0, 103.5], [224.5, 128.0], [201.5, 139.5], [245.0, 142.0]])
    assert (points[0] - by_eye).abs().max() < 2.5
    assert boxes[0, 0] < points[0, :, 0].min()
    assert boxes[0, 2] > points[0, :, 0].max()
    assert boxes[0, 1] < points[0, :, 1].min()
    assert boxes[0, 3] > points[0, :, 1].max()


def test_mirrored_photo_has_mirrored_points(mtcnn):
    image = photo(data.astronaut())
    points = mtcnn(image, 40.0)[1][0]
    mirrored = mtcnn(image.flip(-1), 40.0)[1][0]
    expected = torch.stack([512 - points[:, 0], points[:, 1]], dim=1)[[1, 0, 2, 4, 3]]
    assert (mirrored - expected).abs().max() < 1.5


def test_face_cut_by_the_border_is_found(mtcnn):
    cut = photo(data.astronaut())[..., 70:, 190:]  # forehead and half a cheek are missing
    boxes, points, _ = mtcnn(cut, 40.0)
    assert len(boxes) == 1
    assert (points[0, 2] - torch.tensor([34.5, 58.0])).abs().max() < 6  # the nose


@pytest.mark.parametrize("size", [(64, 48), (5, 7), (12, 300)])
def test_plain_picture_has_no_face(mtcnn, size):
    boxes, points, scores = mtcnn(torch.full((1, 3, *size), 0.5), 20.0)
    assert boxes.shape == (0, 4)
    assert points.shape == (0, 5, 2)
    assert scores.shape == (0,)
