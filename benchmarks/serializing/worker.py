"""A process that serialises and deserialises as it is told, in an interpreter that has the libraries for it.

Reads one JSON object a line from standard input, answers each with one on standard output:

    {"way": "orjson", "module": "text", "side": "request", "rows": 8}
    {"serialise": 0.1, "deserialise": 0.5, "bytes": 12300000}

The times are seconds for one message. Every answer was checked: the array that came out is the one that went in. What
cannot be had here is answered with {"error": why}.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.serializing.codec import Array, Codec

SHAPES = {"request": (224, 224, 3), "response": (7, 7, 512)}
# What takes less than this is done again and again for as long.
BATCH_S = 0.002
# What takes longer than this is the same the first time and the second.
SLOW_S = 0.5


@functools.cache
def tensor(side: str, rows: int) -> Array:
    return np.random.default_rng(0).random((rows, *SHAPES[side]), np.float32)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it, in a process that does this again and again: once before, so that memory that an
    allocator keeps is warm. That a large result is let go is not counted.
    """
    began = time.perf_counter()
    result = run()
    took = time.perf_counter() - began
    if took >= SLOW_S:
        return took, result
    del result
    times = int(BATCH_S / max(took, 1e-7)) + 1
    began = time.perf_counter()
    for _ in range(times - 1):
        run()
    result = run()
    return (time.perf_counter() - began) / times, result


def measured(codec: Codec, array: Array) -> dict[str, float]:
    serialise_s, sent = timed(lambda: codec.serialise(array))
    size = sum(memoryview(part).nbytes for part in sent)
    body = codec.received(sent)
    del sent
    deserialise_s, back = timed(lambda: codec.deserialise(body))
    np.testing.assert_array_equal(back, array, strict=True)
    return {"serialise": serialise_s, "deserialise": deserialise_s, "bytes": size}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        ways = importlib.import_module(f"benchmarks.serializing.{asked['module']}").WAYS
    except ImportError as problem:
        return {"error": f"it is not installed: {problem}"}
    if asked["way"] not in ways:
        return {"error": "it is not installed"}
    return measured(getattr(ways[asked["way"]], asked["side"]), tensor(asked["side"], asked["rows"]))


def main() -> None:
    # Libraries say things on standard output that are no answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as problem:
            found = {"error": f"it fails: {type(problem).__name__}: {' '.join(str(problem).split())[:300]}"}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
