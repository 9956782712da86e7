"""Who waits for the same rows: a flight computes rows for all who ask for them while it is under way.

It is a task of its own, since the caller who had it begin may leave while others wait. When nobody waits any more it is
cancelled, and however it ended, nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.stages.stage import Outputs

__all__ = ["Flight", "Flights"]

log = logging.getLogger("graphpipe.cache")


@dataclass(slots=True, eq=False)
class _Waiter:
    """A caller, and how many flights it still waits for."""

    future: asyncio.Future[None]
    count: int


@dataclass(slots=True, eq=False)
class Flight:
    """Rows under way. ``outputs`` is None if they did not arrive as rows; ``moved``: the model changed meanwhile."""

    keys: list[bytes]
    asked: frozenset[str]
    version: str
    outputs: Outputs | None = None
    error: Exception | None = None
    moved: bool = False
    _waiters: list[_Waiter] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _done: bool = False


class Flights:
    """Those of one cache, by the keys of their rows."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: bytes, asked: Iterable[str]) -> Flight | None:
        """The flight that brings these outputs of a row."""
        flight = self._by_key.get(key)
        return flight if flight is not None and flight.asked.issuperset(asked) else None

    def begin(self, flight: Flight, keys: Iterable[bytes], task: asyncio.Task[None]) -> None:
        """``task`` computes a flight, which is found by ``keys`` from now on, unless others are found there."""
        for key in keys:
            self._by_key.setdefault(key, flight)
        flight._task = task
        # Not in the task itself: one that is cancelled before its first step does not come to its `finally`.
        task.add_done_callback(partial(self._on_end, flight))

    async def wait(self, flights: Sequence[Flight]) -> None:
        """Until all of them have ended. Who is cancelled meanwhile waits for none of them any more."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), len(flights))
        for flight in flights:
            flight._waiters.append(waiter)
        try:
            await waiter.future
        finally:
            for flight in flights:
                self._step_back(flight, waiter)

    def _step_back(self, flight: Flight, waiter: _Waiter) -> None:
        with contextlib.suppress(ValueError):
            flight._waiters.remove(waiter)
        if not flight._waiters and not flight._done and flight._task is not None:
            self._land(flight)
            flight._task.cancel()

    def _land(self, flight: Flight) -> None:
        """Nobody can join any more."""
        flight._done = True
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]

    def _on_end(self, flight: Flight, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            FAILURES.tell(log, "rows could not be computed", error=error)
        flight._task = None  # the error that ended it remembers frames that know the flight
        self._land(flight)
        for waiter in flight._waiters:
            waiter.count -= 1
            if not waiter.count and not waiter.future.done():
                waiter.future.set_result(None)
