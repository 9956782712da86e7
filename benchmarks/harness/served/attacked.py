"""The models that are attacked, served as ``attacked:NAME``; no other code of the benchmarks is there when they are."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import graphpipe

ANSWER_BYTES = 16_000_000
CALL_S = 0.01
CROPPED_FLOATS = 3_211_264  # of 128x224x224x3


@graphpipe.model(inputs={"x": "float32[n, m]"}, outputs={"y": "float32[n, m]"})
def rows(x: Any) -> Any:
    """Independent rows, so that it can be batched."""
    return x + 1


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[m]"})
def large(x: Any) -> Any:
    """A large answer to a small request."""
    return np.full(ANSWER_BYTES // 4, x[0])


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def slow(x: Any) -> Any:
    """Takes a while, and no CPU."""
    time.sleep(CALL_S)
    return np.array(x)


def fails(x: Any) -> Any:
    """Fails, whatever came, with words of its own."""
    raise ValueError(f"this model cannot do anything with {x.shape}")


@graphpipe.model(inputs={"x": "float32"}, outputs={"y": "float32[m]"})
def crop(x: Any) -> Any:
    """The start of its input: 77 MB in, 12.8 MB out."""
    return x.reshape(-1)[:CROPPED_FLOATS]
