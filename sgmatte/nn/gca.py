"""GCA: natural image matting via guided contextual attention (Li and Lu, AAAI 2020, arXiv 2001.04069).

Encoder resnet_gca_29 and decoder res_gca_22 of the authors' implementation, key for key, with a width multiplier.
Spectral normalisation only shapes the training of the official weights: `folded` turns their checkpoint into the plain
convolutions used here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

STRIDE = 32  # image sides must be multiples of this
SCORES_PER_BLOCK = 2**23  # attention scores held at once: 32 MB in float32, one block up to about 1200x1200 pixels
KEYS = 12288  # that a patch attends to: all of them up to 3 megapixels, beyond that those of the rows around it
SELF_SCORE = -1e4  # an unknown patch must not explain itself

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on [0, 1]


class GCA(nn.Module):
    """Alpha from a photo and its trimap. `width` scales every layer; 1.0 is the published network, 25.2 M weights."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.decoder = Decoder(width)
        _initialise(self)

    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha (N, 1, H, W) in [0, 1], known regions not pasted.

        Args:
            image: (N, 3, H, W) in [0, 1]; H and W multiples of 32.
            trimap: (N, 1, H, W) int64, 0 background, 1 unknown, 2 foreground.

        Raises:
            ValueError: H or W is no multiple of 32.
        """
        if image.shape[2] % STRIDE or image.shape[3] % STRIDE:
            raise ValueError(f"image sides must be multiples of {STRIDE}, not {tuple(image.shape[2:])}")
        x = network_input(image, trimap)
        half, quarter = self.encoder.fine(x)
        eighth, guidance = self.encoder.coarse(x, quarter)
        return self.late(x, half, quarter, self.middle(eighth, guidance, trimap[:, :, ::8, ::8] == 1))

    def middle(self, eighth: Tensor, guidance: Tensor, unknown: Tensor) -> Tensor:
        """From the encoder's features at 1/8 to the decoder's there: all that looks far.

        Args:
            eighth, guidance: (N, 128, H/8, W/8), of `Encoder.coarse`; unknown: (N, 1, H/8, W/8), bool.
        """
        attended, sixteenth, deepest = self.encoder.deep(eighth, guidance, unknown)
        four, five = self.encoder.shortcut[3](attended), self.encoder.shortcut[4](sixteenth)
        return self.decoder.coarse(deepest, five, four, guidance, unknown)

    def late(self, x: Tensor, half: Tensor, quarter: Tensor, decoded: Tensor) -> Tensor:
        """Alpha from `network_input`, the encoder's fine features and what `middle` made of the coarse ones."""
        one, two, three, *_ = self.encoder.shortcut
        return self.decoder.fine(decoded, one(x), two(half), three(quarter))


def network_input(image: Tensor, trimap: Tensor) -> Tensor:
    """(N, 6, H, W): the image in [0, 1] normalised as for ImageNet, the three classes as one channel each."""
    regions = F.one_hot(trimap[:, 0], 3).permute(0, 3, 1, 2).to(image.dtype)
    normalised = (image - image.new_tensor(MEAN).view(1, 3, 1, 1)) / image.new_tensor(STD).view(1, 3, 1, 1)
    return torch.cat((normalised, regions), 1)


