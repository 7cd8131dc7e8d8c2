"""Pictures as Python programs hold them: files, Pillow images, arrays, tensors, each as a file's reader would give it.

Tensors are as everywhere in sgmatte: photos float (1, 3, H, W) RGB in [0, 1], alphas float (1, 1, H, W) in [0, 1],
trimaps integer (1, 1, H, W) with 0 background, 1 unknown, 2 foreground. Arrays are (H, W) grey, (H, W, 3) RGB or
(H, W, 4) RGBA with straight alpha: uint8, uint16, or float in [0, 1]; a grey one may be bool. A trimap in an array or a
Pillow image is black, grey and white, as it is in files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgmatte.errors import PhotoError, TrimapError
from sgmatte.hostile import MAX_PIXELS
from sgmatte.masks import classes_of_levels, cutout_of_raster, levels_of_raster, read_cutout, read_trimap
from sgmatte.photo import Photo, photo_of_raster, read_photo
from sgmatte.readers import Raster, check_size, raster_of

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor

NAME = Path("image")  # of what came from no file: in errors, and in names of files made of it


def photo_of(picture: Picture, max_pixels: int = MAX_PIXELS) -> Photo:
    """A photo, as `read_photo` gives it.

    Raises:
        PhotoError: as `read_photo`, or an array or a tensor that is no picture; the message says what it is.
    """
    if isinstance(picture, Tensor):
        return Photo(NAME, _checked(picture, 3))
    if isinstance(picture, Image.Image):
        return photo_of_raster(NAME, _raster(picture, max_pixels))
    if not isinstance(picture, np.ndarray):
        return read_photo(Path(picture), max_pixels)
    values = _values(picture)
    if values.shape[2] < 4:
        return Photo(NAME, _tensor(np.broadcast_to(values, (*values.shape[:2], 3))))
    share = values[..., 3:]
    notes = ("its transparent parts are shown on white",) if np.any(share < 1) else ()
    return Photo(NAME, _tensor(values[..., :3] * share + (1 - share)), notes)


def trimap_of(picture: Picture, size: tuple[int, int], width: float | None = None) -> Tensor:
    """The classes (1, 1, H, W) of a trimap for a photo of (height, width) `size`, as `read_trimap` gives them.

    With `width`, in pixels, the picture is a mask or an alpha to make a trimap of.

    Raises:
        PhotoError, TrimapError: as `read_trimap`, or an array or a tensor that is neither.
    """
    if isinstance(picture, Tensor) and not picture.is_floating_point():
        return _classes(picture, size, width)
    if isinstance(picture, Tensor):
        values = _checked(picture, 1)[0].permute(1, 2, 0).numpy()
    elif isinstance(picture, Image.Image):
        values = levels_of_raster(_raster(picture, MAX_PIXELS, managed=False), drawn=True)[..., None] / np.float32(255)
    elif isinstance(picture, np.ndarray):
        values = _values(picture)
    else:
        return read_trimap(Path(picture), size, width)
    if values.shape[2] != 1:
        raise TrimapError(f"trimap: a trimap or a mask is grey, (H, W), not {values.shape}")
    return classes_of_levels(values[..., 0] * np.float32(255), size, width, name="trimap")


def cutout_of(picture: Picture, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A cut-out, RGBA (1, 4, H, W) in [0, 1] with straight alpha, as `read_cutout` gives it.

    Raises:
        PhotoError: as `read_cutout`, or an array or a tensor that has no transparency.
    """
    if isinstance(picture, Tensor):
        return _checked(picture, 4)
    if isinstance(picture, Image.Image):
        return cutout_of_raster(NAME, _raster(picture, max_pixels))
    if not isinstance(picture, np.ndarray):
        return read_cutout(Path(picture), max_pixels)
    values = _values(picture)
    if values.shape[2] != 4:
        raise PhotoError(f"array: a cut-out is RGBA, (H, W, 4), not {picture.shape}")
    return _tensor(values)


def _raster(image: Image.Image, max_pixels: int, managed: bool = True) -> Raster:
    check_size(image, NAME, max_pixels)
    try:
        return raster_of(image, NAME, managed=managed)
    except PhotoError:
        raise
    except Exception as error:  # it may be open and not yet read; decoders raise whatever damaged bytes lead them to
        raise PhotoError(f"{NAME}: is truncated or damaged ({error})") from error


def _values(array: np.ndarray) -> np.ndarray:
    """float32 (H, W, 1 | 3 | 4) in [0, 1]."""
    kind = str(array.dtype)
    shaped = array[..., None] if array.ndim == 2 else array
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3, 4) or shaped.size == 0:
        raise PhotoError(f"array: a picture is (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    if kind in ("uint8", "uint16"):
        return shaped / np.float32(np.iinfo(array.dtype).max)
    if kind == "bool":
        return shaped.astype(np.float32)
    if array.dtype.kind != "f":
        raise PhotoError(f"array: values are uint8, uint16 or float in [0, 1], not {kind}")
    _check_range("array", float(shaped.min()), float(shaped.max()))
    return shaped.astype(np.float32)


def _checked(tensor: Tensor, channels: int) -> Tensor:
    """float32 (1, `channels`, H, W) on the CPU, if it is that."""
    if tensor.ndim != 4 or tensor.shape[:2] != (1, channels) or tensor.numel() == 0:
        raise PhotoError(f"tensor: expected (1, {channels}, H, W), not {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise PhotoError(f"tensor: values are float in [0, 1], not {tensor.dtype}")
    _check_range("tensor", float(tensor.min()), float(tensor.max()))
    return tensor.detach().float().cpu().contiguous()


def _check_range(what: str, lowest: float, highest: float) -> None:
    if not (lowest >= 0 and highest <= 1):  # NaN is neither
        raise PhotoError(f"{what}: float values are in [0, 1], these go from {lowest:g} to {highest:g}")


def _classes(tensor: Tensor, size: tuple[int, int], width: float | None) -> Tensor:
    if width is not None:
        raise TrimapError("tensor: a trimap of classes needs no --trimap-width; masks are float in [0, 1]")
    if tensor.ndim != 4 or tensor.shape != (1, 1, *size):
        raise TrimapError(f"tensor: the trimap is {tuple(tensor.shape)}, its photo wants (1, 1, {size[0]}, {size[1]})")
    classes = tensor.detach().long().cpu()
    if not set(classes.unique().tolist()) <= {0, 1, 2}:
        raise TrimapError("tensor: the classes of a trimap are 0 background, 1 unknown, 2 foreground")
    return classes


def _tensor(values: np.ndarray) -> Tensor:
    """(H, W, C) -> (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
