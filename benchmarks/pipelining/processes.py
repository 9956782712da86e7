"""A stage of pure Python under callers at once: in the caller's interpreter, in one process of its own, and in two.

Both as a pipeline in this process, and as one behind graphpipe-serve.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import graphpipe
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle, ratio
from benchmarks.pipelining.question import Asked, per_second
from benchmarks.pipelining.served import Served

__all__ = ["processes"]

CALLERS = 4
_STAGE = Path(__file__).with_name("pure.py")
WAYS = {"none": "in the interpreter of all", "one": "in 1 process of its own", "two": "in 2 processes of its own"}
_PROCESSES = {"none": 0, "one": 1, "two": 2}
_X = {"x": np.zeros(1)}


def processes(asked: Asked) -> dict[str, Table]:
    """Calls in a second."""
    seconds = 0.1 if asked.quick else 0.5
    table = Table(
        f"A stage of pure Python, {CALLERS} callers at once",
        {
            "way": "the stage runs", "here": "called here, calls/s", "here_gain": "to 1 process, x",
            "served": "over the wire, calls/s", "served_gain": "to 1 process, over the wire, x",
        },
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = {way: _file(Path(folder), way) for way in WAYS}
        url = stack.enter_context(Served(files))
        ways: dict[str, Callable[[], dict[str, float]]] = {}
        for way, file in files.items():
            pipeline = stack.enter_context(graphpipe.load(file))
            ways[f"{way} here"] = per_second(lambda model=pipeline: lambda: model.infer(_X), CALLERS, seconds)  # type: ignore[misc]
            ways[f"{way} served"] = per_second(
                lambda way=way: _caller(stack, f"{url}/models/{way}"),  # type: ignore[misc]
                CALLERS, seconds,
            )  # fmt: skip
        interleaved(ways, 1)
        found = interleaved(ways, asked.rounds, "processes")
    for way, words in WAYS.items():
        row: dict[str, Any] = {"way": words}
        for place in ("here", "served"):
            row[place] = middle(found[f"{way} {place}"], "per_second")
            row[f"{place}_gain"] = ratio(found, f"{way} {place}", f"one {place}", "per_second").value
        table.rows.append(row)
    return {"processes": table}


def _file(folder: Path, way: str) -> Path:
    path = folder / f"{way}.toml"
    count = _PROCESSES[way]
    path.write_text(f'[[stages]]\nsource = "{_STAGE}:pure"\n{f"isolate = {count}" if count else ""}\n')
    return path


def _caller(stack: ExitStack, url: str) -> Callable[[], Any]:
    client = stack.enter_context(graphpipe.Client(url))
    return lambda: client.infer(_X)
