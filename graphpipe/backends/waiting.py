"""Runs that somebody waits for only so long. A model in this process cannot be stopped: who stops waiting leaves it to
end by itself.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from graphpipe.errors import let_go

__all__ = ["BoundedRun", "BoundedRuns"]

T = TypeVar("T")


class BoundedRuns:
    """The runs of one model that have a deadline, each on a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._at_end: Callable[[], None] | None = None

    def begin(self, call: Callable[[], T]) -> BoundedRun[T]:
        """Begin a call, on a daemon: a program that ends does not wait for what it gave up."""
        run = BoundedRun(contextvars.copy_context(), call)
        with self._lock:
            self._count += 1
        threading.Thread(target=self._work, args=(run,), name="graphpipe-bounded-run", daemon=True).start()
        return run

    def at_end(self, then: Callable[[], None]) -> None:
        """Call this now, or when the last run that is under way has ended."""
        with self._lock:
            if self._count:
                self._at_end = then
                return
        then()

    def _work(self, run: BoundedRun[T]) -> None:
        run.work()
        with self._lock:
            self._count -= 1
            then, self._at_end = (self._at_end, None) if self._count == 0 else (None, self._at_end)
        run.end()  # after the count: whoever hears of the end finds none under way
        if then is not None:
            then()


class BoundedRun(Generic[T]):
    """One of them. ``over`` is set when it has ended."""

    def __init__(self, context: contextvars.Context, call: Callable[[], T]) -> None:
        self.over = threading.Event()
        self._context, self._call = context, call
        self._value: T
        self._error: BaseException | None = None
        self._is_left = False

    def work(self) -> None:
        """Do it, and keep what comes of it."""
        try:
            self._value = self._context.run(self._call)
        except BaseException as error:
            self._error = error
        finally:
            del self._call, self._context

    def end(self) -> None:
        """It has ended, and whoever waits for it is told."""
        self.over.set()
        if self._is_left:
            self._forget()

    def leave(self) -> None:
        """Nobody waits for it any more, and nobody will ask what came of it."""
        self._is_left = True
        if self.over.is_set():
            self._forget()

    def _forget(self) -> None:
        # An error remembers the frame that caught it, and that this object: a ring that would hold what was sent.
        error, self._error = self._error, None
        if error is not None:
            let_go(error)

    def result(self) -> T:
        """What it gave, or raise what it raised; once, and when it is over."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._value
        finally:
            del error  # it remembers this frame
