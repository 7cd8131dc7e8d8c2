"""The encoder that inversions start from."""

import numpy as np
import pytest
import torch

from sgmatte.errors import WeightError
from sgmatte.nn.encoder import Encoder, encoder_model
from sgmatte.train import encoder as training
from sgmatte.train.encoder import fitted_encoder


class Trunk(torch.nn.Module):
    """Sees the mean colour of each field of the grid, in two stages."""

    def forward(self, image, stages):
        return {stage: image * (k + 1) for k, stage in enumerate(stages)}


class Portraits:
    """An album whose pictures are plain colours that three numbers of w decide."""

    count, latents = 120, type("Latents", (), {"resolutions": 3})
    matrix = torch.tensor([[0.3, 0.1, 0.0], [0.0, 0.3, 0.1], [0.1, 0.0, 0.3]])

    @property
    def teacher(self):
        return self

    def w(self, z):
        return torch.cat((z, 0.01 * z[:, :1].square()), 1)

    def row(self, number):
        random = np.random.default_rng(number)
        z = torch.from_numpy(random.uniform(-1, 1, (2, 3)).astype(np.float32))
        return {"z": z, "change": torch.tensor(3 if number % 4 else 1)}

    def picture(self, number):
        colour = 127.5 + 127.5 * (self.matrix @ self.row(number)["z"][0])
        return colour.round().byte()[:, None, None].expand(3, 8, 8)


def test_a_linear_map_is_found_from_portraits_of_one_w(monkeypatch):
    monkeypatch.setattr(training.zoo, "load_into", lambda network, name: network)
    monkeypatch.setattr(training, "EfficientNetLite0", Trunk)
    monkeypatch.setattr(training, "RANK", 3)
    monkeypatch.setattr("sgmatte.nn.encoder.EfficientNetLite0", lambda: Trunk())
    portraits, seen = Portraits(), []
    fit = fitted_encoder(portraits, torch.device("cpu"), lambda *at: seen.append(at))
    assert fit.portraits == 90  # one in four is of two w
    assert fit.explained > 0.999
    assert seen[-1] == (120, 120)
    picture = portraits.picture(1001)[None] / 255
    wanted = portraits.w(portraits.row(1001)["z"][:1])
    torch.testing.assert_close(fit.encoder(picture), wanted, atol=0.02, rtol=0)


def test_crops_of_any_size_are_seen_alike():
    torch.manual_seed(0)
    encoder = Encoder(features=16 * (112 + 320), rank=4, latent=8)
    encoder.get_buffer("weight").normal_(std=0.01)
    encoder.get_buffer("axes").normal_()
    small = torch.rand(1, 3, 256, 256)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(encoder(large), encoder(small), atol=1e-4, rtol=1e-4)
    assert encoder(small).shape == (1, 8)


def test_the_bundled_encoder_tells_portraits_apart():
    encoder = encoder_model()
    random = torch.Generator().manual_seed(0)
    first, second = encoder(torch.rand(2, 3, 256, 256, generator=random))
    assert torch.isfinite(first).all()
    assert first.shape == (512,)
    assert not torch.allclose(first, second)


def test_an_encoder_that_does_not_fit_is_refused(monkeypatch):
    from sgmatte.nn import encoder

    state = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "mean": torch.zeros(5)}
    monkeypatch.setattr(encoder.zoo, "tensors", lambda name: state if name == encoder.WEIGHTS else {})
    with pytest.raises(WeightError, match="lacks axes"):
        encoder_model()
