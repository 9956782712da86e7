"""Calls of the blocking client to a server on the same host, which pass their tensors as memory.

Descriptors are lost on the way to a program that does not look for them. So these calls have connections of their own, on
which the server agreed to look. Whatever speaks against memory before anything has run, the call goes as bytes, and its
caller does not hear of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from graphpipe.buffers import BufferPool
from graphpipe.client.calls import Reply
from graphpipe.client.connection import Connection
from graphpipe.client.failures import NotSent
from graphpipe.client.http1 import request_head
from graphpipe.client.loan import Loan
from graphpipe.client.memory import ASKING_S, PROTOCOL, Memory, Tensors, asking_head, refused
from graphpipe.client.options import Options
from graphpipe.errors import NoAnswer, TimedOut, Unreachable

__all__ = ["SameHost"]

_IDLE_CONNECTIONS_MAX = 16


class SameHost:
    """The calls by memory of one client; ``memory`` is what they show. Safe in threads. Once it is ``closed``, connections
    end with their calls.

    ``buffers`` are for what comes as bytes.
    """

    def __init__(self, options: Options, buffers: BufferPool) -> None:
        self.memory = Memory(options.answer_bytes_max)
        self._options = options
        self._buffers = buffers
        self.closed = False
        # No lock: appending and popping are whole steps.
        self._idle: list[Connection] = []

    def call(
        self, start: bytes, tensors: Tensors, deadline: float, put_back: Callable[[Connection], None]
    ) -> Reply | None:
        """The answer to a call; None: it has not run, and has to go as bytes. ``put_back`` takes the connection to a server
        that takes nothing else.

        Raises what Connection.call raises.
        """
        connection = self._take(deadline, put_back) if self.memory.is_taken else None
        if connection is None:
            return None
        # As of before copies are made: what the server is told is the same each time, and it knows it again.
        left_ms = max(1, int((deadline - monotonic()) * 1000))
        loan: Loan | None = None
        try:
            loan = self.memory.lend(tensors)
            if loan is None:
                return None
            head = request_head(start + loan.fields, sum(map(len, loan.message)), left_ms)
            reply = connection.call(head, loan.message, deadline, self._buffers, fds=loan.fds)
            if not refused(reply):
                return loan.answered(reply, self._options.address.url)
        except NotSent:
            return None
        except BaseException:  # a KeyboardInterrupt too: the server may be at work
            if loan is not None:
                connection.reusable = False
                loan.lose()
            raise
        finally:
            self._keep(connection)
        self.memory.is_not_taken()
        self.close_idle()
        return None

    def close_idle(self) -> None:
        """Close the connections that no call is using, and let go of the memory that nobody looks at."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self.memory.close()

    def _take(self, deadline: float, put_back: Callable[[Connection], None]) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._asked(deadline, put_back)
            if connection.still_open():
                return connection
            connection.close()

    def _asked(self, deadline: float, put_back: Callable[[Connection], None]) -> Connection | None:
        """A new connection on which memory is passed, or None: the server does not do so."""
        try:
            connection = Connection(self._options, deadline)
        except TimedOut:
            raise
        except Unreachable:
            return None  # there may be another one, which is idle; no descriptor may be left for a second
        head = asking_head(self._options.address.host_header)
        try:
            until = min(deadline, monotonic() + ASKING_S)
            reply = connection.call(head, (), until, self._buffers, upgrade=PROTOCOL)
        except NoAnswer:
            connection.close()
            if monotonic() < deadline:  # else it had no time to answer
                self.memory.is_not_taken()
            return None
        if reply.head.status == 101:
            return connection
        self.memory.is_not_taken()
        put_back(connection)
        return None

    def _keep(self, connection: Connection) -> None:
        if connection.reusable and not self.closed and len(self._idle) < _IDLE_CONNECTIONS_MAX:
            self._idle.append(connection)
        else:
            connection.close()
