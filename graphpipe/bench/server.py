"""A server under load: as many connections as there are callers, or as many as requests need that come by the clock.

There is no task for a request. An answer that comes in has the next request sent, on the same connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import perf_counter

from graphpipe.bench.alarm import Alarm
from graphpipe.bench.connection import Connection, Expected
from graphpipe.bench.load import Load
from graphpipe.bench.requests import Request
from graphpipe.bench.tally import Tally
from graphpipe.client.asyncio_connection import attach
from graphpipe.client.http1 import request_head
from graphpipe.client.options import Options
from graphpipe.errors import GraphPipeError, TimedOut

__all__ = ["Server"]

# An open loop begins with so many connections, and makes more as they are needed.
_FIRST_CONNECTIONS = 16
_LOOKS_S = 0.05
_END_S = 5.0
_AGAIN_S, _AGAIN_S_MAX = 0.05, 0.5


class Server:
    """The server of a client's ``options``, asked ``requests`` in turn.

    An open loop has at most ``connections_max`` connections; what finds none of them free waits, and its latency grows.
    """

    is_elsewhere = True

    def __init__(self, options: Options, title: str, requests: Sequence[Request], connections_max: int) -> None:
        self.title = title
        self.request = requests[0]
        self.tally = Tally()
        self.expected = Expected(options.address, len(self.request.outputs))
        self._options = options
        bodies = [request.body() for request in requests]
        self.request_bytes = len(bodies[0])
        timeout_ms = max(1, int(options.timeout * 1000))
        self._messages = [request_head(options.headers.start, len(body), timeout_ms) + body for body in bodies]
        self._next_message = cycle(self._messages).__next__
        self._connections_max = connections_max
        self._wanted = 0  # connections
        self._making = 0  # on their way
        self._asking = False
        self._came = asyncio.Event()  # something, after the end
        self._open: set[Connection] = set()
        self._free: list[Connection] = []
        self._late: deque[float] = deque()  # moments at which requests were due that found no connection
        self._dues: Iterator[float] | None = None
        self._next_due = 0.0
        self._alarm: Alarm | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def begin(self, load: Load) -> None:
        """Have it asked, from now on until ``end``."""
        self._wanted = load.callers or min(_FIRST_CONNECTIONS, self._connections_max)
        self._looking = self._looking or asyncio.create_task(self._look())
        while len(self._open) > self._wanted and self._free:
            connection = self._free.pop()
            self._open.discard(connection)
            connection.abort()
        if load.callers:
            self._dues = None
            self._asking = True
            idle, self._free = self._free, []
            now = perf_counter()
            for connection in idle:
                self.free(connection, now)
            self._make_up()
        else:
            self._make_up()
            while self._making:  # they are no part of what is measured
                await asyncio.wait(self._tasks)
            self._asking = True
            self._alarm = Alarm(self._send_what_is_due)
            self._dues = load.dues(perf_counter())
            self._next_due = next(self._dues)
            self._send_what_is_due()

    async def end(self) -> None:
        """Ask no more, and wait for the answers that are due."""
        self._asking = False
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self._late.clear()
        # What a server has not done of an open loop's requests may take it for ever.
        limit = self._options.timeout if self._dues is None else _END_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while any(connection.waits for connection in self._open):
                    self._came.clear()
                    await self._came.wait()
        for connection in [each for each in self._open if each.waits]:
            self._open.discard(connection)
            connection.abort()

    def waiting(self) -> int:
        """How many requests are due that have no answer yet."""
        return len(self._late) + sum(connection.waits for connection in self._open)

    async def close(self) -> None:
        """Close all connections; what is under way on them is counted nowhere."""
        self._asking = False
        self._wanted = 0
        if self._alarm is not None:
            self._alarm.close()
        tasks = [*self._tasks, *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._open:
            connection.abort()
        self._open.clear()
        await asyncio.sleep(0)  # the transports close

    # --- what connections tell ---

    def free(self, connection: Connection, now: float) -> None:
        """Have a connection send again, if there is something to send."""
        if not self._asking:
            self._free.append(connection)
            self._came.set()
        elif self._dues is None:
            connection.send(self._next_message(), now, now)
        elif self._late:
            connection.send(self._next_message(), self._late.popleft(), now)
        else:
            self._free.append(connection)

    def lost(self, connection: Connection) -> None:
        """Have another connection in the place of one that is gone."""
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self._asking:
            self._make_up()
        else:
            self._came.set()

    # --- connections ---

    def _make_up(self) -> None:
        for _ in range(self._wanted - len(self._open) - self._making):
            self._making += 1
            task = asyncio.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        again_s, begun = _AGAIN_S, perf_counter()
        try:
            while True:
                connection = Connection(self)
                try:
                    await attach(self._options, connection)
                    break
                except GraphPipeError as error:
                    self.tally.fail(error)
                    connection.abort()
                # Its callers would not ask faster than that, either.
                await asyncio.sleep(again_s)
                again_s = min(2 * again_s, _AGAIN_S_MAX)
                if not self._asking:
                    return
        finally:
            self._making -= 1
        self._open.add(connection)
        now = perf_counter()
        if self._asking and self._dues is None and again_s == _AGAIN_S:
            connection.send(self._next_message(), begun, now)  # who asks waits for the connection, too
        else:
            self.free(connection, now)

    # --- by the clock ---

    def _send_what_is_due(self) -> None:
        if self._dues is None or self._alarm is None:
            return
        now = perf_counter()
        while self._next_due <= now:
            if self._free:
                self._free.pop().send(self._next_message(), self._next_due, now)
            else:
                self._late.append(self._next_due)
                if self._wanted < self._connections_max and self._making < len(self._late):
                    self._wanted += 1
            self._next_due = next(self._dues)
        if len(self._open) + self._making < self._wanted:
            self._make_up()
        self._alarm.at(self._next_due)

    async def _look(self) -> None:
        """Give up, now and then, what has waited for too long."""
        limit, url = self._options.timeout, self.expected.address.url
        while True:
            await asyncio.sleep(_LOOKS_S)
            now = perf_counter()
            for connection in [each for each in self._open if each.waits and now - each.sent > limit]:
                connection.give_up(TimedOut(f"{url} gave no answer in {limit:g} s"))
            while self._late and now - self._late[0] > limit:
                self._late.popleft()
                self.tally.fail(
                    TimedOut(f"a request was due for {limit:g} s before one of {len(self._open)} connections was free")
                )
