"""Pictures for people: the `_preview.png` of an enhancement, and contact sheets for model cards and benches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK = (244, 244, 244), (40, 40, 40)
MARGIN, LABEL = 12, 18  # pixels between panels, and the label's letters
CHECKER = 12  # pixels of a square behind a cut-out
GAIN = 8  # of the difference


def preview_image(
    photo: Tensor, enhanced: Tensor, trimap: Tensor, alpha: Tensor, cutout: Tensor, panel: int = 480
) -> np.ndarray:
    """What an enhancement did, as six labelled panels: uint8 (H, W, 3).

    Args:
        photo, enhanced: (1, 3, H, W) in [0, 1].
        trimap: (1, 1, H, W) classes 0, 1, 2.
        alpha: (1, 1, H, W) in [0, 1].
        cutout: (1, 4, H, W) RGBA in [0, 1], straight alpha.
        panel: longest side of a panel, in pixels.
    """
    before, after = resized(photo, panel), resized(enhanced, panel)
    panels = {
        "photo": before,
        "enhanced": after,
        f"difference x{GAIN}, grey is none": 0.5 + GAIN * (after - before),
        "trimap": resized(trimap.float() / 2, panel),
        "alpha": resized(alpha, panel),
        "cut-out": on_checkerboard(cutout, panel),
    }
    height, width = before.shape[-2:]
    columns = min((2, 3, 6), key=lambda n: abs(math.log(n * width / (6 / n * height) * 3 / 4)))  # nearest to 4:3
    return contact_sheet(list(panels.values()), list(panels), columns, panel)


def contact_sheet(images: Sequence[Tensor], labels: Sequence[str], columns: int, panel: int = 256) -> np.ndarray:
    """Images (1, 3 or 1, H, W) in [0, 1] in rows of `columns`, each under its label: uint8 (H, W, 3).

    Every image is resized until its longest side has `panel` pixels; values outside [0, 1] are clamped.

    Raises:
        ValueError: no images, or not one label for each.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"a contact sheet needs images and as many labels, got {len(images)} and {len(labels)}")
    panels = [_pixels(resized(image, panel)) for image in images]
    font = ImageFont.load_default(LABEL)
    width, height = max(p.width for p in panels), max(p.height for p in panels)
    width = max(width, math.ceil(max(font.getlength(label) for label in labels)))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    cell = (width + MARGIN, height + LABEL + 2 * MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, label) in enumerate(zip(panels, labels, strict=True)):
        x, y = MARGIN + number % columns * cell[0], MARGIN + number // columns * cell[1]
        draw.text((x, y), label, fill=INK, font=font)
        sheet.paste(picture, (x, y + LABEL + MARGIN // 2))
    return np.asarray(sheet)


def resized(image: Tensor, longest: int) -> Tensor:
    """Images (N, C, H, W) whose longest side has `longest` pixels, low-passed where they shrink, in [0, 1]."""
    height, width = image.shape[-2:]
    scale = longest / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size == (height, width):
        return image.detach().cpu().clamp(0, 1)
    image = F.interpolate(image.detach().float(), size, mode="bicubic", antialias=True, align_corners=False)
    return image.cpu().clamp(0, 1)


def on_checkerboard(cutout: Tensor, longest: int) -> Tensor:
    """A cut-out (1, 4, H, W) with straight alpha, resized and shown on light and dark squares, (1, 3, h, w)."""
    alpha = resized(cutout[:, 3:], longest)
    colours = resized(cutout[:, :3] * cutout[:, 3:], longest)  # premultiplied, or hidden colours would bleed in
    height, width = alpha.shape[-2:]
    odd = (torch.arange(height)[:, None] // CHECKER + torch.arange(width) // CHECKER) % 2
    return colours + (1 - alpha) * (0.62 + 0.2 * odd)


def _pixels(image: Tensor) -> Image.Image:
    levels = (image[0].clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
