"""Files to tensors and back: photos as people have them, results that are written whole or not at all.

Images are float32 (1, C, H, W), RGB in sRGB encoding, in [0, 1]. Files of alphas and trimaps are read in masks.py.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from sgmatte.errors import PhotoError
from sgmatte.files import write_bytes
from sgmatte.files import write_json as write_json
from sgmatte.files import write_text as write_text

MAX_PIXELS = 100_000_000
# Pillow reads more, but some of its other readers start programs (EPS) or are seldom attacked by anyone's tests.
READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
WRITE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 4}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),  # exact: colours under alpha 0 are kept
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


@dataclass(frozen=True)
class Photo:
    """A photo as the networks see it; `notes` says what of the file was left behind, in words for the user."""

    path: Path  # of a picture that came from no file, a name for what is made of it
    image: Tensor  # (1, 3, H, W) float32 sRGB in [0, 1], upright
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright photo."""
        return self.image.shape[-2], self.image.shape[-1]


def read_photo(path: Path | str, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF, GIF or BMP: upright by its EXIF orientation, from its ICC profile to sRGB.

    Grey, palette and CMYK become RGB; transparent parts are shown on white, as viewers do; of an animation the first
    frame counts. 16-bit grey keeps its depth, other 16-bit files are read as 8-bit (Pillow has no wider colour mode).

    Raises:
        PhotoError: no such file, not an image, truncated, or more than `max_pixels` by its header; nothing is decoded
            before that is known.
    """
    path = Path(path)
    with opened_image(path, max_pixels) as image:
        return decoded_photo(image, path)


def decoded_photo(image: Image.Image, path: Path) -> Photo:
    """`read_photo` of an image that Pillow has opened; `path` names it."""
    notes = []
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        notes.append(f"the first of {image.n_frames} frames is used")  # type: ignore[attr-defined]
    deep = _is_16_bit(image)
    profile = image.info.get("icc_profile")
    colours, alpha = without_alpha(upright(image))
    if profile:
        try:
            colours = _in_srgb(colours, profile)
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            notes.append(f"its colour profile cannot be used and is ignored ({error})")
    if deep and not colours.mode.startswith("I"):
        notes.append("16 bits per channel are read as 8")
    pixels = rgb_pixels(colours, path)
    if alpha is not None and np.any(alpha < 255):
        notes.append("its transparent parts are shown on white")
        share = torch.from_numpy(alpha)[None] / 255
        pixels = pixels * share + (1 - share)
    return Photo(path, pixels[None].contiguous(), tuple(notes))


@contextmanager
def opened_image(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The image behind `path`, its header checked; whatever goes wrong inside while it is decoded is a PhotoError."""
    if not path.is_file():
        raise PhotoError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise PhotoError(f"{path}: the file is empty")
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit, below, comes before any decoding
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which does not matter while the pixels read
            with Image.open(path, formats=READ_FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise PhotoError(
                        f"{path}: {width}x{height} is {width * height / 1e6:.0f} megapixels, the limit is "
                        f"{max_pixels / 1e6:.0f}; make it smaller or raise --max-pixels"
                    )
                if width == 0 or height == 0:
                    raise PhotoError(f"{path}: the image is {width}x{height} pixels, there is nothing in it")
                yield image
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(f"{path}: not an image that can be read ({', '.join(READ_FORMATS)})") from error
    except PermissionError as error:
        raise PhotoError(f"{path}: no permission to read it") from error
    except Exception as error:  # Pillow's decoders raise whatever the damaged bytes lead them to
        raise PhotoError(f"{path}: the image is truncated or damaged ({error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _is_16_bit(image: Image.Image) -> bool:
    """Whether the file holds 16 bits per channel: the raw mode of its first tile says so, before it is decoded."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def upright(image: Image.Image) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image)


def without_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Colours in a mode that has no alpha, and the alpha as uint8 (H, W) where the image has one."""
    if image.mode.startswith("I"):
        return image, None  # 16-bit grey; a transparent level in it is ignored, `convert` would clip the others
    if image.mode == "1":
        return image.convert("L"), None
    if image.has_transparency_data:
        straight = image.convert("RGBA")
        return straight.convert("RGB"), np.array(straight.getchannel("A"))
    return (image.convert("RGB") if image.mode in ("P", "PA") else image), None


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # only inPlace=True returns None
    return converted


def rgb_pixels(image: Image.Image, path: Path) -> Tensor:
    """(3, H, W) float32 in [0, 1] of an image without alpha."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise PhotoError(f"{path}: 32-bit pixels have no agreed white; save it with 8 or 16 bits per channel")
        return torch.from_numpy(values / np.float32(65535)).expand(3, -1, -1)
    if image.mode == "F":
        raise PhotoError(f"{path}: floating-point pixels have no agreed white; save it with 8 or 16 bits per channel")
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def write_image(path: Path | str, image: Tensor | np.ndarray) -> Path:
    """Write an 8-bit image atomically, in the format of the suffix (.png, .jpg, .webp, .tif), and return its path.

    Args:
        image: float (1, C, H, W) in [0, 1], values outside are clamped; or a uint8 array (H, W) or (H, W, C).
            C is 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha).

    Raises:
        PhotoError: unknown suffix, transparency in a JPEG, or a folder that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_OPTIONS:
        raise PhotoError(f"{path}: unknown image suffix '{path.suffix}'; use one of {', '.join(WRITE_OPTIONS)}")
    name, options = WRITE_OPTIONS[path.suffix.lower()]
    pixels = _bytes_of(image) if isinstance(image, Tensor) else image
    picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    if name == "JPEG" and picture.mode == "RGBA":
        raise PhotoError(f"{path}: JPEG has no transparency; choose .png, .webp or .tif")
    buffer = io.BytesIO()
    picture.save(buffer, format=name, **options)
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise PhotoError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _bytes_of(image: Tensor) -> np.ndarray:
    """float (1, C, H, W) -> uint8 (H, W, C), to the nearest level."""
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3, 4):
        raise ValueError(f"expected one image (1, 1|3|4, H, W), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds values that are not finite")
    levels = (image.detach()[0].float().clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()
