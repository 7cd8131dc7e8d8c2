"""The operators: the reference against its definition, compiled ones (and CUDA's source on a CPU) against it."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from sgmatte.ops import bias_act, build, haar_synthesis, native, reference, registered, scale_gradients, upfirdn2d
from sgmatte.ops.check import worst_disagreement
from sgmatte.ops.reference import padding, pair

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
SQUARE = torch.outer(FILTER, FILTER)
ODD = torch.tensor([[0.3, -1.0, 0.5], [0.2, 0.9, -0.4], [1.0, 0.0, 0.1], [-0.6, 0.7, 0.8], [0.2, 0.2, 0.9]])
RESAMPLINGS = [  # kernel, up, down, pad
    (SQUARE, 1, 1, (1, 1)),
    (SQUARE, 2, 1, (2, 1)),
    (SQUARE, 1, 2, (1, 1)),
    (SQUARE, 2, 1, (-1, -2)),
    (FILTER, 1, 1, (2, 2)),
    (ODD, 1, 1, (0, 0)),
    (ODD, (2, 3), (3, 2), (3, -1, -2, 4)),
    (ODD, (1, 4), (2, 1), (7, 0, 0, 9)),
    (torch.tensor([[1.0, 2.0]]), (1, 2), (1, 3), (0, 1, 0, 0)),
    (torch.eye(2) / 2, 2, 1, (0, 1)),
]
SHAPES = [(2, 3, 7, 9), (1, 33, 16, 5), (1, 1, 1, 6), (3, 8, 70, 4)]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}  # of the largest value
each_type = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
each_order = pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    assert found.shape == expected.shape
    return ((found.float() - expected.float()).abs().max() / expected.float().abs().max()).item()


def parameters(n: int, c: int, h: int, w: int, shared: bool, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "bias": random(c, seed=1, dtype=dtype),
        "noise": random(1 if shared else n, 1, h, w, seed=2, dtype=dtype),
        "noise_scale": random(1, seed=3, dtype=dtype),
        "scale": random(n, c, seed=4, dtype=dtype).abs() + 0.5,
    }


@pytest.fixture(scope="module")
def compiled() -> native.Library:
    found = native.state("cpu")
    if found.library is None:
        pytest.skip(found.reason)
    return found.library


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> native.Library:
    """CUDA's source, compiled for the CPU, with a thread for each thread of a block."""
    compiler = build.cxx()
    if compiler is None:
        pytest.skip("no C++ compiler")
    path = tmp_path_factory.mktemp("cuda") / "emulated.so"
    header, source = Path(__file__).with_name("cuda_on_cpu.h"), build.source_folder() / "cuda" / "operators.cu"
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread")
    subprocess.run([*compiler, *flags, "-include", header, "-x", "c++", source, "-o", path], check=True)
    return native.Library(path)


# The reference


@pytest.mark.parametrize(("kernel", "up", "down", "pad"), RESAMPLINGS)
def test_reference_does_what_its_name_says(kernel, up, down, pad):
    x = random(2, 2, 9, 12)
    found = reference.upfirdn2d(x, kernel, up, down, pad)
    (up_y, up_x), (down_y, down_x), (x0, x1, y0, y1) = pair(up), pair(down), padding(pad)
    square = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    for n in range(2):
        for c in range(2):
            wide = torch.zeros(9 * up_y + 40, 12 * up_x + 40)  # a border of 20 zeros, to cut from
            wide[20:-20:up_y, 20:-20:up_x] = x[n, c]
            wide = wide[20 - y0 : 20 + 9 * up_y + y1, 20 - x0 : 20 + 12 * up_x + x1]
            expected = convolve2d(wide.numpy(), square.numpy(), mode="valid")[::down_y, ::down_x]
            torch.testing.assert_close(found[n, c], torch.from_numpy(expected.copy()), atol=1e-5, rtol=1e-5)


def test_reference_activation_is_its_formula():
    x, p = random(2, 3, 2, 2), parameters(2, 3, 2, 2, shared=False)
    found = reference.bias_act(x, **p, slope=0.1, gain=3)
    for n, c, h, w in torch.cartesian_prod(*(torch.arange(side) for side in x.shape)).tolist():
        v = x[n, c, h, w] * p["scale"][n, c] + p["noise_scale"][0] * p["noise"][n, 0, h, w] + p["bias"][c]
        torch.testing.assert_close(found[n, c, h, w], 3 * (v if v > 0 else 0.1 * v))


