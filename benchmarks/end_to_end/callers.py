"""So many callers, each of whom asks again as soon as he is answered: what the client's side of every way has in common.

A program of callers reads a line of JSON for each thing to do, and answers with one:
  {"model": NAME, "write": FILE}                   ask once, and write the answer there (.npy)
  {"model": NAME, "callers": N, "seconds": S}      ask for so long: {"calls": how many count,
                                                    "per_second": ..., "all_calls": how many there were}
The inputs are the files NAME.npy of a folder. Needs numpy and nothing of this repository.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RAMP", "Count", "answer_lines", "in_tasks", "in_threads"]

RAMP = 0.15  # the part of the time at whose end everybody is under way
_CALLS_MIN = 6  # where a call takes seconds, the callers go on until there are so many

Ask = Callable[[str, Any], Any]


class Count:
    """When answers came. Those counted are all after the first that came behind the ramp: no part of a call is lost or
    won at the ends, however few there are. What comes when it is over is in no count, since nobody asks anew then.
    """

    def __init__(self, seconds: float) -> None:
        self._behind_ramp = time.perf_counter() + seconds * RAMP
        self._end = time.perf_counter() + seconds
        self._ends: list[float] = []
        self.all_calls = 0

    def answered(self) -> None:
        now = time.perf_counter()
        self.all_calls += 1
        if now >= self._behind_ramp:
            self._ends.append(now)

    @property
    def is_over(self) -> bool:
        return time.perf_counter() >= self._end and len(self._ends) > _CALLS_MIN

    def summary(self) -> dict[str, float]:
        """Of the answers so far."""
        calls = len(self._ends) - 1
        return {"calls": calls, "per_second": calls / (self._ends[-1] - self._ends[0])}


def in_threads(ask: Ask, model: str, array: Any, callers: int, seconds: float) -> dict[str, float]:
    """Callers that are threads, and block."""
    count = Count(seconds)
    found: list[dict[str, float]] = []
    late: list[int] = []
    failed: list[BaseException] = []
    lock = threading.Lock()

    def call() -> None:
        try:
            while not failed:
                ask(model, array)
                if found:
                    late.append(1)
                    return
                with lock:
                    count.answered()
                if count.is_over:
                    found.append(count.summary())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found[0] | {"all_calls": count.all_calls + len(late)}


async def in_tasks(
    ask: Callable[[str, Any], Awaitable[Any]], model: str, array: Any, callers: int, seconds: float
) -> dict[str, float]:
    """Callers that are tasks of one event loop."""
    count = Count(seconds)
    found: list[dict[str, float]] = []
    late: list[int] = []

    async def call() -> None:
        while True:
            await ask(model, array)
            if found:
                late.append(1)
                return
            count.answered()
            if count.is_over:
                found.append(count.summary())

    await asyncio.gather(*(call() for _ in range(callers)))
    return found[0] | {"all_calls": count.all_calls + len(late)}


def answer_lines(
    inputs: str, once: Ask, many: Callable[[str, Any, int, float], dict[str, float]], limit: int = sys.maxsize
) -> None:
    """Do what stdin says until it ends; at most ``limit`` callers at once."""
    arrays = {path.stem: np.load(path) for path in Path(inputs).glob("*.npy")}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        model, found = told["model"], {}
        if "write" in told:
            np.save(told["write"], once(model, arrays[model]))
        else:
            found = many(model, arrays[model], min(told["callers"], limit), told["seconds"])
        print(json.dumps(found), flush=True)
