"""A contact sheet of generated portraits: each before one colour, where halos and holes of its alpha show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte.foreground import composite
from sgmatte.preview import contact_sheet
from sgmatte.train.data import read_grey, read_rgb
from sgmatte.writers import write_image

SHOWN, COLUMNS, PANEL = 48, 8, 160
COLOUR = (0.16, 0.62, 0.32)  # unlike hair, skin and most backgrounds


def write_sheet(path: Path, portraits: Sequence[Mapping[str, Path]]) -> Path:
    """Write the sheet of portraits, files by kind ("foreground", "alpha").

    Raises:
        PhotoError: a file is none of a picture, or the sheet cannot be written.
    """
    panels = [_before_colour(files) for files in portraits]
    return write_image(path, contact_sheet(panels, [files["alpha"].stem for files in portraits], COLUMNS, PANEL))


def _before_colour(files: Mapping[str, Path]) -> Tensor:
    foreground = torch.from_numpy(read_rgb(files["foreground"]).astype(np.float32) / 255).permute(2, 0, 1)[None]
    alpha = torch.from_numpy(read_grey(files["alpha"]).astype(np.float32) / 255)[None, None]
    return composite(alpha, foreground, torch.tensor(COLOUR).view(1, 3, 1, 1))
