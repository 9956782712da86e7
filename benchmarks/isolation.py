"""What does a model cost that runs in a process of its own?

    python benchmarks/isolation.py [small] [large] [pure] [--rounds N] [--save]

small    1 KB, across cores (caller and process pinned to one each) and on one core, beside the same model in this process
large    77 MB in, 12.8 MB out: from any array, and from one of model.empty(), beside the same model in this process and
         one copy of what travels
pure     calls of a pure Python function in a second, by 4 threads: in this process, in 1 process, in 2

All ways are asked in turn, so that a noisy machine is noisy for all; what counts are medians of paired ratios and
differences.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import graphpipe  # noqa: E402
from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.rounds import Ratio, interleaved, middle  # noqa: E402

Array = NDArray[Any]
LARGE, ANSWER = (128, 224, 224, 3), (128, 25_000)
_ANSWER = np.ones(ANSWER, np.float32)


def small_model(x: Array) -> Array:
    """Next to nothing, so that what is measured is the way there and back."""
    return x


def large_model(x: Array) -> Array:
    """An answer of a sixth of the input, which is there already."""
    return _ANSWER


def pure_model(x: Array) -> Array:
    """A millisecond or two of Python's own code."""
    total = 0
    for number in range(20_000):
        total += number & 7
    return np.array([total])


def load(function: str, **options: Any) -> graphpipe.LoadedModel:
    return graphpipe.load(f"{__file__}:{function}", **options)


def timed(call: Callable[[], Any], calls: int = 1) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return {"s": (time.perf_counter() - started) / calls}

    return run


@contextlib.contextmanager
def pinned(model: graphpipe.LoadedModel, ours: int, theirs: int) -> Iterator[None]:
    """Have this thread on one CPU, the model's processes on another, as long as this lasts."""
    before = os.sched_getaffinity(0)
    pids: list[int] = model.model.process_ids()  # type: ignore[attr-defined]
    tasks = [int(task) for pid in pids for task in os.listdir(f"/proc/{pid}/task")]
    for task in tasks:
        os.sched_setaffinity(task, {theirs})
    os.sched_setaffinity(0, {ours})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        for task in tasks:
            os.sched_setaffinity(task, before)


def small(rounds: int) -> dict[str, Any]:
    x = np.linspace(0, 1, 256, dtype=np.float32)
    cpus = sorted(os.sched_getaffinity(0))
    result: dict[str, Any] = {}
    with load("small_model") as here, load("small_model", isolate=1) as apart:
        for name, theirs in (("across cores", cpus[-1]), ("on one core", cpus[0])):
            with pinned(apart, cpus[0], theirs):
                ways = {
                    "in this process": timed(lambda: here.infer({"x": x}), 200),
                    "isolated": timed(lambda: apart.infer({"x": x}), 200),
                }
                interleaved(ways, 3)
                found = interleaved(ways, rounds, f"1 KB {name}")
            us = {way: 1e6 * middle(found[way], "s") for way in ways}
            pairs = zip(found["isolated"], found["in this process"], strict=True)
            more = 1e6 * median(one["s"] - other["s"] for one, other in pairs)
            result[name] = {**us, "overhead_us": more}
            print(
                f"1 KB {name}: {us['in this process']:.1f} us in this process, {us['isolated']:.1f} isolated: +{more:.1f}"
            )
    return result


def copying(array: Array, answer: Array) -> Callable[[], None]:
    """One copy of what travels, into memory that is warm."""
    targets = np.ones_like(array), np.ones_like(answer)

    def copy() -> None:
        np.copyto(targets[0], array)
        np.copyto(targets[1], answer)

    return copy


def large(rounds: int) -> dict[str, Any]:
    array = np.random.default_rng(0).random(LARGE, dtype=np.float32)
    with load("large_model") as here, load("large_model", isolate=1) as apart:
        own = apart.empty("x", LARGE, "float32")
        own[:] = array
        ways = {
            "in this process": timed(lambda: here.infer({"x": array})),
            "isolated": timed(lambda: apart.infer({"x": array})),
            "isolated, from model.empty()": timed(lambda: apart.infer({"x": own})),
            "one copy of both": timed(copying(array, _ANSWER)),
        }
        interleaved(ways, 3)
        found = interleaved(ways, rounds, "77 MB")
    print(f"77 MB in, 12.8 MB out, {rounds} rounds      median ms   best   to one copy")
    result = {}
    for way in ways:
        seconds = [each["s"] for each in found[way]]
        to_copy = Ratio(seconds, [each["s"] for each in found["one copy of both"]])
        result[way] = {
            "ms": 1000 * middle(found[way], "s"), "best_ms": 1000 * min(seconds), "to_copy": to_copy.value
        }  # fmt: skip
        row = result[way]
        print(f"  {way:<36}{row['ms']:>9.2f}{row['best_ms']:>8.2f}{row['to_copy']:>12.2f}")
    return result


def per_second(model: graphpipe.LoadedModel, threads: int = 4, seconds: float = 0.5) -> dict[str, float]:
    x = np.zeros(1)
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def call(number: int) -> None:
        while time.perf_counter() < until:
            model.infer({"x": x})
            counts[number] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return {"per_second": sum(counts) / seconds}


def pure(rounds: int) -> dict[str, Any]:
    with load("pure_model") as here, load("pure_model", isolate=1) as one, load("pure_model", isolate=2) as two:
        ways = {
            "in this process": lambda: per_second(here),
            "in 1 process": lambda: per_second(one),
            "in 2 processes": lambda: per_second(two),
        }
        interleaved(ways, 1)
        found = interleaved(ways, rounds, "pure Python")
    result = {way: middle(found[way], "per_second") for way in ways}
    more = median(
        b["per_second"] / a["per_second"] for a, b in zip(found["in 1 process"], found["in 2 processes"], strict=True)
    )
    shown = ", ".join(f"{way} {number:.0f}" for way, number in result.items())
    print(f"pure Python, calls in a second: {shown}; {more:.2f}x by a second process")
    return {"per_second": result, "second_to_first": more}


QUESTIONS = {"small": small, "large": large, "pure": pure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/isolation.json")
    options = parser.parse_args()
    results = {name: QUESTIONS[name](options.rounds) for name in options.question or QUESTIONS}
    if options.save:
        path = ROOT / "benchmarks" / "results" / "isolation.json"
        path.write_text(json.dumps({"about": about(("numpy",)), **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
