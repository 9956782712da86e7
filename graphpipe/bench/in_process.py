"""A model in this process under load: what the machine can do with it where no server stands between.

As many threads as a server would have run it. A caller who was answered stands at the end of the line again; a thread
takes the first in line. So callers wait for their turn as they would with a server, and for nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import perf_counter, sleep
from typing import Any

from graphpipe.backends.loaded import LoadedModel
from graphpipe.bench.load import Load
from graphpipe.bench.requests import Request
from graphpipe.bench.tally import Tally

__all__ = ["InProcess"]

_NAP_S = 0.1
# A call that still runs when all is over is not waited for longer than this.
_END_S = 60.0


class InProcess:
    """A loaded model, asked ``requests`` in turn by at most ``threads`` threads."""

    is_elsewhere = False

    def __init__(self, model: LoadedModel, title: str, requests: Sequence[Request], threads: int) -> None:
        self.title = title
        self.request = requests[0]
        self.request_bytes = len(self.request.body())
        self.tally = Tally()
        self.threads = threads
        self._model = model
        self._next_request = cycle(requests).__next__
        self._asking = threading.Event()
        self._line: deque[float] = deque()
        self._dues: Iterator[float] | None = None
        self._next_due = 0.0
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._working = 0
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def begin(self, load: Load) -> None:
        """Have it asked, from now on until ``end``."""
        now = perf_counter()
        self._line = deque([now] * load.callers)
        self._dues = None if load.callers else load.dues(now)
        self._next_due = now
        self._asking.set()
        count = min(load.callers or self.threads, self.threads)
        self._loop, self._over, self._working = asyncio.get_running_loop(), asyncio.Event(), count
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for worker in self._workers:
            worker.start()

    async def end(self) -> None:
        """Ask no more, and wait for the calls that are under way."""
        self._asking.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), _END_S)

    def waiting(self) -> int:
        """How many requests are due that have no answer yet."""
        if self._dues is None:
            return len(self._line)
        return len(self._workers) if perf_counter() > self._next_due else 0

    async def close(self) -> None:
        """Ask no more; the model is its owner's to close."""
        self._asking.clear()

    def _work(self) -> None:
        self._ask()
        with self._lock:
            self._working -= 1
            last = not self._working
        if last and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                self._loop.call_soon_threadsafe(self._over.set)

    def _ask(self) -> None:
        tally, line = self.tally, self._line
        asking = self._asking.is_set
        while asking():
            due = line.popleft() if self._dues is None else self._take_due(self._dues)
            if due is None:
                return
            request = self._next_request()
            try:
                answer = self._model.execute_multi(
                    request.arrays, request.names, request.outputs, config=request.config
                )
            except Exception as error:
                with self._lock:
                    tally.fail(error)
            else:
                now = perf_counter()
                tally.latencies.append(now - due)
                tally.received += sum(map(_size, answer))
                del answer
            if self._dues is None:
                line.append(perf_counter())

    def _take_due(self, dues: Iterator[float]) -> float | None:
        """The next moment that a request is due, when it has come; None if nobody asks any more."""
        with self._lock:
            due = self._next_due = next(dues)
        while (left := due - perf_counter()) > 0:
            if not self._asking.is_set():
                return None
            sleep(min(left, _NAP_S))
        return due


def _size(array: Any) -> int:
    return int(array.nbytes)
