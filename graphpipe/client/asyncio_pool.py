"""The connections of an asynchronous client: at most so many, used again, and shared out in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from graphpipe.client.asyncio_connection import AsyncConnection

__all__ = ["ConnectionPool"]


class ConnectionPool:
    """At most ``connections_max`` connections, idle ones included. Belongs to one event loop.

    Whoever takes one gives it back, in whatever state it is. Callers that find none wait, first come first served.
    """

    def __init__(self, connect: Callable[[], Awaitable[AsyncConnection]], connections_max: int) -> None:
        self.closed = False
        self._connect = connect
        self._connections_max = connections_max
        self._count = 0  # connections and the right to make one, whoever holds them
        self._idle: list[AsyncConnection] = []
        # Who waits gets a connection, or None: the right to make one.
        self._waiting: deque[asyncio.Future[AsyncConnection | None]] = deque()

    def __len__(self) -> int:
        return self._count

    async def take(self) -> AsyncConnection:
        """A connection for one call. Raises Unreachable if none could be made."""
        connection: AsyncConnection | None = None
        if self._idle:
            connection = self._idle.pop()
        elif self._count < self._connections_max:
            self._count += 1
        else:
            connection = await self._wait()
        if connection is not None and connection.open:
            return connection
        return await self._make()

    async def replace(self, connection: AsyncConnection) -> AsyncConnection:
        """A new connection in the place of one that was taken and turned out dead."""
        connection.abort()
        return await self._make()

    def put_back(self, connection: AsyncConnection) -> None:
        """End a call: pass the connection on, keep it, or close it."""
        if not connection.reusable:
            connection.abort()
            self._pass_on(None)
        elif not self._pass_on_to_waiting(connection):
            if self.closed:
                connection.abort()
                self._count -= 1
            else:
                self._idle.append(connection)

    async def close(self) -> None:
        """Close the idle connections, and the others when their calls end."""
        self.closed = True
        await self.close_idle()

    async def close_idle(self) -> None:
        """Close the idle connections."""
        idle, self._idle = self._idle, []
        self._count -= len(idle)
        for connection in idle:
            connection.abort()
        for connection in idle:
            await connection.closed()

    async def _wait(self) -> AsyncConnection | None:
        turn: asyncio.Future[AsyncConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:  # cancelled; or nobody runs this coroutine any more
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())  # it came, but too late for this caller
            elif turn in self._waiting:
                # Not there if somebody looked for a caller between the cancelling and now, and passed this one over.
                self._waiting.remove(turn)
            raise

    async def _make(self) -> AsyncConnection:
        try:
            connection = await self._connect()
        except BaseException:
            self._pass_on(None)
            raise
        connection.on_lost = self._lost
        return connection

    def _pass_on(self, connection: AsyncConnection | None) -> None:
        if connection is not None:
            self.put_back(connection)
        elif not self._pass_on_to_waiting(None):
            self._count -= 1

    def _pass_on_to_waiting(self, connection: AsyncConnection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _lost(self, connection: AsyncConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
            self._count -= 1
