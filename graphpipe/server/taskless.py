"""A coroutine run without a task.

Most answers need no waiting at all, and those that wait do so once, for a worker thread. A task would cost more than
the rest of a small request. So a coroutine is stepped by hand: what it awaits are futures of the loop, and it goes on
when each is done. The price: it must not use what needs a current task (``asyncio.timeout``, task groups).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["Taskless"]

T = TypeVar("T")


class Taskless(Generic[T]):
    """One coroutine under way. ``done(result, error)`` is called once, at its end, unless it is cancelled before."""

    __slots__ = ("_coroutine", "_done", "_future")

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._coroutine: Coroutine[Any, Any, T] | None = coroutine
        self._done = done
        self._future: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Run to the first wait, or to the end."""
        self._step()

    def cancel(self) -> None:
        """Stop waiting: the awaited future is cancelled, the coroutine closed, ``done`` not called."""
        coroutine, future = self._coroutine, self._future
        self._coroutine = self._future = None
        if future is not None:
            future.remove_done_callback(self._step)
            future.cancel()
        if coroutine is not None:
            coroutine.close()

    def _step(self, _: object = None) -> None:
        # The traceback of what is raised below remembers this frame, and the future the failure.
        del _
        coroutine = self._coroutine
        if coroutine is None:
            return
        try:
            future = coroutine.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except BaseException as error:
            self._end(None, error)
        else:
            if future is None:  # a bare yield: sleep(0)
                self._future = None
                asyncio.get_running_loop().call_soon(self._step)
                return
            # What a task does on receiving a future: take note that its wait has been seen.
            future._asyncio_future_blocking = False
            self._future = future
            future.add_done_callback(self._step)

    def _end(self, result: T | None, error: BaseException | None) -> None:
        self._coroutine = self._future = None
        self._done(result, error)
