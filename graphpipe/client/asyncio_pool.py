"""The connections of an asynchronous client: at most so many, used again, and shared out in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from graphpipe.client.asyncio_connection import AsyncConnection

__all__ = ["ConnectionPool"]


class ConnectionPool:
    """At most ``connections_max`` connections, idle ones included. Belongs to one event loop.

    ``ask`` gets new connections on which memory is to be shown; ``lost`` is called when an idle one is gone.

    Whoever takes one gives it back, in whatever state it is. Callers that find none wait, first come first served.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection]],
        connections_max: int,
        ask: Callable[[AsyncConnection], Awaitable[None]] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.closed = False
        self._connect = connect
        self._ask = ask
        self._told_of_loss = lost
        self._connections_max = connections_max
        self._count = 0  # connections and the right to make one, whoever holds them
        self._idle: list[AsyncConnection] = []
        # Who waits gets a connection, or None: the right to make one.
        self._waiting: deque[asyncio.Future[AsyncConnection | None]] = deque()

    def __len__(self) -> int:
        return self._count

    async def take(self, shows: bool = False) -> AsyncConnection:
        """A connection for one call, one on which memory can be shown if it is to be and if that can be had.

        Raises Unreachable if none could be made.
        """
        connection: AsyncConnection | None = None
        if self._idle and self._idle[-1].shows == shows:
            connection = self._idle.pop()
        elif fitting := [each for each in self._idle if each.shows == shows]:
            connection = fitting[-1]
            self._idle.remove(connection)
        elif self._count < self._connections_max:
            self._count += 1
        elif self._idle:
            connection = self._idle.pop()
        else:
            connection = await self._wait()
        if connection is not None and connection.open and (connection.shows or not shows):
            return connection
        if connection is not None:
            connection.abort()
        return await self._make(shows)

    async def replace(self, connection: AsyncConnection) -> AsyncConnection:
        """A new connection in the place of one that was taken and turned out dead."""
        connection.abort()
        return await self._make(False)

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

    async def _make(self, shows: bool) -> AsyncConnection:
        connection: AsyncConnection | None = None
        try:
            connection = await self._connect()
            if shows and self._ask is not None:
                await self._ask(connection)
                if not connection.reusable:
                    connection.abort()
                    connection = await self._connect()
        except BaseException:
            if connection is not None:
                connection.abort()
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
            if self._told_of_loss is not None:
                self._told_of_loss()