def folded(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain weights from the official ones: spectral norm divided out, `module.` prefixes of its wrappers removed.

    Each weight becomes W / (u . W v), the value that the official network computes in eval mode.
    """
    plain = {}
    for key, value in checkpoint.items():
        name = key.removeprefix("module.").replace(".module.", ".")
        if key.endswith(".weight_bar"):
            u, v = checkpoint[key[:-3] + "u"], checkpoint[key[:-3] + "v"]
            sigma = u @ (value.flatten(1) @ v)
            plain[name.removesuffix("_bar")] = value / sigma
        elif not key.endswith((".weight_u", ".weight_v")):
            plain[name] = value
    return plain


class Encoder(nn.Module):
    """ResNet-D with 3-4-4-2 blocks, five shortcuts, and a guidance branch. Channels are those of the full width."""

    def __init__(self, width: float) -> None:
        super().__init__()
        stem, c1, c2, c3, c4 = (_channels(c, width) for c in (32, 64, 128, 256, 512))
        self.conv1, self.bn1 = _conv(6, stem, stride=2), nn.BatchNorm2d(stem)
        self.conv2, self.bn2 = _conv(stem, stem), nn.BatchNorm2d(stem)
        self.conv3, self.bn3 = _conv(stem, c1, stride=2), nn.BatchNorm2d(c1)
        self.layer1 = _encoder_stage(c1, c1, 3, stride=1)
        self.layer2 = _encoder_stage(c1, c2, 4, stride=2)
        self.layer3 = _encoder_stage(c2, c3, 4, stride=2)
        self.layer_bottleneck = _encoder_stage(c3, c4, 2, stride=2)
        self.shortcut = nn.ModuleList(
            _shortcut(inner, outer) for inner, outer in ((6, stem), (stem, stem), (c1, c1), (c2, c2), (c3, c3))
        )
        g1, g2 = _channels(16, width), _channels(32, width)
        self.guidance_head = nn.Sequential(*_guidance(3, g1), *_guidance(g1, g2), *_guidance(g2, c2))
        self.gca = GuidedContextualAttention(c2, c2)

    def fine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 32, H/2, W/2) and (N, 64, H/4, W/4) of `network_input` (N, 6, H, W)."""
        half = F.relu(self.bn1(self.conv1(x)))
        half = F.relu(self.bn2(self.conv2(half)))
        return half, self.layer1(F.relu(self.bn3(self.conv3(half))))

    def coarse(self, x: Tensor, quarter: Tensor) -> tuple[Tensor, Tensor]:
        """Features and guidance, (N, 128, H/8, W/8) each; guidance sees the photo alone."""
        return self.layer2(quarter), self.guidance_head(x[:, :3])

    def deep(self, eighth: Tensor, guidance: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/8 once they have attended to each other, and (N, 256, H/16, W/16), (N, 512, H/32, W/32)."""
        attended = self.gca(guidance, eighth, unknown)
        sixteenth = self.layer3(attended)
        return attended, sixteenth, self.layer_bottleneck(sixteenth)


class Decoder(nn.Module):
    """Transposed residual stages of 2-3-3-2 blocks that meet the shortcuts, and attention once more at 1/8."""

    def __init__(self, width: float) -> None:
        super().__init__()
        stem, c1, c2, c3, c4 = (_channels(c, width) for c in (32, 64, 128, 256, 512))
        self.layer1 = _decoder_stage(c4, c3, 2)
        self.layer2 = _decoder_stage(c3, c2, 3)
        self.layer3 = _decoder_stage(c2, c1, 3)
        self.layer4 = _decoder_stage(c1, stem, 2)
        self.conv1 = nn.ConvTranspose2d(stem, stem, 4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, 1, 3, padding=1)
        self.gca = GuidedContextualAttention(c2, c2)

    def coarse(self, deepest: Tensor, five: Tensor, four: Tensor, guidance: Tensor, unknown: Tensor) -> Tensor:
        """From 1/32 to (N, 128, H/8, W/8), with the shortcuts at 1/16 and 1/8."""
        x = self.layer1(deepest) + five
        return self.gca(guidance, self.layer2(x) + four, unknown)

    def fine(self, x: Tensor, one: Tensor, two: Tensor, three: Tensor) -> Tensor:
        """Alpha (N, 1, H, W) from 1/8 on and the shortcuts at full size, 1/2 and 1/4."""
        x = self.layer3(x) + three
        x = self.layer4(x) + two
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.2) + one
        return (torch.tanh(self.conv2(x).float()) + 1) / 2


class GuidedContextualAttention(nn.Module):
    """Opacity features move from known patches to unknown ones that look alike (section 3.3 of the paper).

    Queries and keys are 3x3 patches of the guidance features at half their size, values 4x4 patches of the alpha
    features with stride 2, pasted back with overlap. Keys in the unknown region and keys in the known region are scaled
    by how much of the picture each covers, so that a thin unknown band is not outvoted by the rest (equation 4).
    """

    def __init__(self, channels: int, guidance_channels: int) -> None:
        super().__init__()
        self.guidance_conv = nn.Conv2d(guidance_channels, guidance_channels // 2, 1)
        self.W = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, guidance: Tensor, alpha: Tensor, unknown: Tensor) -> Tensor:
        """Attended features like `alpha` (N, C, h, w), h and w even; `unknown` is (N, 1, h, w), bool."""
        guidance = self.guidance_conv(guidance)[:, :, ::2, ::2]
        fast = torch.is_autocast_enabled(alpha.device.type)
        with torch.autocast(alpha.device.type, enabled=False):  # bf16 scores would blur the softmax
            queries = _patches(guidance.float(), 3, 1)  # (N, P, 9 c), P = h/2 * w/2
            keys = queries / queries.norm(dim=2, keepdim=True).clamp(min=1e-4)
            half_unknown = unknown[:, :, ::2, ::2].float()
            touches_unknown = _patches(half_unknown, 3, 1).amax(2) > 0  # (N, P)
            share = half_unknown.mean((2, 3))  # (N, 1)
            ratio = (share / (1 - share)).sqrt()
            scale = torch.where(touches_unknown, ratio.clamp(0.1, 10), (1 / ratio).clamp(0.1, 10))  # (N, P)
            # (N, P, 16 C); their means are most of the work, and quicker in bf16
            values = _patches(alpha.to(torch.bfloat16 if fast else torch.float32), 4, 2)
            pasted = _attended(queries, keys * scale.unsqueeze(2), values, SELF_SCORE * touches_unknown).float()
            # Four patches overlap at each pixel.
            spread = F.fold(pasted.transpose(1, 2), alpha.shape[2:], 4, stride=2, padding=1) / 4
        return self.W(spread) + alpha


def _attended(queries: Tensor, keys: Tensor, values: Tensor, self_scores: Tensor) -> Tensor:
    """softmax(queries keys^T + diag(self_scores)) values, (N, P, V), with memory linear in P.

    The score matrix is P^2; it exists only for a block of queries at a time, and again for each block in the backward
    pass. Where there are more than KEYS patches, a block sees the KEYS patches around it, in reading order: time stays
    linear in P as well.
    """
    count = queries.shape[1]
    seen = min(count, KEYS)
    block = max(1, SCORES_PER_BLOCK // (seen * len(queries)))

    def rows(start: int) -> Tensor:
        end = min(start + block, count)
        first = min(max(0, (start + end - seen) // 2), count - seen)
        scores = queries[:, start:end] @ keys[:, first : first + seen].transpose(1, 2)
        scores.diagonal(start - first, 1, 2).add_(self_scores[:, start:end])
        return torch.softmax(scores, 2).to(values.dtype) @ values[:, first : first + seen]

    if block >= count:
        return rows(0)
    if not torch.is_grad_enabled():
        # Written in place: results kept between temporary scores would leave the heap full of holes.
        found = values.new_empty(len(values), count, values.shape[2])
        for start in range(0, count, block):
            part = rows(start)
            found[:, start : start + part.shape[1]] = part
        return found
    return torch.cat([checkpoint(rows, start, use_reentrant=False) for start in range(0, count, block)], 1)


def _patches(x: Tensor, size: int, stride: int) -> Tensor:
    """Every size x size patch of (N, C, h, w) under reflection padding, (N, positions, C * size * size)."""
    before, after = (size - stride + 1) // 2, (size - stride) // 2
    padded = F.pad(x, (before, after, before, after), mode="reflect")
    return F.unfold(padded, size, stride=stride).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Basic residual block; the shortcut averages before its 1x1 convolution (ResNet-D)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inner, outer, stride=stride), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = _conv(outer, outer), nn.BatchNorm2d(outer)
        self.downsample = (
            nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class DecoderBlock(nn.Module):
    """Residual block with leaky ReLU; the first of a stage doubles the size by a 4x4 transposed convolution."""

    def __init__(self, inner: int, outer: int, upsample: bool) -> None:
        super().__init__()
        self.conv1 = (
            nn.ConvTranspose2d(inner, inner, 4, stride=2, padding=1, bias=False) if upsample else _conv(inner, inner)
        )
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv(inner, outer), nn.BatchNorm2d(outer)
        self.upsample = (
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer))
            if upsample
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.leaky_relu(self.bn1(self.conv1(x)), 0.2)
        return F.leaky_relu(self.bn2(self.conv2(out)) + self.upsample(x), 0.2)


def _channels(official: int, width: float) -> int:
    return max(2, round(official * width))


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)


def _encoder_stage(inner: int, outer: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (EncoderBlock(outer, outer, 1) for _ in range(blocks - 1))
    return nn.Sequential(EncoderBlock(inner, outer, stride), *rest)


def _decoder_stage(inner: int, outer: int, blocks: int) -> nn.Sequential:
    rest = (DecoderBlock(outer, outer, upsample=False) for _ in range(blocks - 1))
    return nn.Sequential(DecoderBlock(inner, outer, upsample=True), *rest)


def _shortcut(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(inner, outer), nn.ReLU(), nn.BatchNorm2d(outer), _conv(outer, outer), nn.ReLU(), nn.BatchNorm2d(outer)
    )


def _guidance(inner: int, outer: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inner, outer, 3, stride=2, bias=False)
    return nn.ReflectionPad2d(1), conv, nn.ReLU(), nn.BatchNorm2d(outer)


def _initialise(network: nn.Module) -> None:
    """He initialisation; residual branches and attention start near zero, so the network begins shallow."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            # Each output pixel sums inner * 4 products: a 4x4 kernel at stride 2 overlaps twice in each direction.
            nn.init.normal_(module.weight, std=(2 / (module.in_channels * 4)) ** 0.5)
        elif isinstance(module, EncoderBlock | DecoderBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, GuidedContextualAttention):
            nn.init.constant_(module.get_parameter("W.1.weight"), 1e-3)
