"""Who may come in: room for a request's body is taken before its first byte is read."""

from __future__ import annotations

import asyncio
from collections import deque

from graphpipe.buffers import BufferPool, size_class
from graphpipe.errors import Overloaded, TooLarge

__all__ = ["Admission"]


class Admission:
    """Leases for request bodies, under two limits: of one body, and of all bodies in flight together.

    Belongs to one event loop. Whoever finds no room waits, in order of arrival, for at most ``wait_s``.
    """

    def __init__(self, pool: BufferPool, body_bytes_max: int, wait_s: float) -> None:
        self.body_bytes_max = body_bytes_max
        self._pool = pool
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        pool.on_return = self._on_return

    def check(self, size: int) -> None:
        """Raise TooLarge if a body of ``size`` bytes is over the limit of one body."""
        if size > self.body_bytes_max:
            raise TooLarge(f"the body has {size} bytes; at most {self.body_bytes_max} are taken (--body-bytes-max)")

    def now(self, size: int) -> memoryview | None:
        """Room for a body of ``size`` bytes, or None if there is none at this moment.

        Raises TooLarge if there never can be.
        """
        self.check(size)
        if self._waiting:
            return None
        return self._lease(size)

    async def soon(self, size: int) -> memoryview:
        """Room for a body of ``size`` bytes, after a wait if need be.

        Raises Overloaded if no room came in time, TooLarge if it never can.
        """
        lease = self.now(size)
        deadline = self._loop.time() + self._wait_s
        while lease is None:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(turn)
            timer = self._loop.call_at(deadline, _time_out, turn)
            try:
                await turn
            except TimeoutError:
                raise Overloaded(
                    f"{self._pool.leased_bytes} bytes of requests are in flight, of at most {self._pool.bytes_max} "
                    "(--in-flight-bytes-max); try again"
                ) from None
            finally:
                timer.cancel()
                if turn in self._waiting:
                    self._waiting.remove(turn)
            lease = self._lease(size)
        return lease

    def _lease(self, size: int) -> memoryview | None:
        lease = self._pool.lease(size)
        if lease is None and size_class(size) > self._pool.bytes_max:
            raise TooLarge(
                f"the body has {size} bytes, but at most {self._pool.bytes_max} may be in flight "
                "(--in-flight-bytes-max)"
            )
        return lease

    def _on_return(self) -> None:
        if self._waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # All of them: whoever still finds no room waits on, in front of those who come later.
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)


def _time_out(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())
