"""Answers on their way from the threads that made them to the loop that waits for them.

To wake a loop costs more than a small model's whole run. So answers of short runs gather while their thread has more to do,
but not at its mercy, since its next run may be a long one: the loop is told of the first of them, and looks a moment later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["HandBack"]

T = TypeVar("T")

# So long gather what may gather.
_GATHER_S = 0.001
# When the loop cannot be woken, it is tried again after so long.
_AGAIN_S = 0.05


class HandBack(Generic[T]):
    """What was finished in any thread and is wanted on one loop, where ``deliver`` gets it, in order."""

    __slots__ = ("_deliver", "_finished", "_looks", "_woken", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[list[T]], None]) -> None:
        self.loop = loop
        self._deliver = deliver
        self._finished: list[T] = []
        self._woken = False  # the loop is about to look
        self._looks = False  # or will in a moment

    def put(self, finished: T, *, more: bool) -> None:
        """Hand one back, from any thread, at once; in a moment if there is ``more`` to come."""
        self._finished.append(finished)
        # Asked when it is in there: a loop that is said to look has yet to do so.
        if not more:
            if not self._woken:
                self._woken = True
                self._call(self._look)
        elif not self._looks:
            self._looks = True
            self._call(self._look_soon)

    def again(self, finished: T) -> None:
        """The same for one that may have been handed back already, or only in part. Delivered twice it does no harm."""
        self._finished.append(finished)
        self._looks = False
        self._call(self._look)

    def _call(self, what: Callable[[], None]) -> None:
        while not self.loop.is_closed():  # else nobody waits any more
            try:
                self.loop.call_soon_threadsafe(what)
                return
            except BaseException:  # out of memory, say: they wait for nobody but this thread
                time.sleep(_AGAIN_S)

    def _look_soon(self) -> None:
        self.loop.call_later(_GATHER_S, self._look_late)

    def _look_late(self) -> None:
        self._looks = False
        self._look()

    def _look(self) -> None:
        # Said before it looks: what comes from here on wakes the loop again.
        self._woken = False
        there = self._finished[:]
        if there:
            del self._finished[: len(there)]  # more may have come
            self._deliver(there)
