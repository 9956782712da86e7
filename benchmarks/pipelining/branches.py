"""Two stages that need nothing of one another (sines and sorting), side by side and one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle, ratio
from benchmarks.pipelining.question import Asked, timed

__all__ = ["branches"]

Array = NDArray[Any]


def left(x: Array) -> dict[str, Array]:
    """Some work outside of the interpreter's lock, on one thread."""
    return {"left": np.sort(np.sin(x), axis=0)}


def right(x: Array) -> dict[str, Array]:
    """The same beside it."""
    return {"right": np.sort(np.cos(x), axis=0)}


def join(left: Array, right: Array) -> dict[str, Array]:
    """What comes after both."""
    return {"y": left[0] + right[0]}


def branches(asked: Asked) -> dict[str, Table]:
    """Milliseconds a call."""
    x = np.random.default_rng(0).random((2000, 200))
    with graphpipe.Pipeline([left, right, join]) as pipeline:
        for _ in range(20):
            pipeline.infer({"x": x})
        ways = {
            "as it chooses": timed(lambda: pipeline.infer({"x": x})),
            "one after another": timed(lambda: pipeline.timed_infer({"x": x})),
        }
        found = interleaved(ways, asked.rounds, "branches")
    table = Table(
        "Two stages that need nothing of one another",
        {"way": "they run", "ms": "a call, ms", "gain": "times as quick, x"},
    )
    for way in ways:
        gain = ratio(found, "one after another", way, "s").value
        table.rows.append({"way": way, "ms": 1e3 * middle(found[way], "s"), "gain": gain})
    return {"branches": table}
