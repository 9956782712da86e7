"""A stream of an HTTP/2 connection: one request and its answer, between the connection and whoever answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from graphpipe.server.http.shared import TICK_S
from graphpipe.wire import Segment

__all__ = ["Begin", "Handler", "Headers", "Stream"]

# What comes at once of a request that is known to be large and welcome.
_WINDOW = 4 << 20
# A piece of an answer, in turn with the pieces of others.
_PIECE = 64 * 1024

_NO_PIECES: deque[memoryview] = deque()

# Of a request, or of an answer.
Headers = tuple[tuple[bytes, bytes], ...]


class Handler(Protocol):
    """What becomes of one stream."""

    def data(self, data: bytes) -> None:
        """So much more has come."""
        ...

    def end(self) -> None:
        """Nothing more comes."""
        ...

    def answer(self) -> None:
        """It asked for its turn (``answer_soon``)."""
        ...

    def check(self, tick: int) -> None:
        """End it if it comes too slowly; called with every tick until it is answered."""
        ...

    def gone(self) -> None:
        """The stream is over, answered or not. Said once."""
        ...


class Carrier(Protocol):
    """What a stream knows of its connection."""

    transport: asyncio.Transport
    peer: Hashable
    caller: str

    def answer_soon(self, stream: Stream) -> None:
        """Have the handler's ``answer`` called when all that has come was looked at."""
        ...

    def acknowledge(self, number: int, count: int) -> None:
        """So much of a stream has been taken: as much may come again."""
        ...

    def widen(self, number: int, size: int, unread: int) -> None:
        """Have ``size`` bytes come on a stream; ``unread`` ones had not been acknowledged."""
        ...

    def respond(self, stream: Stream, headers: Headers, segments: list[Segment], trailers: Headers) -> None:
        """Send an answer, in turn with those of others. The segments are not touched until they are sent."""
        ...

    def refuse(self, stream: Stream, headers: Headers, body: bytes = b"") -> None:
        """Send an answer of a few words. What still comes of the request is not wanted."""
        ...

    def cancel(self, stream: Stream) -> None:
        """Break a stream off."""
        ...


class Stream:
    """One request and its answer, on a connection with others. Whatever is said of one that is over is heard by nobody."""

    __slots__ = (
        "_mark",
        "_pieces",
        "_since",
        "_trailers",
        "connection",
        "handler",
        "has_ended",
        "held",
        "id",
        "is_over",
        "unread",
    )

    def __init__(self, connection: Carrier, number: int) -> None:
        self.connection = connection
        self.id = number
        self.handler: Handler | None = None
        self.has_ended = False  # its request
        self.is_over = False
        self.unread: int | None = None  # bytes that came since the window is kept shut
        self._pieces: deque[memoryview] = _NO_PIECES
        self._trailers: Headers = ()
        self.held = 0  # bytes of an answer, until they are all out
        self._since = self._mark = 0

    # --- its request ---

    def shut(self) -> None:
        """Have no more come than what is on its way, until it is ``widened``."""
        if self.unread is None:
            self.unread = 0

    def widen(self, rest: int) -> None:
        """So much more is welcome."""
        unread, self.unread = self.unread, None
        self.connection.widen(self.id, min(rest, _WINDOW), unread or 0)

    # --- for the connection ---

    def let_go(self) -> None:
        """Nothing more of it is wanted: what came does not count any longer."""
        if self.unread:
            self.connection.acknowledge(self.id, self.unread)
        self.unread = None

    def holds(self, left: int, tick: int) -> None:
        """The answer has so many bytes."""
        self.held = self._mark = left
        self._since = tick

    def queue(self, segments: list[Segment], trailers: Headers) -> None:
        self._pieces = deque(memoryview(segment) for segment in segments if len(segment))
        self._trailers = trailers

    @property
    def unsent(self) -> int:
        """Bytes of the answer that nobody has taken yet."""
        return sum(map(len, self._pieces))

    def next_piece(self) -> tuple[memoryview, bool]:
        """What is sent next of the answer, and whether it is the last."""
        first = self._pieces[0]
        if len(first) <= _PIECE:
            self._pieces.popleft()
            return first, not self._pieces
        self._pieces[0] = first[_PIECE:]
        return first[:_PIECE], False

    @property
    def trailers(self) -> Headers:
        return self._trailers

    def progress(self, left: int, tick: int) -> float | None:
        """Bytes a second since it was judged last; None if that is too early."""
        waited_s = (tick - self._since) * TICK_S
        if waited_s <= 0:
            return None
        moved, self._mark, self._since = self._mark - left, left, tick
        return moved / waited_s

    def waited_s(self, tick: int) -> float:
        return (tick - self._since) * TICK_S

    def drop(self) -> None:
        """What is left will not be sent."""
        self._pieces = _NO_PIECES


# Has a handler for a stream whose head has come.
Begin = Callable[[Stream, Headers], Handler]
