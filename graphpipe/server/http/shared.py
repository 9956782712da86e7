"""Between a connection of the hot route and what it shares with the others: what either knows of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Protocol

from graphpipe.errors import ServiceError
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.head import Head
from graphpipe.server.http.memory import Sharing
from graphpipe.server.http.request import Request
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.protocols.protocol import Fields
from graphpipe.server.settings.values import Settings
from graphpipe.server.state import State

__all__ = ["TICK_S", "Heir", "Member", "Shared", "Successor", "TurnTaker"]

# How often the time of every connection is looked at.
TICK_S = 0.5


class Member(Protocol):
    """What is known of a connection by what it shares with the others."""

    peer: Hashable

    def check(self, tick: int) -> None:
        """End the connection if it has waited for too long; called with every tick."""
        ...

    def close_if_idle(self, idle_s: float = 0.0) -> None:
        """Close, if nothing of a request has come; a connection that has never sent one only after ``idle_s``."""
        ...

    def give_up(self, error: BaseException) -> None:
        """Something went wrong that should not have."""
        ...

    def abort(self) -> None:
        """Close now, whatever is under way."""
        ...


class TurnTaker(Member, Protocol):
    """One whose requests and answers wait for what is done in this turn of the loop for all connections."""

    def take(self) -> None:
        """Look at what arrived in this turn of the loop."""
        ...

    def write_small(self, answer: bytes) -> None:
        """Write a whole answer."""
        ...


class Successor(Protocol):
    """What goes on with a connection where HTTP/2 is spoken on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def receive(self, data: bytes) -> None:
        """Look at what has come already."""
        ...


class Heir(Protocol):
    """What goes on with a connection by which memory is passed: one like it, on another transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def begin_with(self, data: bytes) -> None:
        """So much has come already of its first request."""
        ...


class Shared(Protocol):
    """What a connection knows of what it shares with the others."""

    scratch: memoryview
    tick: int
    state: State
    settings: Settings
    age_max_s: float
    admission: Admission
    nobody: Meter
    fallback: Callable[[], asyncio.Protocol]
    h2: Callable[[], Successor] | None
    sharing: Sharing | None
    requests: dict[bytes, Request]
    ok_heads: dict[int | tuple[int, Fields], bytes]

    def __call__(self) -> Heir:
        """Another connection on this route."""
        ...

    def open(self, connection: Member) -> int:
        """A connection is there. How many there are beyond the limit: it is to say so then, and to go."""
        ...

    def leave(self, connection: Member) -> None:
        """It is gone, or somebody else's."""
        ...

    def request(self, head: bytes) -> Request | None:
        """What a head asks for that is not among ``requests``; None if it is not a hot one."""
        ...

    def ok_head(self, length: int, fields: Fields = ()) -> bytes:
        """The head of a good answer whose length is not among ``ok_heads``, or which says more than that."""
        ...

    def place_of(self, path: str) -> int:
        """As one of which protocol counts what is refused at a path: its place in PROTOCOLS."""
        ...

    def refusal(self, error: ServiceError, head: Head, keep_alive: bool) -> tuple[bytes, int]:
        """The answer that says no, and how many bytes of it are its body."""
        ...

    def take_soon(self, connection: TurnTaker) -> None:
        """Have ``take`` called when this turn of the loop has read from all sockets."""
        ...

    def take_next(self, connection: TurnTaker) -> None:
        """Have ``take`` called in a turn of the loop to come."""
        ...

    def write_soon(self, connection: TurnTaker, answer: bytes) -> None:
        """Have ``write_small`` called when this turn of the loop has made all of its answers."""
        ...
