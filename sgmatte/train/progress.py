"""How far a matting network has come, on composites that its training does not draw: figures and a contact sheet.

They follow a training; `sgmatte bench matte` measures what matters, on other people before other backgrounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from sgmatte.matting.models import pasted
from sgmatte.preview import contact_sheet
from sgmatte.train.composites import CompositeSampler
from sgmatte.train.data import batches
from sgmatte.train.loop import Sheet, Validate

VALIDATION_SEED = 1_000_000  # apart from every training seed that a person would type
SHOWN = 6  # composites on a sheet


def alpha_errors(sampler: CompositeSampler, count: int, device: torch.device) -> Validate:
    """Mean absolute and squared error in the unknown region of `count` composites, at least 4."""

    def validate(network: nn.Module) -> Mapping[str, float]:
        absolute = squared = area = 0.0
        for batch in batches(sampler, VALIDATION_SEED, 4, 0, max(1, count // 4)):
            unknown = (batch["trimap"] == 1).float()
            predicted = network(batch["image"].to(device), batch["trimap"].to(device)).cpu()
            error = (predicted - batch["alpha"]) * unknown
            absolute += float(error.abs().sum())
            squared += float(error.square().sum())
            area += float(unknown.sum())
        return {"unknown_l1": absolute / area, "unknown_mse": squared / area}

    return validate


def alpha_sheet(sampler: CompositeSampler, device: torch.device) -> Sheet:
    """Rows of image, trimap, the network's alpha and the true one."""

    def sheet(network: nn.Module) -> np.ndarray:
        (batch,) = batches(sampler, VALIDATION_SEED, SHOWN, 0, 1)
        predicted = network(batch["image"].to(device), batch["trimap"].to(device)).float().cpu()
        columns = {
            "image": batch["image"],
            "trimap": batch["trimap"].float() / 2,
            "alpha": pasted(predicted, batch["trimap"]),
            "true alpha": batch["alpha"],
        }
        cells = [(image[k : k + 1], label) for k in range(SHOWN) for label, image in columns.items()]
        return contact_sheet([image for image, _ in cells], [label for _, label in cells], len(columns), 192)

    return sheet
