"""Bytes of a JPEG or PNG to pixels: the stage in Python, by Pillow.

The same class makes the pixels that a network learns from and, as the first stage of a pipeline, those that it is asked
with.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import graphpipe

SIZE = 224
# What is cut off around the middle, as if the shorter side were 256 first.
SHORTER_SIDE = 256
# Pillow holds 4 bytes of each, and an upright or opaque copy beside them.
PIXELS_MAX = 50_000_000
# Of one call: what comes out is 150 KB each, however little came in.
IMAGES_MAX = 256
FORMATS = ("JPEG", "PNG")

_ORIENTATION = 0x0112
# By what EXIF says: how the camera was held, undone.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@graphpipe.model(inputs={"image": "string[n]"}, outputs={"pixels": f"uint8[n, {SIZE}, {SIZE}, 3]"})
class Decode:
    """The middle of each picture, upright, in RGB.

    ``pixels_max`` is how many a picture may have before it is decoded, ``images_max`` how many pictures a call.
    """

    def __init__(self, pixels_max: int = PIXELS_MAX, images_max: int = IMAGES_MAX) -> None:
        self._pixels_max = pixels_max
        self._images_max = images_max

    def __call__(self, image: Sequence[bytes]) -> NDArray[np.uint8]:
        """``pixels`` uint8 [n, 224, 224, 3] of n files' bytes.

        Raises InvalidRequest, which says which of them and why, for what is no JPEG or PNG, is broken or ends too early,
        or has too many pixels, and for too many pictures.
        """
        if len(image) > self._images_max:
            raise graphpipe.InvalidRequest(
                f"{len(image):,} images came, and a call may have {self._images_max}; send them in several calls"
            )
        pixels = np.empty((len(image), SIZE, SIZE, 3), np.uint8)
        for number, content in enumerate(image):
            try:
                pixels[number] = np.asarray(self._middle(content))
            except graphpipe.InvalidRequest as error:
                raise graphpipe.InvalidRequest(f"image {number + 1} of {len(image)}: {error}") from None
        return pixels

    def _middle(self, content: bytes) -> Image.Image:
        opened = self._opened(content)
        try:
            opened.load()
            upright = _upright(_rgb(opened), _orientation(opened))
        except MemoryError:
            raise
        except Exception as error:  # decoders raise anything about bytes that they do not like
            raise graphpipe.InvalidRequest(
                f"{len(content)} bytes that begin like a {opened.format} are broken or end too early ({error}); send the "
                "whole file as it is"
            ) from None
        width, height = upright.size
        half = min(width, height) * SIZE / SHORTER_SIDE / 2
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        # The box is what is resized: all of a picture of 1 x 1,000,000 would be made enormous.
        return upright.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)

    def _opened(self, content: bytes) -> Image.Image:
        """What it is, and how large, before it is decoded."""
        too_many = f"a picture may have {self._pixels_max:,} pixels; send a smaller one"
        try:
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # over Pillow's own limits
            raise graphpipe.InvalidRequest(f"it has more pixels than Pillow opens; {too_many}") from None
        except MemoryError:
            raise
        except Exception:
            begins = f"{len(content)} bytes that begin with {content[:8]!r} came" if content else "no bytes came"
            raise graphpipe.InvalidRequest(
                f"{begins}, which cannot be read as a JPEG or PNG; send the file as it is"
            ) from None
        width, height = opened.size
        if width * height > self._pixels_max:
            raise graphpipe.InvalidRequest(f"it has {width:,} x {height:,} pixels; {too_many}")
        return opened


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue: what can be seen through lies on white, 16 bits of grey lose the lower eight."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # what a camera wrote beside a good picture, and nobody can read, is no reason to refuse it
        return 1