def test_reference_has_two_derivatives():
    x = random(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    kernel = ODD.double()

    def resampled(x: Tensor) -> Tensor:
        return upfirdn2d(x, kernel, (2, 1), (1, 2), (2, -1, 3, 1))

    assert gradcheck(resampled, x)
    assert gradgradcheck(resampled, x)
    leaves = [x, *(t.requires_grad_() for t in parameters(1, 2, 4, 5, shared=True, dtype=torch.float64).values())]
    assert gradcheck(bias_act, leaves)
    assert gradgradcheck(bias_act, leaves)


def test_reference_wavelet_is_four_upsampled_subbands_and_its_analysis_the_inverse():
    x = random(2, 12, 3, 5)
    signs = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
    subbands = x[:, :3], *x[:, 3:].unflatten(1, (3, 3)).unbind(2)
    expected = sum(
        reference.upfirdn2d(subband, taps.view(2, 2), up=2, pad=(1, 0))
        for subband, taps in zip(subbands, signs, strict=True)
    )
    torch.testing.assert_close(reference.haar_synthesis(x), expected)
    torch.testing.assert_close(reference.haar_analysis(expected), x)


# The compiled operators, and CUDA's on a CPU


def resampling_distance(library: native.Library, shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> float:
    """Of all resamplings that leave anything of an image, the worst."""
    x, worst = random(*shape).to(dtype).contiguous(memory_format=native.memory_format(last)), 0.0
    for kernel, up, down, pad in RESAMPLINGS:
        square = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
        geometry = pair(up), pair(down), padding(pad)
        if min(native.resampled_size(shape[2:], square.shape, *geometry)) < 1:
            continue
        found = library.upfirdn2d(x, square, *geometry)
        assert found.dtype == dtype
        assert native.channels_last(found) == native.channels_last(x) or 1 in found.shape
        worst = max(worst, distance(found, reference.upfirdn2d(x.float(), kernel, *geometry)))
    return worst


def activation_distance(library: native.Library, shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> float:
    x, worst = random(*shape).to(dtype).contiguous(memory_format=native.memory_format(last)), 0.0
    for shared in (False, True):
        p = parameters(*shape, shared=shared)
        for given in (p, {**p, "noise": None, "noise_scale": None}, {**dict.fromkeys(p), "bias": p["bias"]}):
            found = library.bias_act(x, *given.values(), 0.2, 1.5)
            worst = max(worst, distance(found, reference.bias_act(x.float(), **given, slope=0.2, gain=1.5)))
        leaves = [t.clone().requires_grad_() for t in (x.float(), *p.values())]
        y, g = reference.bias_act(*leaves), random(*shape, seed=5).to(dtype)
        dx, d_bias, d_noise, _, d_scale = torch.autograd.grad(y, leaves, g.float())
        found_dx, channels, pixels = library.bias_act_backward(
            g, y.detach().to(dtype), *p.values(), 0.2, math.sqrt(2), True, True
        )
        pairs = [
            (found_dx, dx),
            (channels[..., 0].sum(0), d_bias),
            (channels[..., 1] / p["scale"], d_scale),
            ((pixels * p["noise_scale"]).sum_to_size(d_noise.shape), d_noise),
        ]
        worst = max(worst, *(distance(found, expected) for found, expected in pairs))
    return worst


def wavelet_distance(library: native.Library, shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> float:
    """`shape` is that of the pixels."""
    n, c, h, w = shape
    order = native.memory_format(last)
    x = random(n, 4 * c, h, w).to(dtype).contiguous(memory_format=order)
    g, worst = random(n, c, 2 * h, 2 * w, seed=5).to(dtype).contiguous(memory_format=order), 0.0
    for scale in (torch.ones(n, 4 * c), random(n, 4 * c, seed=4)):
        leaves = [x.float().requires_grad_(), scale.clone().requires_grad_()]
        y = reference.haar_synthesis(*leaves)
        expected = y, *torch.autograd.grad(y, leaves, g.float())
        given = None if (scale == 1).all() else scale
        found = library.haar_synthesis(x, given), *library.haar_synthesis_backward(g, x, given)
        assert found[0].dtype == found[1].dtype == dtype
        assert native.channels_last(found[1]) == native.channels_last(x)
        worst = max(worst, *(distance(a, b.detach()) for a, b in zip(found, expected, strict=True)))
    return worst


@each_type
@each_order
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_agrees_with_the_reference(compiled, shape, dtype, last):
    assert resampling_distance(compiled, shape, dtype, last) < TOLERANCE[dtype]
    assert activation_distance(compiled, shape, dtype, last) < TOLERANCE[dtype]
    assert wavelet_distance(compiled, shape, dtype, last) < TOLERANCE[dtype]


@each_type
@each_order
def test_cuda_source_agrees_with_the_reference(emulated, dtype, last):
    assert resampling_distance(emulated, (2, 3, 7, 9), dtype, last) < TOLERANCE[dtype]
    assert activation_distance(emulated, (2, 3, 17, 19), dtype, last) < TOLERANCE[dtype]
    assert wavelet_distance(emulated, (2, 3, 17, 19), dtype, last) < TOLERANCE[dtype]


@pytest.mark.skipif(build.nvcc() is None, reason="no nvcc")
def test_cuda_source_compiles_without_a_warning(tmp_path):
    recipe = build.cuda_recipe(["75", "90"])
    strict = ("--Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror")
    build.compile_(dataclasses.replace(recipe, flags=(*recipe.flags, *strict)), tmp_path)
    assert (tmp_path / "library.so").stat().st_size > 0


@each_order
def test_results_do_not_depend_on_threads(compiled, last):
    x = random(1, 40, 90, 70).contiguous(memory_format=native.memory_format(last))
    p, before = parameters(1, 40, 90, 70, shared=True), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            y = compiled.bias_act(x, *p.values(), 0.2, 1.0)
            sums = compiled.bias_act_backward(x, y, *p.values(), 0.2, 1.0, True, True)
            smooth, wave = compiled.upfirdn2d(x, SQUARE, (1, 1), (1, 1), (1, 2, 1, 2)), compiled.haar_synthesis(x, None)
            results.append([y, *sums, smooth, wave, *compiled.haar_synthesis_backward(wave, x, p["scale"])])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_not_a_number_stays_one(compiled):
    for dtype in TOLERANCE:
        x = torch.full((1, 2, 3, 3), math.nan, dtype=dtype)
        assert compiled.bias_act(x, None, None, None, None, 0.2, 1.0).isnan().all()
        assert compiled.upfirdn2d(x, SQUARE[1:3, 1:3], (1, 1), (1, 1), (0, 0, 0, 0)).isnan().all()
        assert compiled.haar_synthesis(x.repeat(1, 2, 1, 1), None).isnan().all()


# Derivatives of the compiled operators


def gradients(act: Callable[..., Tensor], filtered: Callable[..., Tensor], last: bool) -> list[Tensor]:
    """First derivatives of a filtered activation, and the derivatives of their squared length."""
    x = random(2, 5, 9, 7).contiguous(memory_format=native.memory_format(last))
    leaves = [t.requires_grad_() for t in (x, *parameters(2, 5, 9, 7, shared=True).values())]
    y = filtered(act(*leaves), SQUARE, 2, 1, (2, 1))
    first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
    plain = torch.autograd.grad(filtered(act(*leaves), SQUARE, 2, 1, (2, 1)).square().sum(), leaves)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
    return [*first, *plain, *second]


@each_order
def test_derivatives_agree_with_those_of_the_reference(compiled, last):
    ours = gradients(bias_act, upfirdn2d, last)
    theirs = gradients(reference.bias_act, reference.upfirdn2d, last)
    assert max(distance(a, b) for a, b in zip(ours, theirs, strict=True)) < 1e-4


@each_order
def test_wavelets_derivatives_agree_with_those_of_the_reference(compiled, last):
    x = random(2, 12, 5, 3).contiguous(memory_format=native.memory_format(last)).requires_grad_()
    leaves, found = [x, random(2, 12, seed=1).requires_grad_()], []
    for synthesis in (haar_synthesis, reference.haar_synthesis):
        first = torch.autograd.grad(synthesis(*leaves).pow(3).sum(), leaves, create_graph=True)
        plain = torch.autograd.grad(synthesis(*leaves).pow(3).sum(), leaves)
        found.append([*first, *plain, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)])
    assert max(distance(a, b) for a, b in zip(*found, strict=True)) < 1e-4


@each_type
@each_order
def test_gradients_of_a_scale_even_of_zero(compiled, dtype, last):
    x, g = (random(2, 5, 7, 9, seed=k).to(dtype).contiguous(memory_format=native.memory_format(last)) for k in (0, 1))
    scale = random(2, 5, seed=2)
    scale[0, 1] = 0
    leaves = [x.float().requires_grad_(), scale.clone().requires_grad_()]
    expected = torch.autograd.grad(leaves[0] * leaves[1][:, :, None, None], leaves, g.float())
    found = scale_gradients(g, x, scale)
    assert found[0].dtype == dtype
    assert max(distance(a, b) for a, b in zip(found, expected, strict=True)) < TOLERANCE[dtype]


def test_registered_as_torch_wants_it(compiled):
    p = {name: t.requires_grad_() for name, t in parameters(2, 3, 4, 5, shared=True).items()}
    x = random(2, 3, 4, 5).requires_grad_()
    torch.library.opcheck(registered.upfirdn2d, (x, SQUARE, (2, 1), (1, 2), (2, 1, -1, 3)))
    torch.library.opcheck(registered.bias_act, (x, *p.values(), 0.2, 1.0))
    torch.library.opcheck(registered.bias_act, (x, p["bias"], None, None, None, 0.2, 1.0))
    still = [t.detach() for t in p.values()]
    for wanted in ((True, True), (False, True)):
        torch.library.opcheck(registered.bias_act_backward, (x.detach(), x.detach(), *still, 0.2, 1.0, *wanted))
    wide, scale = random(2, 8, 3, 5).requires_grad_(), random(2, 8, seed=1).requires_grad_()
    for given in (None, scale):
        torch.library.opcheck(registered.haar_synthesis, (wide, given))
    torch.library.opcheck(registered.haar_synthesis_backward, (random(2, 2, 6, 10), wide.detach(), scale.detach()))


def test_compiler_traces_through(compiled):
    def layer(x: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        return bias_act(upfirdn2d(haar_synthesis(x), SQUARE, up=2, pad=(2, 1)), bias, scale=scale)

    leaves = [random(1, 12, 3, 3).requires_grad_(), random(3).requires_grad_(), random(1, 3).exp().requires_grad_()]
    expected = layer(*leaves)
    found = torch.compile(layer, backend="aot_eager", fullgraph=True)(*leaves)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True):
        torch.testing.assert_close(a, b)


# What they refuse, and where they step aside


def test_shapes_that_do_not_fit():
    x = random(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"nothing is left of \(2, 3, 4, 4\)"):
        upfirdn2d(x, SQUARE, pad=(-2, -2))
    with pytest.raises(ValueError, match="at least 1"):
        upfirdn2d(x, SQUARE, up=(0, 1))
    with pytest.raises(ValueError, match=r"kernel \(kh, kw\)"):
        upfirdn2d(x[0], SQUARE)
    with pytest.raises(ValueError, match=r"bias of \(3,\), got \(4,\)"):
        bias_act(x, random(4))
    with pytest.raises(ValueError, match=r"scale of \(2, 3\)"):
        bias_act(x, scale=random(1, 3))
    with pytest.raises(ValueError, match=r"noise of \(2, 1, 4, 4\)"):
        bias_act(x, noise=random(1, 1, 4, 5))
    with pytest.raises(ValueError, match="noise beside it"):
        bias_act(x, noise_scale=random(1))
    with pytest.raises(ValueError, match=r"x \(N, 4C, H, W\), got \(2, 3, 4, 4\)"):
        haar_synthesis(x)
    with pytest.raises(ValueError, match=r"scale of \(2, 8\), got \(1, 8\)"):
        haar_synthesis(random(2, 8, 3, 3), random(1, 8))


def test_the_self_check_runs_in_inference_mode_too(compiled):
    with torch.inference_mode():
        assert worst_disagreement(compiled, "cpu") < 1


def test_other_types_and_shapes_go_to_the_reference(compiled):
    assert bias_act(random(4, 3), random(3)).shape == (4, 3)
    assert upfirdn2d(random(1, 2, 4, 4).double(), SQUARE, pad=(2, 1)).dtype == torch.float64
    kernel = SQUARE.clone().requires_grad_()
    upfirdn2d(random(1, 2, 5, 5), kernel).sum().backward()
    assert kernel.grad.abs().sum() > 0
    assert haar_synthesis(random(1, 4, 2, 2).double()).dtype == torch.float64
    relu = bias_act(random(1, 3, 4, 4), slope=0)
    torch.testing.assert_close(relu, random(1, 3, 4, 4).relu() * math.sqrt(2))
