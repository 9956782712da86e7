"""From what is written after ``--input`` to arrays: files of many kinds, and values written out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.signature import TensorSpec

__all__ = ["ImageForm", "values_of"]

Array = NDArray[Any]

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMS = "x.npy, x.npz:key, an image, x.json, x.txt, text:WORDS, '[1, 2, 3]' or - for standard input"


@dataclass(frozen=True, slots=True)
class ImageForm:
    """How pixels become floating point: ``(pixel - mean) / std``, one number or one for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, mean: str, std: str) -> ImageForm:
        """From texts of numbers separated by commas."""
        form = cls(_numbers("--image-mean", mean), _numbers("--image-std", std))
        if 0 in form.std:
            raise ValueError("--image-std: nothing can be divided by 0")
        return form


def values_of(texts: Sequence[str], specs: Sequence[TensorSpec], images: ImageForm) -> list[tuple[str, object]]:
    """The inputs that the texts stand for, each with its name ("" where it has none).

    Raises ValueError for what cannot be read.
    """
    by_name = {spec.name: spec for spec in specs}
    values = []
    for i, text in enumerate(texts):
        name, form = _name_and_form(text, by_name)
        spec = by_name.get(name, TensorSpec(name)) if name else specs[i] if i < len(specs) else TensorSpec("")
        values.append((name or spec.name, _value(form, spec, images)))
    return values


def _name_and_form(text: str, known: dict[str, TensorSpec]) -> tuple[str, str]:
    name, equals, form = text.partition("=")
    if not equals or not name or (name not in known and (Path(text).exists() or text.startswith(("text:", "[")))):
        return "", text
    return name, form


def _value(form: str, spec: TensorSpec, images: ImageForm) -> object:
    if form.startswith("text:"):
        return _text(form[len("text:") :], spec)
    if form == "-":
        return _npy(sys.stdin.buffer, "standard input")
    if re.match(r"\s*[\[\-+.\d]", form) and not Path(form).exists():
        return _json(form, repr(form))
    file, colon, key = form.rpartition(":")
    if colon and file.lower().endswith(".npz"):
        return _npz(file, key)
    suffix = Path(form).suffix.lower()
    if suffix == ".npy":
        with open(form, "rb") as stream:
            return _npy(stream, form)
    if suffix == ".npz":
        return _npz(form, "")
    if suffix == ".json":
        return _json(Path(form).read_text("utf-8"), form)
    if suffix == ".txt":
        return _text(Path(form).read_text("utf-8"), spec)
    if suffix in _IMAGES:
        return _image(form, spec, images)
    raise ValueError(f"--input {form!r} is none of {_FORMS}")


def _npy(stream: Any, where: str) -> Array:
    import io

    try:
        # A pipe cannot seek, which numpy wants to.
        content = stream if stream is not sys.stdin.buffer else io.BytesIO(stream.read())
        array = np.load(content, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{where}: no array in .npy format: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{where}: holds several arrays; name one: file.npz:KEY")
    return array


def _npz(file: str, key: str) -> Array:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            keys = list(arrays)
            if not key and len(keys) != 1:
                raise ValueError(f"name one of its arrays, {file}:KEY; it has {', '.join(keys) or 'none'}")
            if key and key not in keys:
                raise ValueError(f"there is no array {key!r}; there are {', '.join(keys)}")
            found: Array = arrays[key or keys[0]]
            return found
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file}: {error}") from None
    except Exception as error:
        if type(error).__name__ == "BadZipFile":
            raise ValueError(f"{file}: not an .npz file: {error}") from None
        raise


def _json(text: str, where: str) -> object:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    if isinstance(value, dict):
        raise ValueError(f"{where}: expected lists and numbers, not an object")
    return value


def _text(text: str, spec: TensorSpec) -> Array:
    """One string, in as many dimensions as the model wants."""
    array = np.empty((), object)
    array[()] = text.encode()
    return array.reshape((1,) * len(spec.shape or ()))


def _image(file: str, spec: TensorSpec, form: ImageForm) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ValueError(f"{file}: images need Pillow: pip install pillow") from None
    shape = spec.shape
    layout = _layout(shape)
    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if "c" not in layout or _dim(shape, layout, "c") == 1 else "RGB")
            height, width = _dim(shape, layout, "h"), _dim(shape, layout, "w")
            if height or width:
                image = image.resize((width or image.width, height or image.height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except UnidentifiedImageError:
        raise ValueError(f"{file}: not an image that Pillow can read") from None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if spec.dtype is not None and spec.dtype.kind == "f":
        mean, std = (np.array(numbers, np.float32) for numbers in (form.mean, form.std))
        for numbers in (mean, std):
            if numbers.size not in (1, pixels.shape[2]):
                raise ValueError(f"{file}: {numbers.size} numbers for an image of {pixels.shape[2]} channels")
        pixels = ((pixels.astype(np.float32) - mean) / std).astype(spec.dtype)
    elif spec.dtype is not None:
        pixels = pixels.astype(spec.dtype)
    return _laid_out(pixels, layout)


def _layout(shape: Sequence[int | str | None] | None) -> str:
    """Which axis is what: n rows, c channels, h, w; a model that does not say gets h, w, c."""
    if shape is None:
        return "hwc"
    channels = [dim in (1, 3) for dim in shape]
    if len(shape) == 4:
        return "nchw" if channels[1] and not channels[3] else "nhwc"
    if len(shape) == 3:
        return "chw" if channels[0] and shape[0] == 3 else "hwc" if channels[2] else "nhw"
    if len(shape) == 2:
        return "hw"
    raise ValueError(f"the model takes {len(shape)} dimensions, which no image has; give it an array")


def _dim(shape: Sequence[int | str | None] | None, layout: str, axis: str) -> int:
    """The fixed size of an axis, or 0."""
    dim = shape[layout.index(axis)] if shape is not None and axis in layout else None
    return dim if isinstance(dim, int) else 0


def _laid_out(pixels: Array, layout: str) -> Array:
    """Pixels [h, w, c] with the axes of ``layout``."""
    if "c" not in layout:
        pixels = pixels[:, :, 0]
    elif layout in ("nchw", "chw"):
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return pixels[None] if layout.startswith("n") else pixels


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"{flag}: expected numbers separated by commas; {text!r} came") from None
