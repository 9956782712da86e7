"""What a model learned pictures from, and how they become that: presets by name, or numbers.

What a model was trained on is in no file of it. A preset says it in a word. Numbers that everybody copies are meant for
pixels of 0 to 1; beside pixels of 0 to 255 they are refused, since wrong ones give wrong answers and no error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["FITS", "PRESETS", "ImageForm"]

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True, slots=True)
class ImageForm:
    """How a picture becomes numbers: ``(pixel * scale - mean) / std``, one number or one for each channel.

    A pixel is 0 to 255. ``margin`` is how much larger than the model's a picture is made before its centre is cut out;
    ``size`` is the height and width where the model leaves them open, 0 what the picture has. ``guessed``: nobody said it.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    bgr: bool = False
    bicubic: bool = False
    margin: float = 1.0
    size: tuple[int, int] = (0, 0)
    fit: str = "crop"
    name: str = ""
    guessed: bool = False

    @classmethod
    def of(
        cls, preset: str = "", mean: str = "", std: str = "", scale: str = "", fit: str = "", size: str = ""
    ) -> ImageForm:
        """From what the flags say; an empty text was not said.

        Raises ValueError for what is no number, and for constants that do not belong beside the pixels that they meet.
        """
        flags = {"--image-mean": mean, "--image-std": std, "--image-scale": scale}
        said = [f"{flag} {text}" for flag, text in flags.items() if text]
        if preset and said:
            raise ValueError(f"--image-preset {preset} has its own numbers; leave it out, or {' and '.join(said)}")
        if preset:
            form = PRESETS[preset]
        elif said:
            form = _constants(mean, std, scale, " ".join(said))
        else:
            form = replace(PRESETS["zero-one"], guessed=True)
        return replace(form, fit=fit or form.fit, size=_size(size) if size else form.size)


PRESETS = {
    "imagenet": ImageForm(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255, margin=256 / 224, size=(224, 224), name="imagenet"
    ),
    "imagenet-caffe": ImageForm(
        (103.939, 116.779, 123.68), bgr=True, margin=256 / 224, size=(224, 224), name="imagenet-caffe"
    ),
    "clip": ImageForm(
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), 1 / 255,
        bicubic=True, size=(224, 224), name="clip",
    ),
    "zero-one": ImageForm(scale=1 / 255, name="zero-one"),
    "minus-one-one": ImageForm((1.0,), scale=1 / 127.5, name="minus-one-one"),
}  # fmt: skip


def _constants(mean: str, std: str, scale: str, said: str) -> ImageForm:
    factor = _factor(scale) if scale else 1.0
    form = ImageForm(_numbers("--image-mean", mean or "0"), _numbers("--image-std", std or "1"), factor)
    if 0 in form.std:
        raise ValueError("--image-std: nothing can be divided by 0")
    largest = max(map(abs, (*form.mean, *form.std)))
    trivial = set(form.mean) == {0} and set(form.std) == {1}
    top = 255 * abs(factor)
    if top > 2 and largest <= 1 and not trivial:
        raise ValueError(
            f"{said}: these are for pixels of 0 to 1, and here they are 0 to {top:g}; write {_instead(form)}, or the "
            "numbers times 255"
        )
    if top <= 2 < largest:
        raise ValueError(
            f"{said}: --image-scale makes pixels 0 to {top:g}, and {largest:g} is for 0 to 255; leave it out"
        )
    if mean and not std and not scale:
        raise ValueError(f"{said}: what comes off pixels of 0 to 255 is said, but not what they are divided by; add "
                         "--image-std 1, or 255")  # fmt: skip
    return form


def _instead(form: ImageForm) -> str:
    """What to write in the place of constants for pixels of 0 to 1."""
    for name, preset in PRESETS.items():
        near = (
            len(ours) == len(theirs)
            and all(math.isclose(a, b, abs_tol=0.002) for a, b in zip(ours, theirs, strict=True))
            for ours, theirs in ((form.mean, preset.mean), (form.std, preset.std))
        )
        if preset.scale == 1 / 255 and all(near):
            return f"--image-preset {name}"
    if {*form.mean, *form.std} == {0.5}:
        return "--image-preset minus-one-one"
    return "--image-scale 1/255 beside them"


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    raise ValueError(f"{flag}: expected numbers separated by commas; {text!r} came")


def _factor(text: str) -> float:
    """A number, or one over another: 1/255."""
    try:
        over, _, under = text.partition("/")
        factor = float(over) / float(under or 1)
        if math.isfinite(factor) and factor:
            return factor
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f"--image-scale: expected a number like 0.5 or 1/255; {text!r} came")


def _size(text: str) -> tuple[int, int]:
    """Height and width, or one number for both."""
    words = text.split(",")
    if len(words) <= 2 and all(word.strip().isdecimal() and int(word) for word in words):
        return int(words[0]), int(words[-1])
    raise ValueError(f"--image-size: expected one number, or a height and a width like 224,320; {text!r} came")
