"""The official DeepLab against what the original implementation answered with the same weights."""

from pathlib import Path

import numpy as np
import torch
from golden.fill import fill, shapes

from sgmatte.nn.resnet_deeplab import ResNetDeepLab

GOLDEN = np.load(Path(__file__).parent / "golden" / "deeplab.npz")


def test_answers_as_the_original_does():
    with torch.device("meta"):
        network = ResNetDeepLab()
    wanted = shapes("deeplab")
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == wanted
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in fill(wanted, "plain").items()}
    network.load_state_dict(state, assign=True)
    with torch.inference_mode():
        logits = network.eval()((torch.from_numpy(GOLDEN["image"]) + 1) / 2).numpy()
    assert logits.shape == GOLDEN["logits"].shape
    assert np.abs(logits - GOLDEN["logits"]).max() < 1e-4 * GOLDEN["logits"].std()
