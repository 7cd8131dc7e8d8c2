import numpy as np
import pytest
import torch

from sgmatte.preview import GAIN, contact_sheet, on_checkerboard, preview_image, resized


def inputs(height: int, width: int) -> dict[str, torch.Tensor]:
    photo = torch.full((1, 3, height, width), 0.4)
    alpha = torch.zeros(1, 1, height, width)
    alpha[..., width // 2 :] = 1
    trimap = alpha.long() * 2
    trimap[..., width // 2 - 1 : width // 2 + 1] = 1
    return {
        "photo": photo,
        "enhanced": photo + 0.02,
        "trimap": trimap,
        "alpha": alpha,
        "cutout": torch.cat([photo, alpha], dim=1),
    }


def colours(sheet: np.ndarray) -> set[tuple[int, ...]]:
    """Colours that fill more than a hundredth of a sheet."""
    values, counts = np.unique(sheet.reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(v) for v, n in zip(values.tolist(), counts, strict=True) if n > sheet.size / 300}


@pytest.mark.parametrize(("height", "width", "columns"), [(80, 60, 3), (60, 80, 3), (200, 50, 6), (50, 120, 2)])
def test_preview_layout_suits_the_photo(height, width, columns):
    sheet = preview_image(**inputs(height, width), panel=200)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    longest = max(height, width)
    least = columns * width * 200 / longest, 6 / columns * height * 200 / longest
    assert least[0] < sheet.shape[1] < max(least[0], columns * 240) + 12 * (columns + 1) + 1
    assert least[1] < sheet.shape[0] < least[1] + 6 / columns * 50 + 13


def test_preview_shows_what_it_was_given():
    found = colours(preview_image(**inputs(80, 60), panel=200))
    difference = round((0.5 + GAIN * 0.02) * 255)
    for grey in (round(0.4 * 255), round(0.42 * 255), difference, 0, 255, round(0.62 * 255), round(0.82 * 255)):
        assert (grey, grey, grey) in found


def test_preview_is_the_same_every_time():
    assert np.array_equal(preview_image(**inputs(40, 30), panel=100), preview_image(**inputs(40, 30), panel=100))


def test_checkerboard_hides_colours_of_transparent_pixels():
    cutout = torch.cat([torch.ones(1, 3, 48, 48), torch.zeros(1, 1, 48, 48)], dim=1)
    shown = on_checkerboard(cutout, 48)
    assert shown.unique().tolist() == pytest.approx([0.62, 0.82])
    assert shown[0, 0, 0, 0] != shown[0, 0, 0, 12]
    assert shown[0, 0, 0, 0] == shown[0, 0, 12, 12]
    cutout[:, 3] = 1
    assert torch.equal(on_checkerboard(cutout, 48), cutout[:, :3])


def test_contact_sheet_places_images_row_by_row():
    reds = [torch.tensor([v, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64) for v in (0.2, 0.6, 1.0)]
    sheet = contact_sheet(reds, ["a", "b", "c"], columns=2, panel=64)
    where = [np.argwhere((sheet == (round(v * 255), 0, 0)).all(axis=2)) for v in (0.2, 0.6, 1.0)]
    assert [len(w) for w in where] == [64 * 64] * 3
    a, b, c = (w.min(axis=0) for w in where)
    assert a[0] == b[0] < c[0]
    assert a[1] == c[1] < b[1]


def test_contact_sheet_leaves_room_for_long_labels():
    image = torch.zeros(1, 1, 32, 32)
    short, long = (contact_sheet([image] * 2, [label] * 2, columns=2, panel=32) for label in ("x", "a long label"))
    assert long.shape[1] > short.shape[1] + 80


def test_contact_sheet_refuses_missing_labels():
    with pytest.raises(ValueError, match="got 2 and 1"):
        contact_sheet([torch.zeros(1, 3, 8, 8)] * 2, ["one"], columns=2)


@pytest.mark.parametrize(("size", "expected"), [((80, 60), (40, 30)), ((10, 40), (10, 40)), ((9, 3000), (1, 40))])
def test_resized_to_the_longest_side(size, expected):
    assert tuple(resized(torch.rand(1, 2, *size), 40).shape[-2:]) == expected
