"""Callers that go on calling while things go wrong, check every answer, and remember what they saw."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import numpy as np

import graphpipe
from graphpipe import errors


class Callers:
    """``count`` threads, each with a client of its own on one of ``urls``; a context: they call while it lasts.

    ``patient`` callers do what the loss-free ones of a rolling restart do: on a connection error, or a connection that was
    closed before any byte of an answer, they go to the next URL. Nobody else calls twice.
    """

    def __init__(
        self, urls: list[str], count: int = 4, *, patient: bool = False, rows_max: int = 49, pause_s: float = 0.005
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.wrong = 0
        self._urls = urls
        self._patient = patient
        self._rows_max = rows_max
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(i,)) for i in range(count)]

    def __str__(self) -> str:
        """What they saw, in words for a table."""
        words = {
            "closed": "closed before an answer",
            "NoAnswer": "cut in the middle of an answer",
            "Unreachable": "found nobody listening",
            "503": "refused with 503",
        }
        others = [f"{count:,} {words.get(what, what)}" for what, count in sorted(self.seen.items()) if what != "ok"]
        right = f"{len(self._threads)} callers: {self.seen['ok'] - self.wrong:,} answered rightly"
        return ", ".join([right, *others, f"{self.wrong} wrong answers"])

    def enough(self, more: int = 20) -> float:
        """Wait until so many more calls were answered, and say how many seconds that took."""
        wanted = self.seen["ok"] + more
        return until(lambda: self.seen["ok"] >= wanted)

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        random = np.random.default_rng(number)
        clients = [graphpipe.Client(url, timeout=10) for url in self._urls]
        at = number
        while not self._stop.wait(self._pause_s):
            sent = random.random(int(random.integers(1, self._rows_max + 1)), dtype=np.float32)
            for _ in range(20 if self._patient else 1):
                try:
                    answer = clients[at % len(clients)].execute(sent)
                except errors.NoAnswer as error:
                    if self._patient and not isinstance(error, errors.TimedOut) and "middle" not in str(error):
                        at += 1
                        time.sleep(0.02)
                        continue
                    # Before any byte of an answer, or in its middle: the first may be tried again elsewhere.
                    before = isinstance(error, errors.NoAnswer) and "without an answer" in str(error)
                    self.seen["closed" if before else type(error).__name__] += 1
                except errors.ServiceError as error:
                    self.seen[str(error.http_status)] += 1
                else:
                    self.seen["ok"] += 1
                    self.wrong += not np.array_equal(answer, sent * 2)
                break
            else:
                self.seen["gave up"] += 1
        for client in clients:
            client.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> float:
    """Wait until it is so, and say how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not become true"
        time.sleep(0.02)
    return time.monotonic() - began


def answers(url: str) -> bool:
    """Whether a call to this URL is answered rightly now."""
    try:
        return bool(np.array_equal(graphpipe.Client(url, timeout=5).execute(np.ones(1, np.float32)), [2]))
    except graphpipe.GraphPipeError:
        return False
