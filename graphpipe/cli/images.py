"""From a picture's file to the pixels that a model takes: upright, to its size, in its range, with its axes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.cli.presets import ImageForm
from graphpipe.signature import TensorSpec
from graphpipe.words import first_line

__all__ = ["SUFFIXES", "image"]

Array = NDArray[Any]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def image(file: str, spec: TensorSpec, form: ImageForm) -> Array:
    """The picture in a file as the model takes it: layout, size and type are those of ``spec``.

    Raises ValueError for what is no image, and for one that does not become what the model takes.
    """
    layout = _layout(spec.shape)
    integers = spec.dtype is not None and spec.dtype.kind != "f"
    if integers and not form.guessed:
        raise ValueError(
            f"{file}: the model takes {spec.dtype}, which gets pixels as they are, 0 to 255; "
            "leave --image-preset, --image-mean, --image-std and --image-scale out"
        )
    picture = _picture(file)
    if picture.mode[0] in "IF":
        raise ValueError(f"{file}: its pixels are not 0 to 255, but of mode {picture.mode}; save it with 8 bits")
    grey = "c" not in layout or _dim(spec.shape, layout, "c") == 1
    upright = picture.convert("L" if grey else "RGB")
    came = upright.size
    fitted = _fitted(upright, _wanted(spec.shape, layout, form.size), form)
    pixels = np.asarray(fitted).reshape(fitted.height, fitted.width, -1)
    if form.guessed and spec.dtype is None:
        return _laid_out(pixels, layout)  # whoever takes anything gets what there is
    if integers:
        return _laid_out(pixels.astype(spec.dtype), layout)
    if form.guessed:
        _say(file, came, fitted.size, form.fit)
    return _laid_out(_normalised(pixels, form, file).astype(spec.dtype or np.float32), layout)


def _picture(file: str) -> Any:
    """The picture in a file, upright. Raises ValueError for what is none, or not all of one."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise ValueError(f"{file}: images need Pillow: pip install pillow") from None
    try:
        with Image.open(file) as opened:
            return ImageOps.exif_transpose(opened)
    except UnidentifiedImageError:
        raise ValueError(f"{file}: not an image that Pillow can read") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # it cannot be opened
            raise
        # The decoders of Pillow raise whatever they like.
        raise ValueError(f"{file}: {first_line(error)}") from None


def _wanted(shape: Sequence[int | str | None] | None, layout: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width: what the model says, or where it says neither, ``size``; 0 is as it comes."""
    height, width = _dim(shape, layout, "h"), _dim(shape, layout, "w")
    return (height, width) if height or width else size


def _fitted(picture: Any, wanted: tuple[int, int], form: ImageForm) -> Any:
    """The picture with the wanted height and width, its aspect kept unless it is to be stretched."""
    from PIL import Image

    resample = Image.Resampling.BICUBIC if form.bicubic else Image.Resampling.BILINEAR
    w, h = picture.size
    height, width = wanted
    if not height and not width:
        return picture
    # Where one of them is open, it follows from the other.
    height, width = height or max(1, round(width * h / w)), width or max(1, round(height * w / h))
    if form.fit == "stretch":
        return picture.resize((width, height), resample)
    upright = height * w >= width * h  # whether the height decides how large it has to be to cover the whole
    if form.fit == "pad":
        upright = not upright
    margin = form.margin if form.fit == "crop" else 1.0
    if upright:
        tall = round(height * margin)
        wide = max(1, tall * w // h)
    else:
        wide = round(width * margin)
        tall = max(1, wide * h // w)
    resized = picture.resize((wide, tall), resample)
    if form.fit == "pad":
        # Black around it.
        whole = Image.new(picture.mode, (width, height))
        whole.paste(resized, ((width - wide) // 2, (height - tall) // 2))
        return whole
    # Rounded as torchvision does.
    left, top = round((wide - width) / 2), round((tall - height) / 2)
    return resized.crop((left, top, left + width, top + height))


def _normalised(pixels: Array, form: ImageForm, file: str) -> Array:
    """Pixels [h, w, c] of 0 to 255 as numbers of float32."""
    channels = pixels.shape[2]
    mean, std = (np.array(numbers, np.float32) for numbers in (form.mean, form.std))
    for numbers in (mean, std):
        if numbers.size not in (1, channels):
            whose = f"--image-preset {form.name} has" if form.name else "--image-mean and --image-std have"
            raise ValueError(
                f"{file}: {whose} {numbers.size} numbers, and the model takes {channels} "
                f"channel{'' if channels == 1 else 's'}"
            )
    if form.bgr:
        pixels = pixels[:, :, ::-1]
    normalised: Array = (pixels.astype(np.float32) * np.float32(form.scale) - mean) / std
    return normalised


def _say(file: str, came: tuple[int, int], went: tuple[int, int], fit: str) -> None:
    how = {"crop": "resized and cut to its centre", "pad": "resized, with black around it", "stretch": "stretched"}[fit]
    size = "" if came == went else f", {how} from {came[0]}x{came[1]} to {went[0]}x{went[1]}"
    print(
        f"graphpipe: {file}: pixels are 0 to 1{size}; if the model learned from others, say so "
        "(--image-preset imagenet, for one), and --image-preset zero-one if not",
        file=sys.stderr,
    )


def _layout(shape: Sequence[int | str | None] | None) -> str:
    """Which axis is what: n rows, c channels, h, w; a model that does not say gets h, w, c."""
    if shape is None:
        return "hwc"
    channels = [dim in (1, 3) or (isinstance(dim, str) and "channel" in dim.lower()) for dim in shape]
    if len(shape) == 4:
        return "nchw" if channels[1] and not channels[3] else "nhwc"
    if len(shape) == 3:
        return "chw" if channels[0] and shape[0] == 3 else "hwc" if channels[2] else "nhw"
    if len(shape) == 2:
        return "hw"
    count = f"{len(shape)} dimension{'' if len(shape) == 1 else 's'}"
    raise ValueError(f"the model takes {count}, which no image has; give it an array")


def _dim(shape: Sequence[int | str | None] | None, layout: str, axis: str) -> int:
    """The fixed size of an axis, or 0."""
    dim = shape[layout.index(axis)] if shape is not None and axis in layout else None
    return dim if isinstance(dim, int) else 0


def _laid_out(pixels: Array, layout: str) -> Array:
    """Pixels [h, w, c] with the axes of ``layout``."""
    if "c" not in layout:
        pixels = pixels[:, :, 0]
    elif layout in ("nchw", "chw"):
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[None] if layout.startswith("n") else pixels)
