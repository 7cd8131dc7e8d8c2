"""MTCNN: a cascade of three small networks that finds faces and five points on each.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment Using Multi-task Cascaded Convolutional Networks, IEEE SPL
2016. PNet looks at every 12 x 12 window of an image pyramid, RNet at the windows that are left, in 24 x 24 pixels, ONet
at what remains, in 48 x 48; each scores its window and moves its sides.

Coordinates are continuous: pixel (row i, column j) covers [j, j + 1] x [i, i + 1], an image [0, W] x [0, H].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PYRAMID_STEP = 0.709  # the paper halves the area from level to level
CELL, STRIDE = 12, 2  # PNet's window, and how far apart its outputs lie
SHIFT = 0.06  # of a window's side, between the windows whose points are averaged
THRESHOLDS = (0.6, 0.7, 0.7)  # least score to pass PNet, RNet, ONet


class PNet(nn.Module):
    """Fully convolutional: a score and a box offset for every window of 12 x 12 pixels, 2 pixels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, h, w) and box offsets (N, 4, h, w)."""
        x = F.max_pool2d(self.prelu1(self.conv1(image)), 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(dim=1)[:, 1], self.conv4_2(x)


class RNet(nn.Module):
    """Windows of 24 x 24 -> scores (N,), box offsets (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(windows)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))  # (N, 64, 3, 3)
        x = self.prelu4(self.dense4(_flattened(x)))
        return self.dense5_1(x).softmax(dim=1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """Windows of 48 x 48 -> scores (N,), box offsets (N, 4), points (N, 5, 2) as fractions of the window."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(windows)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x))  # (N, 128, 3, 3)
        x = self.prelu5(self.dense5(_flattened(x)))
        points = self.dense6_3(x).unflatten(1, (2, 5)).transpose(1, 2)  # stored as x0..x4, y0..y4
        return self.dense6_1(x).softmax(dim=1)[:, 1], self.dense6_2(x), points


def _flattened(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, W * H * C): the order of the original, which read its images transposed."""
    return features.permute(0, 3, 2, 1).flatten(1)


class MTCNN(nn.Module):
    """The cascade. Call it with an image (1, 3, H, W) in [0, 1] and the least face size, in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()

    @torch.inference_mode()
    def forward(self, image: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4) as x0, y0, x1, y1, points (N, 5, 2) as x, y, and scores (N,); best score first.

        The points are the eye and the mouth corner on the picture's left, their twins on its right and the nose, in the
        order left eye, right eye, nose, mouth left, mouth right. N is 0 where there is no face.
        """
        image = (image * 255 - 127.5) * 0.0078125  # the range that the networks were trained in
        boxes = self._candidates(image, least)

        score, offsets = self.rnet(_cut_out(image, boxes, 24))
        boxes, score, offsets = (x[score > THRESHOLDS[1]] for x in (boxes, score, offsets))
        keep = kept(boxes, score, 0.7)
        boxes = squared(moved(boxes[keep], offsets[keep]))

        score, offsets, _ = self.onet(_cut_out(image, boxes, 48))
        boxes, score, offsets = (x[score > THRESHOLDS[2]] for x in (boxes, score, offsets))
        boxes = moved(boxes, offsets)
        keep = kept(boxes, score, 0.7, of_smaller=True)
        return boxes[keep], self._points(image, boxes[keep]), score[keep]

    def _points(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The mean of ONet's points (N, 5, 2) over shifted windows and their mirror images.

        One window's points jump with its place; the mean of ten lies a sixth closer to where FFHQ has its points.
        """
        square = squared(boxes)
        shifts = square.new_tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * SHIFT
        side = (square[:, 2:] - square[:, :2])[:, None]  # (N, 1, 2)
        windows = (square[:, None] + (shifts * side).repeat(1, 1, 2)).round().flatten(0, 1)  # (N * 5, 4)
        content = _cut_out(image, windows, 48)
        points, mirrored = self.onet(content)[2], self.onet(content.flip(-1))[2]
        mirrored = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)[:, [1, 0, 2, 4, 3]]  # left is right
        points = (points + mirrored) / 2
        points = windows[:, None, :2] + points * (windows[:, 2:] - windows[:, :2])[:, None]
        return points.unflatten(0, (len(boxes), len(shifts))).mean(dim=1)

    def _candidates(self, image: Tensor, least: float) -> Tensor:
        """PNet's square boxes (N, 4) from all levels of the pyramid."""
        height, width = image.shape[-2:]
        boxes, scores = [image.new_zeros(0, 4)], [image.new_zeros(0)]
        scale = CELL / least
        while min(height, width) * scale >= CELL:
            size = (int(height * scale) + 1, int(width * scale) + 1)
            score, offsets = self.pnet(F.interpolate(image, size, mode="area"))
            row, column = (score[0] >= THRESHOLDS[0]).nonzero(as_tuple=True)
            score, offsets = score[0, row, column], offsets[0, :, row, column].T
            corner = torch.stack([column, row], dim=1) * STRIDE
            to_image = image.new_tensor([width / size[1], height / size[0]])
            level = torch.cat([corner * to_image, (corner + CELL) * to_image], dim=1)
            keep = kept(level, score, 0.5)
            boxes.append(moved(level[keep], offsets[keep]))
            scores.append(score[keep])
            scale *= PYRAMID_STEP
        found = torch.cat(boxes)
        return squared(found[kept(found, torch.cat(scores), 0.7)])


def kept(boxes: Tensor, scores: Tensor, overlap: float, *, of_smaller: bool = False) -> Tensor:
    """Indices of the boxes that survive non-maximum suppression, best score first.

    A box goes when it shares more than `overlap` of its union with a better one, or, with `of_smaller`, of the smaller
    of the two, which also drops a box inside another.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    left = scores.argsort(descending=True, stable=True)
    keep = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        shared = torch.minimum(boxes[best, 2:], boxes[left, 2:]) - torch.maximum(boxes[best, :2], boxes[left, :2])
        common = shared.clamp(min=0).prod(dim=1)
        whole = torch.minimum(area[best], area[left]) if of_smaller else area[best] + area[left] - common
        left = left[common <= overlap * whole]
    return torch.stack(keep) if keep else left


def moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Boxes (N, 4) with each side moved by a fraction (N, 4) of the box's width or height."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * torch.cat([size, size], dim=1)


def squared(boxes: Tensor) -> Tensor:
    """The squares around the same centres, as large as the longer sides."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], dim=1)


def _cut_out(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The boxes' contents (N, 3, size, size), area-averaged; black (-1 here) beyond the image, as in training."""
    height, width = image.shape[-2:]
    windows = [image.new_zeros(0, 3, size, size)]
    for x0, y0, x1, y1 in boxes.round().int().tolist():
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        inside = image[..., max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        beyond = (max(-x0, 0), max(x1 - width, 0), max(-y0, 0), max(y1 - height, 0))
        windows.append(F.interpolate(F.pad(inside, beyond, value=-1.0), (size, size), mode="area"))
    return torch.cat(windows)
