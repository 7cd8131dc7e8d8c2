"""The compiled operators through ctypes: the other side of ops/operators.h, and whether they may be used.

`SGMATTE_OPS` decides: `auto` uses them where they build, load and agree with the reference, and says in one line why if
they do not; `reference` never does; `require` raises instead.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections.abc import Sequence
from ctypes import POINTER, byref, c_float, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgmatte.errors import OperatorError, UsageError
from sgmatte.ops import build
from sgmatte.ops.check import worst_disagreement
from sgmatte.ops.reference import Padding, Pair

log = logging.getLogger("sgmatte.ops")
TYPES = {torch.float32: 0, torch.bfloat16: 1}
DEVICES = ("cpu", "cuda")
MODES = ("auto", "reference", "require")


class _Image(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        *((name, c_int64) for name in ("n", "c", "h", "w", "stride_n", "stride_c", "stride_h", "stride_w")),
        ("type", c_int32),
    ]


class _Resampling(ctypes.Structure):
    _fields_ = [
        ("taps", c_void_p),
        *((name, c_int32) for name in ("kh", "kw", "up_y", "up_x", "down_y", "down_x", "pad_x0", "pad_y0")),
    ]


class _Activation(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("scale", "bias", "noise", "noise_scale")),
        ("noise_stride", c_int64),
        ("slope", c_float),
        ("gain", c_float),
    ]


def channels_last(x: Tensor) -> bool:
    """Whether channels lie side by side; where both orders describe the memory, they do not."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Type, device and memory format of `like`."""
    order = memory_format(channels_last(like))
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=order)


def memory_format(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


def _image(x: Tensor, last: bool) -> _Image:
    n, c, h, w = x.shape
    strides = (c * h * w, 1, w * c, c) if last else (c * h * w, h * w, w, 1)
    return _Image(x.data_ptr(), n, c, h, w, *strides, TYPES[x.dtype])


def _floats(x: Tensor | None, like: Tensor) -> Tensor | None:
    return None if x is None else x.detach().to(like.device, torch.float32).contiguous()


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def resampled_size(size: Pair, kernel: Pair, up: Pair, down: Pair, pad: Padding) -> Pair:
    """(H, W) that `upfirdn2d` returns for an image of `size` (H, W)."""
    x0, x1, y0, y1 = pad
    return (size[0] * up[0] + y0 + y1 - kernel[0]) // down[0] + 1, (size[1] * up[1] + x0 + x1 - kernel[1]) // down[
        1
    ] + 1


