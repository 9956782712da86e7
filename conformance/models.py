"""The models that live calls are made to: Python functions, served by graphpipe-serve."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import graphpipe
from graphpipe import errors

# Longer than any deadline that is sent to it, and short enough to be waited for at the end.
SLOW_S = 3.0


@graphpipe.model(
    inputs={"a": "float32[n]", "b": "float32[n]"},
    outputs={"sum": "float32[n]", "difference": "float32[n]", "config": "string"},
)
def combine(a: Any, b: Any, config: str) -> Any:
    return {"sum": a + b, "difference": a - b, "config": np.array(config.encode(), object)}


@graphpipe.model(inputs={"flags": "bool[n]"}, outputs={"flipped": "bool[n]", "count": "int64"})
def flip(flags: Any) -> Any:
    return {"flipped": ~flags, "count": np.int64(flags.sum())}


@graphpipe.model(inputs={"x": "any"}, outputs={"y": "any"})
def refuse(x: Any, config: str) -> Any:
    """Raises what ``config`` names: one of the package's errors, or something that nobody foresaw."""
    raise getattr(errors, config, ZeroDivisionError)(f"größe: {config}")


@graphpipe.model(inputs={"x": "float32"}, outputs={"y": "float32"})
def slow(x: Any) -> Any:
    time.sleep(SLOW_S)
    return x


@graphpipe.model(inputs={"x": "float32"}, outputs={"left_s": "float64"})
def patience(x: Any, timeout_s: float | None) -> Any:
    """How long the caller will still wait, as it told the server."""
    return np.float64(-1 if timeout_s is None else timeout_s)
