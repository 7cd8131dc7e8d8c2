"""Faces in a photo, the aligned crop that a face generator expects, and the way back into the photo.

Coordinates are continuous photo pixels: pixel (row i, column j) covers [j, j + 1] x [i, i + 1], so its centre lies at
(j + 0.5, i + 0.5) and the photo is [0, W] x [0, H]. That is `align_corners=False` of torch.
Left and right are those of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte import zoo
from sgmatte.errors import NoFaceError, UsageError
from sgmatte.landmarks import fan_faces, landmark_source
from sgmatte.nn.mtcnn import MTCNN

Point = tuple[float, float]

SEARCHED = 1000  # longest side of the photo that faces are searched in
LEAST_FACE = 0.04  # of the photo's longest side
SURE = 0.9  # score; below it lie tattoos, and faces that turn away


@dataclass(frozen=True)
class Face:
    """A face in a photo, in photo pixels."""

    box: tuple[float, ...]  # x0, y0, x1, y1
    points: tuple[Point, ...]  # left eye, right eye, nose, mouth left, mouth right
    score: float  # in [0, 1]
    landmarks: str  # which network found the points: mtcnn or fan

    @property
    def area(self) -> float:
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


def detected_faces(image: Tensor, device: torch.device | None = None, landmarks: str = "auto") -> list[Face]:
    """The faces of a photo (1, 3, H, W) in [0, 1], largest first.

    Args:
        landmarks: "mtcnn", "fan" (face-alignment, where its weights are present), or "auto", which takes fan if it can.

    Raises:
        UsageError: unknown `landmarks`.
        WeightError: "fan" without its weights.
    """
    source = landmark_source(landmarks)
    device = device or image.device
    height, width = image.shape[-2:]
    scale = min(1.0, SEARCHED / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(image, size, mode="area").to(device) if scale < 1 else image.to(device)
    if source == "fan":
        boxes, points, scores = fan_faces(small)
    else:
        boxes, points, scores = mtcnn(device)(small, max(20.0, LEAST_FACE * max(size)))
    to_photo = torch.tensor([width / size[1], height / size[0]], dtype=torch.float64)
    faces = [
        Face(tuple(box.tolist()), tuple((x, y) for x, y in five.tolist()), float(score), source)
        for box, five, score in zip(boxes.cpu() * to_photo.repeat(2), points.cpu() * to_photo, scores, strict=True)
    ]
    sure = [face for face in faces if face.score >= SURE]
    return sorted(sure or faces, key=lambda face: face.area, reverse=True)


@cache
def mtcnn(device: torch.device) -> MTCNN:
    """The bundled face detector.

    Raises:
        WeightError: see `zoo.path`.
    """
    return zoo.load_into(MTCNN(), "mtcnn.facenet").to(device)


def chosen_face(faces: Sequence[Face], index: int = 0) -> Face:
    """The face number `index`; 0 is the largest.

    Raises:
        NoFaceError: there is none.
        UsageError: there are fewer.
    """
    if not faces:
        raise NoFaceError("no face found in the photo; use --whole to work on the whole photo instead")
    if not 0 <= index < len(faces):
        known = "one face, --face 0" if len(faces) == 1 else f"{len(faces)} faces, --face 0 to {len(faces) - 1}"
        raise UsageError(f"there is no face {index}: the photo shows {known} (0 is the largest)")
    return faces[index]


@dataclass(frozen=True)
class Quad:
    """Where a square picture lies in a photo: its point (u, v) in [0, 1]^2 at `corner` + u * `right` + v * `down`."""

    corner: Point
    right: Point
    down: Point

    @classmethod
    def whole(cls, height: float, width: float) -> Quad:
        """The whole photo, stretched to a square."""
        return cls((0.0, 0.0), (float(width), 0.0), (0.0, float(height)))

    @property
    def corners(self) -> tuple[Point, Point, Point, Point]:
        """Top left, top right, bottom right, bottom left."""
        (x, y), (rx, ry), (dx, dy) = self.corner, self.right, self.down
        return (x, y), (x + rx, y + ry), (x + rx + dx, y + ry + dy), (x + dx, y + dy)

    @property
    def side(self) -> float:
        """Length in photo pixels; of an oblong, that of the square with the same area."""
        return math.sqrt(abs(self.right[0] * self.down[1] - self.right[1] * self.down[0]))

    def scaled(self, horizontally: float, vertically: float | None = None) -> Quad:
        """The same place in a photo that was resized by these factors."""
        vertically = horizontally if vertically is None else vertically
        return Quad(*((x * horizontally, y * vertically) for x, y in (self.corner, self.right, self.down)))


def ffhq_quad(face: Face) -> Quad:
    """The square that FFHQ would have cut out around a face.

    FFHQ takes the mean eye centres and the mouth's corners of 68 landmarks. The square's horizontal runs along the mean
    of the line between the eyes and the normal of the line from eyes to mouth, half its side is the larger of 2 eye
    distances and 1.8 eye-to-mouth distances, and its centre lies a tenth below the eyes on the way to the mouth.
    (Karras, Laine, Aila: A Style-Based Generator Architecture for GANs, CVPR 2019, appendix A; the numbers are those of
    the dataset's own script, NVlabs/ffhq-dataset.)
    """
    left, right, _, mouth_left, mouth_right = (complex(*point) for point in face.points)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    eye_to_eye, eye_to_mouth = right - left, mouth - eyes
    across = eye_to_eye - eye_to_mouth * 1j  # in picture coordinates, * -1j turns downwards into rightwards
    x = across / abs(across) * max(abs(eye_to_eye) * 2.0, abs(eye_to_mouth) * 1.8)
    y = x * 1j
    centre = eyes + eye_to_mouth * 0.1
    corner = centre - x - y
    return Quad((corner.real, corner.imag), (2 * x.real, 2 * x.imag), (2 * y.real, 2 * y.imag))


def crop_of(image: Tensor, quad: Quad, size: int) -> Tensor:
    """What a photo (N, 3, H, W) shows inside a quad, (N, 3, size, size) in [0, 1].

    Low-passed where it shrinks; beyond the photo's border, the photo's mirror image, as in FFHQ (which also blurs it).
    """
    height, width = image.shape[-2:]
    columns, rows = _extent(quad)
    if columns.start < 0 or rows.start < 0 or columns.stop > width or rows.stop > height:
        region = image.index_select(-2, _mirrored(rows, height, image.device))
        region = region.index_select(-1, _mirrored(columns, width, image.device))
    else:
        region = image[..., rows, columns]
    x, y = quad.corner
    step = 1 / size
    resampling = _Resampling(
        (x - columns.start, y - rows.start),
        (quad.right[0] * step, quad.right[1] * step),
        (quad.down[0] * step, quad.down[1] * step),
        source=(region.shape[-2], region.shape[-1]),
        target=(size, size),
        device=image.device,
    )
    return resampling(region).clamp(0, 1)  # bicubic overshoots at edges


class Placement:
    """Where, and how softly, a square picture enters a photo: computed once, applied in every step of an optimisation.

    Attributes:
        rows, columns: the part of the photo that the quad touches.
        mask: (1, 1, h, w) over that part; 1 inside the quad, falling smoothly to 0 over the `feather` next to its sides
            (a fraction of their length). A side that lies on or beyond the photo's border has no feather.
    """

    def __init__(
        self,
        quad: Quad,
        photo_size: tuple[int, int],
        patch_size: int,
        feather: float = 0.1,
        device: torch.device | None = None,
    ) -> None:
        """`photo_size` is (H, W), `patch_size` the side of the square in its own pixels.

        Raises:
            ValueError: the quad lies outside the photo or has no area.
        """
        height, width = photo_size
        (rx, ry), (dx, dy) = quad.right, quad.down
        determinant = rx * dy - ry * dx
        columns, rows = _extent(quad)
        self.columns = slice(max(0, columns.start), min(width, columns.stop))
        self.rows = slice(max(0, rows.start), min(height, rows.stop))
        if determinant == 0 or self.columns.start >= self.columns.stop or self.rows.start >= self.rows.stop:
            raise ValueError(f"{quad} covers nothing of a photo of {width} x {height} pixels")
        # The inverse of (u, v) -> corner + u * right + v * down, in the patch's pixels.
        across = (dy * patch_size / determinant, -ry * patch_size / determinant)  # patch pixels per column of the photo
        along = (-dx * patch_size / determinant, rx * patch_size / determinant)  # and per row
        x, y = self.columns.start - quad.corner[0], self.rows.start - quad.corner[1]
        self._resampling = _Resampling(
            (x * across[0] + y * along[0], x * across[1] + y * along[1]),
            across,
            along,
            source=(patch_size, patch_size),
            target=(self.rows.stop - self.rows.start, self.columns.stop - self.columns.start),
            device=device or torch.device("cpu"),
        )
        self.mask = self._feathered(quad, photo_size, feather)

    def _feathered(self, quad: Quad, photo_size: tuple[int, int], feather: float) -> Tensor:
        height, width = photo_size
        top_left, top_right, bottom_right, bottom_left = quad.corners
        u, v = ((self._resampling.grid + 1) / 2).unbind(dim=-1)  # (1, h, w) each
        mask = torch.ones_like(u)
        for depth, (start, end) in (
            (u, (top_left, bottom_left)),
            (1 - u, (top_right, bottom_right)),
            (v, (top_left, top_right)),
            (1 - v, (bottom_left, bottom_right)),
        ):
            if feather > 0 and not _beyond(start, end, height, width):
                ramp = (depth / feather).clamp(0, 1)
                mask *= ramp * ramp * (3 - 2 * ramp)
            else:
                mask *= depth > 0
        return mask[None]

    def warped(self, patch: Tensor) -> Tensor:
        """A patch (N, C, S, S) in the pixels of the photo's part, (N, C, h, w); not clamped."""
        return self._resampling(patch)

    def pasted(self, photo: Tensor, patch: Tensor) -> Tensor:
        """The photo (N, 3, H, W) with the patch over it."""
        part = photo[..., self.rows, self.columns]
        return self._replaced(photo, part + self.mask * (self.warped(patch) - part))

    def added(self, photo: Tensor, residual: Tensor) -> Tensor:
        """The photo (N, 3, H, W) plus a residual; not clamped."""
        return self._replaced(photo, photo[..., self.rows, self.columns] + self.mask * self.warped(residual))

    def _replaced(self, photo: Tensor, part: Tensor) -> Tensor:
        changed = photo.clone()
        changed[..., self.rows, self.columns] = part
        return changed


class _Resampling:
    """An affine map of pixels: low-pass where it shrinks, then bicubic.

    The target's point (i, j) shows the source's point `origin` + j * `across` + i * `along`, in continuous coordinates.
    """

    def __init__(
        self,
        origin: Point,
        across: Point,
        along: Point,
        *,
        source: tuple[int, int],
        target: tuple[int, int],
        device: torch.device,
    ) -> None:
        height, width = source
        step_x, step_y = math.hypot(across[0], along[0]), math.hypot(across[1], along[1])  # source pixels per pixel
        self.reduced = max(1, round(height / max(1.0, step_y))), max(1, round(width / max(1.0, step_x)))
        rows = torch.arange(target[0], device=device)[:, None] + 0.5
        columns = torch.arange(target[1], device=device) + 0.5
        x = (2 / width * origin[0] - 1) + columns * (2 / width * across[0]) + rows * (2 / width * along[0])
        y = (2 / height * origin[1] - 1) + columns * (2 / height * across[1]) + rows * (2 / height * along[1])
        self.grid = torch.stack([x, y], dim=-1)[None]  # (1, h, w, 2), in [-1, 1] on the source

    def __call__(self, image: Tensor) -> Tensor:
        if self.reduced != tuple(image.shape[-2:]):
            image = F.interpolate(image, self.reduced, mode="bicubic", antialias=True, align_corners=False)
        grid = self.grid.expand(len(image), -1, -1, -1)
        return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)


def _extent(quad: Quad) -> tuple[slice, slice]:
    """Columns and rows of the pixels that a quad touches, the photo's border notwithstanding."""
    xs, ys = zip(*quad.corners, strict=True)
    return slice(math.floor(min(xs)), math.ceil(max(xs))), slice(math.floor(min(ys)), math.ceil(max(ys)))


def _mirrored(span: slice, size: int, device: torch.device) -> Tensor:
    """Indices of a span of pixels in a photo that goes on as its own mirror image, edge pixel repeated, for ever."""
    index = torch.arange(span.start, span.stop, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def _beyond(start: Point, end: Point, height: int, width: int) -> bool:
    """Whether a side lies on or beyond one border of the photo, to a hundredth of a pixel."""
    (x0, y0), (x1, y1) = start, end
    return max(x0, x1) <= 0.01 or max(y0, y1) <= 0.01 or min(x0, x1) >= width - 0.01 or min(y0, y1) >= height - 0.01
