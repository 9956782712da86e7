"""A pipeline of three stages that do nothing, beside one such model: echo, and plain functions; here and served."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle
from benchmarks.pipelining.question import Asked, timed

__all__ = ["overhead"]

Array = NDArray[Any]
LIMIT_US = 30


def passes(x: Array) -> dict[str, Array]:
    """A stage that does nothing."""
    return {"x": x}


def overhead(asked: Asked) -> dict[str, Table]:
    """Microseconds a call of 1 KB in this process; the median of the differences of neighbours."""
    x = np.linspace(0, 1, 256, dtype=np.float32)
    table = Table(
        f"A pipeline of three stages that do nothing, in one process, 1 KB; the goal is {LIMIT_US} us more at most",
        {"stage": "stage", "one": "one model, us", "three": "pipeline of three, us", "more": "more, us"},
    )
    calls = 20 if asked.quick else 500
    for name, stage in (("echo", "echo"), ("a function", passes)):
        with graphpipe.load(stage) as one, graphpipe.Pipeline([stage] * 3) as three:
            ways = {
                "one": timed(lambda model=one: model.infer({"x": x}), calls),  # type: ignore[misc]
                "three": timed(lambda model=three: model.infer({"x": x}), calls),  # type: ignore[misc]
            }
            interleaved(ways, 3)
            found = interleaved(ways, asked.rounds, name)
        row: dict[str, Any] = {way: 1e6 * middle(found[way], "s") for way in ways}
        more = 1e6 * median(a["s"] - b["s"] for a, b in zip(found["three"], found["one"], strict=True))
        table.rows.append({"stage": name, **row, "more": more})
    return {"overhead": table, "served": _served(asked, x)}


def _served(asked: Asked, x: Array) -> Table:
    """The same of a server, asked over a socket. Each stage is a service of its own there."""
    table = Table(
        "The same on a server, asked by one caller over the loopback",
        {"stage": "stage", "one": "one model, us", "three": "pipeline of three, us", "more": "more, us"},
    )
    calls = 20 if asked.quick else 200
    for name, stage in (("echo", "echo"), ("a function", passes)):
        with (
            graphpipe.Pipeline([stage] * 3, name="three") as pipeline,
            graphpipe.serving(pipeline) as three,
            graphpipe.serving(stage) as one,
            graphpipe.Client(one.url) as of_one,
            graphpipe.Client(three.url) as of_three,
        ):
            ways = {
                "one": timed(lambda client=of_one: client.execute(x), calls),  # type: ignore[misc]
                "three": timed(lambda client=of_three: client.execute(x), calls),  # type: ignore[misc]
            }
            interleaved(ways, 3)
            found = interleaved(ways, asked.rounds, f"{name}, served")
        row: dict[str, Any] = {way: 1e6 * middle(found[way], "s") for way in ways}
        more = 1e6 * median(a["s"] - b["s"] for a, b in zip(found["three"], found["one"], strict=True))
        table.rows.append({"stage": name, **row, "more": more})
    return table
