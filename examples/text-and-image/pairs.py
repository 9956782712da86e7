"""What is learned from: drawn pictures as JPEG, each with a text that is true of it or is not."""

from __future__ import annotations

import io
import random
from typing import NamedTuple

from PIL import Image, ImageDraw
from torch.utils.data import Dataset

__all__ = ["Pair", "Pairs", "jpeg"]

COLOURS = {"red": (214, 40, 40), "green": (40, 160, 70), "blue": (40, 80, 210), "yellow": (240, 200, 40)}
SHAPES = ("circle", "square", "triangle")
TEXTS = ("a {colour} {shape}", "The {shape} is {colour}.", "Here is a {colour} {shape}!")


class Pair(NamedTuple):
    """A text and a picture as callers send them, and whether the text is true."""

    text: str
    image: bytes
    is_true: bool


class Pairs(Dataset[Pair]):
    """As many as are wanted, the same every time; every other one is true."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Pair:
        if not 0 <= place < self._count:
            raise IndexError(place)
        chance = random.Random(place)
        colour, shape = seen = chance.choice([*COLOURS]), chance.choice(SHAPES)
        others = [(c, s) for c in COLOURS for s in SHAPES if (c, s) != seen]
        is_true = place % 2 == 0
        said = seen if is_true else chance.choice(others)
        text = chance.choice(TEXTS).format(colour=said[0], shape=said[1])
        return Pair(text, jpeg(colour, shape, chance), is_true)


def jpeg(colour: str, shape: str, chance: random.Random) -> bytes:
    """A file with one thing in it, somewhere, of some size."""
    image = Image.new("RGB", (96, 96), (chance.randrange(225, 256),) * 3)
    size, left, top = chance.randrange(40, 70), chance.randrange(4, 22), chance.randrange(4, 22)
    draw, right, bottom = ImageDraw.Draw(image), left + size, top + size
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=COLOURS[colour])
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=COLOURS[colour])
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
