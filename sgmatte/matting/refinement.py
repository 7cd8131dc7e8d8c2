"""A network's alpha, corrected where the photo's own colours know better.

Where colours vary along lines, as they do across most boundaries, the matting Laplacian (Levin, Lischinski and Weiss,
*A Closed Form Solution to Natural Image Matting*, CVPR 2006) tells alpha to a hundredth, once it knows on which side
things are; networks know the sides, and are a few hundredths off everywhere. So alpha minimises

    a' L a + prior * |a - network's a|^2

over the unknown region (Shen et al., *Deep Automatic Portrait Matting*, ECCV 2016, end a network in such a layer). The
network's word weighs most where it is sure, and where the photo is so flat that its colours tell nothing.

Where the trimap was found and not given, the unknown region is not always a band along the boundary: a dark sleeve may
be unknown as a whole. Matting networks do not know such regions from their training and are sure of anything there. So
what the trimap network holds likelier, person or not, has a word as well, and a network that says the opposite loses
its own; and colours are followed farther, by a look at the photo at a quarter of its size first, and so on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.sparse import csr_matrix
from torch import Tensor

from sgmatte.device import pymatting
from sgmatte.matting.models import pasted
from sgmatte.matting.tiles import Box, boxes
from sgmatte.trimaps import BACKGROUND, FOREGROUND, UNKNOWN

PERSON = 0.0005  # what the trimap network's word weighs where it has no doubt who is there
CONTRADICTION = 4  # the higher, the less the matting network's word weighs where the trimap network does not share it
PRIOR = 0.006  # what the network's word weighs where it says 0 or 1; the diagonal of L is about 8
DOUBT = 0.03  # the share of that where it says 0.5
FLAT, PRIOR_FLAT = 3e-4, 5.0  # variance of colours, of the three channels together, below which it weighs this more
FLAT_REACH = 17  # pixels a side of the window in which that is asked
BLOCKS = 3e-3  # variance below which the blocks of a JPEG show: its colours are taken from
BLUR = 3.0  # the photo smoothed by so many pixels
BLUR_REACH = round(4 * BLUR)
STEPS = 60  # of conjugate gradients: how far colours are followed, some hundred pixels of each size of the photo
COARSER = 4  # how much smaller the photo is that is looked at first
CERTAIN = 0.99  # share of a coarse pixel that must be certain for all of it to be
SMALL = 256  # longest side of a photo that is small enough to begin at
TOLERANCE = 1e-6  # of the length of what is left, in that of the right side, at which they end earlier
TILE = 256  # pixels a side of what the Laplacian is built of at once: PyMatting takes 400 bytes a pixel
REACH = 2  # windows of 3x3 join pixels that are so far apart
NEIGHBOURS = (2 * REACH + 1) ** 2
HALO = REACH + max(FLAT_REACH // 2, BLUR_REACH)


def refined(alpha: Tensor, image: Tensor, trimap: Tensor, person: Tensor | None = None) -> Tensor:
    """`alpha` after a look at the colours, in [0, 1]; as it was where the trimap is certain.

    Args:
        alpha: (N, 1, H, W) in [0, 1], exactly 0 and 1 where the trimap is certain.
        image: (N, 3, H, W) in [0, 1].
        trimap: (N, 1, H, W) classes.
        person: (N, 1, H, W) in [0, 1], the probability that a pixel is the person's rather than the background's, as
            the network sees it that found the trimap.
    """
    found = alpha.clone()
    for k in range(len(alpha)):
        if (trimap[k] == UNKNOWN).any():
            one = slice(k, k + 1)
            word, weight = _word(alpha[one].cpu(), None if person is None else person[one].float().cpu())
            regions = trimap[one].cpu()
            found[one] = _solution(image[one].cpu(), regions, pasted(word, regions), weight).to(found)
    return torch.where(trimap == UNKNOWN, found, alpha).clamp_(0, 1)


def _word(alpha: Tensor, person: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the networks say of each pixel together, and what that weighs, where colours vary."""
    weight = PRIOR * (DOUBT + (2 * alpha - 1) ** 4)
    if person is None:
        return alpha, weight
    weight = weight * (1 - (alpha - person).abs()) ** CONTRADICTION
    other = PERSON * (2 * person - 1) ** 4
    both = (weight + other).clamp_min(1e-9)
    return (weight * alpha + other * person.round()) / both, both


def _solution(image: Tensor, trimap: Tensor, word: Tensor, weight: Tensor) -> Tensor:
    """Alpha (1, 1, H, W) of one photo; `word` is the answer where the trimap is certain."""
    height, width = trimap.shape[2:]
    start = _coarse_solution(image, trimap, word, weight) if max(height, width) > SMALL else word
    unknown = trimap[0, 0] == UNKNOWN
    pixels, asked = image[0].permute(1, 2, 0).numpy(), unknown.numpy()
    laplacian, pull, prior = _system(pixels, asked, word[0, 0].numpy(), weight[0, 0].numpy())
    diagonal = torch.from_numpy(laplacian.diagonal() + prior)
    matrix, trust = _as_tensor(laplacian), torch.from_numpy(prior)

    def applied(x: Tensor) -> Tensor:
        return (matrix @ x).addcmul_(trust, x)

    wanted = torch.from_numpy(pull).addcmul_(trust, word[0, 0][unknown].double())
    answer = word.clone()
    answer[0, 0][unknown] = _conjugate_gradients(applied, wanted, start[0, 0][unknown].double(), diagonal).to(word)
    return answer


