"""Bytes of images to pixels: JPEG and PNG, upright, in three colours, of one size.

The same function makes what the image tower learns from and, as a stage of the pipeline, what it is asked with.
Needs Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

import graphpipe

__all__ = ["decode"]

SIDE = 64
FORMATS = ("JPEG", "PNG")
# A file of a few kilobytes may say that it has billions: what is more is refused before there is memory for it.
PIXELS_MAX = 25_000_000


@graphpipe.model(inputs={"image": "string[n]"}, outputs={"pixels": f"uint8[n, {SIDE}, {SIDE}, 3]"})
def decode(image: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """``pixels`` uint8 [n, 64, 64, 3], red, green and blue, of the files that n images are. A picture is stretched to it.

    Raises InvalidRequest, with the number of the image, for what is none, is cut off or is too large.
    """
    pixels = np.empty((len(image), SIDE, SIDE, 3), np.uint8)
    for i, file in enumerate(image):
        pixels[i] = _pixels(file, i)
    return {"pixels": pixels}


def _pixels(file: bytes, place: int) -> NDArray[Any]:
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:  # reads no more than the head
            width, height = image.size
            if width * height > PIXELS_MAX:
                raise graphpipe.InvalidRequest(
                    f"image {place} has {width:,} x {height:,} pixels; at most {PIXELS_MAX:,} are decoded: make it smaller"
                )
            upright = ImageOps.exif_transpose(image)
            return np.asarray(_in_colours(upright).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    except graphpipe.InvalidRequest:
        raise
    except Exception as error:  # strange bytes make Pillow raise whatever it happens to meet
        reason = "it is neither" if isinstance(error, UnidentifiedImageError) else str(error)[:100]
        raise graphpipe.InvalidRequest(
            f"image {place}, of {len(file):,} bytes, is no whole {' or '.join(FORMATS)} file: {reason}"
        ) from None


def _in_colours(image: Image.Image) -> Image.Image:
    """Red, green and blue: whatever is transparent lies on white, and of 16 bits the upper eight count."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return image.convert("RGB")
