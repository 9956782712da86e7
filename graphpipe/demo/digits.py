"""The digit model as a function of arrays: how similar a digit is to each of 128, and a regression on that.

The weights are those of examples/digits/digits.onnx, and examples/digits/train.py writes both.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.python.hints import model

__all__ = ["arrays", "classify"]


@functools.cache
def arrays() -> dict[str, NDArray[np.float32]]:
    """The model's weights by name, and the ``digit``."""
    with (files("graphpipe.demo") / "digits.npz").open("rb") as file, np.load(file) as archive:
        return dict(archive)


@model(inputs={"pixels": "float32[n, 64]"}, outputs={"label": "int64[n]", "probabilities": "float32[n, 10]"})
def classify(pixels: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Handwritten digits, 8 x 8 pixels with values from 0 to 16, row by row."""
    known = arrays()
    scaled = pixels / known["pixel_max"]
    # |pixels - seen|^2 = |pixels|^2 - 2 pixels . seen + |seen|^2
    distances = known["seen_squared"] - 2 * (scaled @ known["seen"].T) + (scaled**2).sum(axis=1, keepdims=True)
    scores = np.exp(known["minus_gamma"] * distances) @ known["weights"] + known["bias"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores.argmax(axis=1), odds / odds.sum(axis=1, keepdims=True)
