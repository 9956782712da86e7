"""A pipeline of three stages that do nothing, beside one such model: echo, and plain functions; here and served."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle
from benchmarks.pipelining.passing import passes
from benchmarks.pipelining.question import Asked, timed
from benchmarks.pipelining.served import Served

__all__ = ["overhead"]

Array = NDArray[Any]
LIMIT_US = 30
_PASSING = Path(__file__).with_name("passing.py")


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
    """The same of a server, a process of its own, asked over a socket. Each stage is a service of its own there."""
    table = Table(
        "The same on a server, asked by one caller over the loopback",
        {"stage": "stage", "one": "one model, us", "three": "pipeline of three, us", "more": "more, us"},
    )
    calls = 20 if asked.quick else 200
    sources = {"echo": "echo", "a function": f"{_PASSING}:passes"}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        models: dict[str, Path | str] = {}
        for i, source in enumerate(sources.values()):
            models[f"one{i}"] = source
            models[f"three{i}"] = file = Path(folder) / f"three{i}.toml"
            file.write_text(f'[[stages]]\nsource = "{source}"\n' * 3)
        url = stack.enter_context(Served(models))
        for i, name in enumerate(sources):
            ways = {}
            for way in ("one", "three"):
                client = stack.enter_context(graphpipe.Client(f"{url}/models/{way}{i}"))
                ways[way] = timed(lambda client=client: client.execute(x), calls)  # type: ignore[misc]
            interleaved(ways, 3)
            found = interleaved(ways, asked.rounds, f"{name}, served")
            row: dict[str, Any] = {way: 1e6 * middle(found[way], "s") for way in ways}
            more = 1e6 * median(a["s"] - b["s"] for a, b in zip(found["three"], found["one"], strict=True))
            table.rows.append({"stage": name, **row, "more": more})
    return table
