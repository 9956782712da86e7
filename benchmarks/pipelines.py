"""What does a pipeline cost beside its stages, and what is it worth?

    python benchmarks/pipelines.py [overhead] [branches] [--rounds N] [--save]

overhead  a pipeline of three stages that do nothing, beside one such model: echo, and plain functions
branches  two stages that need nothing of one another (sines and sorting), side by side and one after another

All ways are asked in turn, so that a noisy machine is noisy for all; what counts are medians of paired ratios and
differences.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import graphpipe  # noqa: E402
from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.rounds import interleaved, middle, ratio  # noqa: E402

Array = NDArray[Any]


def timed(call: Callable[[], Any], calls: int = 1) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return {"s": (time.perf_counter() - started) / calls}

    return run


# --- overhead ---------------------------------------------------------------------------------------------------------


def passes(x: Array) -> dict[str, Array]:
    """A stage that does nothing."""
    return {"x": x}


def overhead(rounds: int) -> dict[str, Any]:
    x = np.linspace(0, 1, 256, dtype=np.float32)
    result: dict[str, Any] = {}
    for name, stage in (("echo", "echo"), ("function", passes)):
        one, three = graphpipe.load(stage), graphpipe.Pipeline([stage] * 3)
        ways = {
            "one": timed(lambda model=one: model.infer({"x": x}), 500),  # type: ignore[misc]
            "three": timed(lambda model=three: model.infer({"x": x}), 500),  # type: ignore[misc]
        }
        interleaved(ways, 3)
        found = interleaved(ways, rounds, name)
        us = {way: 1e6 * middle(found[way], "s") for way in ways}
        more = 1e6 * median(a["s"] - b["s"] for a, b in zip(found["three"], found["one"], strict=True))
        result[name] = {"one_us": us["one"], "pipeline_of_three_us": us["three"], "overhead_us": more}
        print(
            f"{name}: {us['one']:.1f} us alone, {us['three']:.1f} us as a pipeline of three: +{more:.1f} us (limit 30)"
        )
    return result


# --- branches ---------------------------------------------------------------------------------------------------------


def left(x: Array) -> dict[str, Array]:
    """Some work outside of the interpreter's lock, on one thread."""
    return {"left": np.sort(np.sin(x), axis=0)}


def right(x: Array) -> dict[str, Array]:
    """The same beside it."""
    return {"right": np.sort(np.cos(x), axis=0)}


def join(left: Array, right: Array) -> dict[str, Array]:
    return {"y": left[0] + right[0]}


def branches(rounds: int) -> dict[str, Any]:
    x = np.random.default_rng(0).random((2000, 200))
    pipeline = graphpipe.Pipeline([left, right, join])
    for _ in range(20):
        pipeline.infer({"x": x})
    ways = {
        "as it chooses": timed(lambda: pipeline.infer({"x": x})),
        "one after another": timed(lambda: pipeline.timed_infer({"x": x})),
    }
    found = interleaved(ways, rounds, "branches")
    gain = ratio(found, "one after another", "as it chooses", "s")
    ms = {way: 1e3 * middle(found[way], "s") for way in ways}
    shown = ", ".join(f"{way} {number:.1f} ms" for way, number in ms.items())
    print(f"two branches: {shown}; {gain}x")
    pipeline.close()
    return {"ms": ms, "gain": gain.value}


QUESTIONS: dict[str, Callable[[int], dict[str, Any]]] = {"overhead": overhead, "branches": branches}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/pipelines.json")
    options = parser.parse_args()
    results = {name: QUESTIONS[name](options.rounds) for name in options.question or QUESTIONS}
    if options.save:
        path = ROOT / "benchmarks" / "results" / "pipelines.json"
        path.write_text(json.dumps({"about": about(("numpy", "onnxruntime")), **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