def _coarse_solution(image: Tensor, trimap: Tensor, word: Tensor, weight: Tensor) -> Tensor:
    """The same, found on the photo made smaller: (1, 1, H, W), soft."""
    height, width = trimap.shape[2:]
    size = (max(1, height // COARSER), max(1, width // COARSER))
    shares = [F.interpolate((trimap == kind).float(), size, mode="area") for kind in (BACKGROUND, FOREGROUND)]
    background, foreground = (share > CERTAIN for share in shares)
    regions = torch.where(foreground, FOREGROUND, torch.where(background, BACKGROUND, UNKNOWN))
    small, said, trust = (F.interpolate(x, size, mode="area") for x in (image, word, weight))
    found = _solution(small, regions, pasted(said, regions), trust)
    return F.interpolate(found, (height, width), mode="bilinear")


def _as_tensor(matrix: csr_matrix) -> Tensor:
    ends, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(ends, columns, values, matrix.shape, check_invariants=False)


def _conjugate_gradients(
    applied: Callable[[Tensor], Tensor], wanted: Tensor, start: Tensor, diagonal: Tensor
) -> Tensor:
    """x with A x = `wanted`, nearly, by STEPS steps from `start`; `applied` is A, preconditioned by its `diagonal`.

    SciPy's own does the same on one core, however many there are.
    """
    x, rest = start.clone(), wanted - applied(start)
    enough = TOLERANCE * wanted.norm()
    steep = rest / diagonal
    direction, slope = steep.clone(), rest @ steep
    for _ in range(STEPS):
        if rest.norm() <= enough:
            break
        bent = applied(direction)
        length = slope / (direction @ bent)
        x.add_(direction * length)
        rest.sub_(bent * length)
        torch.div(rest, diagonal, out=steep)
        before, slope = slope, rest @ steep
        direction.mul_(slope / before).add_(steep)
    return x


def _variance(image: np.ndarray) -> np.ndarray:
    """Of the colours around each pixel, summed over channels: (H, W, 3) -> (H, W)."""
    mean = uniform_filter(image, (FLAT_REACH, FLAT_REACH, 1))
    spread: np.ndarray = (uniform_filter((image**2).sum(2), FLAT_REACH) - (mean**2).sum(2)).clip(0)
    return spread


def _without_blocks(image: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The image, smooth where it is so flat that the borders of its JPEG's blocks are what is seen best."""
    share = _below(BLOCKS, variance)[..., None]
    smooth = gaussian_filter(image, (BLUR, BLUR, 0), radius=(BLUR_REACH, BLUR_REACH, 0))
    return np.ascontiguousarray(share * smooth + (1 - share) * image)


def _below(limit: float, variance: np.ndarray) -> np.ndarray:
    """1 where the variance is far below the limit, 1/4 at it, 0 far above."""
    return (limit / (variance + limit)) ** 2


def _system(
    image: np.ndarray, unknown: np.ndarray, word: np.ndarray, weight: np.ndarray
) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """The Laplacian among U unknown pixels, (U, U), what the certain ones around them pull at each, (U,), and what the
    networks' word weighs there, (U,).
    """
    cf_laplacian = pymatting().cf_laplacian
    height, width = unknown.shape
    count = int(unknown.sum())
    numbers = np.full(unknown.shape, -1, np.int32)
    numbers[unknown] = np.arange(count, dtype=np.int32)
    values = np.empty((count, NEIGHBOURS))
    columns = np.empty((count, NEIGHBOURS), np.int32)
    pull, prior = np.empty(count), np.empty(count)

    def fill(inner: Box) -> None:
        outer = inner.widened(HALO, height, width)
        here = outer.part(unknown) & outer.mask(inner)
        if not here.any():
            return
        pixels = outer.part(image).astype(np.float64)
        variance = _variance(pixels)
        near = cf_laplacian(_without_blocks(pixels, variance), is_known=~outer.part(unknown))
        rows = np.flatnonzero(here)
        weights = near.data.reshape(-1, NEIGHBOURS)[rows]
        neighbours = near.indices.reshape(-1, NEIGHBOURS)[rows]
        others = outer.part(numbers).ravel()[neighbours]
        number = outer.part(numbers).ravel()[rows]
        prior[number] = outer.part(weight)[here] + PRIOR_FLAT * _below(FLAT, variance[here])
        values[number] = np.where(others < 0, 0, weights)
        columns[number] = np.maximum(others, 0)
        certain = np.where(others < 0, weights, 0)
        pull[number] = -(certain * outer.part(word).ravel()[neighbours]).sum(1)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # PyMatting and SciPy let go of the interpreter
        for _ in pool.map(fill, boxes(height, width, TILE)):
            pass
    ends = np.arange(count + 1, dtype=np.int64) * NEIGHBOURS
    return csr_matrix((values.ravel(), columns.ravel(), ends), (count, count)), pull, prior
