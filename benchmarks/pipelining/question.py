"""What every question about pipelines is asked with, and what they time with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Asked", "per_second", "timed"]


@dataclass(frozen=True)
class Asked:
    """How many rounds; ``quick`` is so that all runs to its end, and its figures mean nothing."""

    rounds: int = 15
    quick: bool = False


def timed(call: Callable[[], Any], calls: int = 1) -> Callable[[], dict[str, float]]:
    """The seconds of one call, the mean of ``calls``."""

    def run() -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return {"s": (time.perf_counter() - started) / calls}

    return run


def per_second(caller: Callable[[], Callable[[], Any]], callers: int, seconds: float) -> Callable[[], dict[str, float]]:
    """Calls in a second by several threads, each of which makes its call with ``caller``."""

    def run() -> dict[str, float]:
        counts = [0] * callers
        until = 0.0
        ready = threading.Barrier(callers + 1)

        def work(number: int) -> None:
            call = caller()
            call()  # a connection is made then
            ready.wait()
            ready.wait()
            while time.perf_counter() < until:
                call()
                counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        ready.wait()
        started = time.perf_counter()
        until = started + seconds
        ready.wait()
        for thread in threads:
            thread.join()
        return {"per_second": sum(counts) / (time.perf_counter() - started)}

    return run