class Library:
    """The operators of a shared library, on tensors of float32 or bfloat16 (N, C, H, W). No derivatives here."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
            image: Any = POINTER(_Image)
            tail: list[Any] = [c_int, c_void_p]  # threads, stream
            self._library.sgmatte_upfirdn2d.argtypes = [image, image, POINTER(_Resampling), *tail]
            self._library.sgmatte_bias_act.argtypes = [image, image, POINTER(_Activation), *tail]
            backward = [image, image, image, POINTER(_Activation), c_void_p, c_void_p, *tail]
            self._library.sgmatte_bias_act_backward.argtypes = backward
            self._library.sgmatte_haar_synthesis.argtypes = [image, image, c_void_p, *tail]
            self._library.sgmatte_haar_synthesis_backward.argtypes = [image, image, image, c_void_p, c_void_p, *tail]
        except (OSError, AttributeError) as error:
            raise build.BuildError(f"{path} does not load: {error}") from error

    def _call(self, name: str, x: Tensor, *arguments: object) -> None:
        if x.device.type == "cuda":
            with torch.cuda.device(x.device):
                stream = torch.cuda.current_stream(x.device).cuda_stream
                code = getattr(self._library, name)(*arguments, 1, stream)
        else:
            code = getattr(self._library, name)(*arguments, torch.get_num_threads(), None)
        if code:
            raise OperatorError(f"{name}: CUDA error {code}; SGMATTE_OPS=reference does without compiled operators")

    def upfirdn2d(self, x: Tensor, kernel: Tensor, up: Pair, down: Pair, pad: Padding) -> Tensor:
        """As `reference.upfirdn2d`; `kernel` is 2-D."""
        last = channels_last(x)
        x = x.contiguous(memory_format=memory_format(last))
        kernel = kernel.detach().to(x.device, torch.float32).contiguous()
        kh, kw = kernel.shape
        size = resampled_size((x.shape[2], x.shape[3]), (kh, kw), up, down, pad)
        out = empty((*x.shape[:2], *size), x)
        how = _Resampling(kernel.data_ptr(), kh, kw, *up, *down, pad[0], pad[2])
        self._call("sgmatte_upfirdn2d", x, byref(_image(x, last)), byref(_image(out, last)), byref(how))
        return out

    def bias_act(
        self,
        x: Tensor,
        bias: Tensor | None,
        noise: Tensor | None,
        noise_scale: Tensor | None,
        scale: Tensor | None,
        slope: float,
        gain: float,
    ) -> Tensor:
        """As `reference.bias_act`; slope and gain are positive."""
        last = channels_last(x)
        x = x.contiguous(memory_format=memory_format(last))
        out = torch.empty_like(x)
        kept = [_floats(t, x) for t in (scale, bias, noise, noise_scale)]
        how = _Activation(*map(_pointer, kept), _noise_stride(noise), slope, gain)
        self._call("sgmatte_bias_act", x, byref(_image(x, last)), byref(_image(out, last)), byref(how))
        return out

    def bias_act_backward(
        self,
        grad: Tensor,
        y: Tensor,
        bias: Tensor | None,
        noise: Tensor | None,
        noise_scale: Tensor | None,
        scale: Tensor | None,
        slope: float,
        gain: float,
        channels: bool,
        pixels: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient of x, channel sums (N, C, 2), pixel sums (N, 1, H, W); empty ones where not asked for.

        `p` being the gradient before slope and gain, the first channel sum is that of `p` (the gradient of the bias),
        the second that of `p` x `scale` (`scale` times the gradient of the scale), the pixel sums are those of `p`.
        """
        last = channels_last(y)
        y = y.contiguous(memory_format=memory_format(last))
        grad = grad.contiguous(memory_format=memory_format(last))
        n, c, h, w = y.shape
        dx = torch.empty_like(y)
        channel_sums = y.new_empty((n, c, 2) if channels else 0, dtype=torch.float32)
        pixel_sums = y.new_empty((n, 1, h, w) if pixels else 0, dtype=torch.float32)
        kept = [_floats(t, y) for t in (scale, bias, noise, noise_scale)]
        how = _Activation(*map(_pointer, kept), _noise_stride(noise), slope, gain)
        self._call(
            "sgmatte_bias_act_backward",
            y,
            *(byref(_image(t, last)) for t in (grad, y, dx)),
            byref(how),
            channel_sums.data_ptr() if channels else None,
            pixel_sums.data_ptr() if pixels else None,
        )
        return dx, channel_sums, pixel_sums

    def haar_synthesis(self, x: Tensor, scale: Tensor | None) -> Tensor:
        """As `reference.haar_synthesis`."""
        last = channels_last(x)
        x, scale = x.contiguous(memory_format=memory_format(last)), _floats(scale, x)
        n, c, h, w = x.shape
        out = empty((n, c // 4, 2 * h, 2 * w), x)
        self._call("sgmatte_haar_synthesis", x, *(byref(_image(t, last)) for t in (x, out)), _pointer(scale))
        return out

    def haar_synthesis_backward(self, grad: Tensor, x: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gradients of x, in its type and format, and of the scale, float32 (N, 4C)."""
        last = channels_last(x)
        x, scale = x.contiguous(memory_format=memory_format(last)), _floats(scale, x)
        grad, dx = grad.contiguous(memory_format=memory_format(last)), torch.empty_like(x)
        sums = x.new_empty(x.shape[:2], dtype=torch.float32)
        images = (byref(_image(t, last)) for t in (grad, x, dx))
        self._call("sgmatte_haar_synthesis_backward", x, *images, _pointer(scale), sums.data_ptr())
        return dx, sums


def _noise_stride(noise: Tensor | None) -> int:
    return 0 if noise is None or noise.shape[0] == 1 else noise.shape[2] * noise.shape[3]


@dataclass(frozen=True)
class State:
    """What became of the compiled operators of a device, for people: `library` is None where the reference runs."""

    device: str
    library: Library | None
    reason: str
    path: Path | None = None
    seconds: float = 0.0  # to build or find, load and check
    disagreement: float | None = None  # of the self-check, in units of its tolerance


_states: dict[str, State] = {}
_guard = threading.Lock()


def mode() -> str:
    """SGMATTE_OPS.

    Raises:
        UsageError: it is none of auto, reference, require.
    """
    chosen = os.environ.get("SGMATTE_OPS", "auto")
    if chosen not in MODES:
        raise UsageError(f"SGMATTE_OPS is '{chosen}'; it may be {', '.join(MODES)}")
    return chosen


def state(device: str) -> State:
    """Build, load and check the operators of a device type ("cpu", "cuda"), once in a process."""
    with _guard:
        if device not in _states:
            _states[device] = _tried(device)
    return _states[device]


def _tried(device: str) -> State:
    started = time.monotonic()
    try:
        if device == "cpu":
            recipe = build.cpu_recipe()
        elif device == "cuda" and torch.cuda.is_available():
            found = {torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count())}
            recipe = build.cuda_recipe([f"{major}{minor}" for major, minor in sorted(found)])
        else:
            raise build.BuildError(f"there are none for {device}" if device != "cuda" else "torch sees no CUDA device")
        made = build.built(recipe)
        library = Library(made.path)
        far = worst_disagreement(library, device)
    except (build.BuildError, OperatorError, OSError) as error:
        return State(device, None, str(error), seconds=time.monotonic() - started)
    seconds = time.monotonic() - started
    if far > 1:
        reason = f"self-check failed: {far:.3g} times as far from the reference as allowed"
        return State(device, None, reason, made.path, seconds, far)
    if made.remark:
        log.warning("compiled operators: %s", made.remark)
    return State(device, library, "built, loaded, agrees with the reference", made.path, seconds, far)


_told: set[str] = set()


def library(device: str) -> Library | None:
    """The compiled operators of a device type, None where the reference is to be used.

    Raises:
        OperatorError: SGMATTE_OPS is `require` and there are none; the message says why.
        UsageError: SGMATTE_OPS is no known mode.
    """
    chosen = mode()
    if chosen == "reference":
        return None
    found = state(device)
    if found.library is None and chosen == "require":
        raise OperatorError(f"no compiled operators for {device}: {found.reason} (SGMATTE_OPS=require asks for them)")
    if found.library is None and device in DEVICES and device not in _told:
        _told.add(device)
        log.warning("no compiled operators for %s, plain torch is used instead: %s", device, found.reason)
    return found.library
