"""One connection of a load: it sends bytes that were made before, and finds out as cheaply as may be what came back.

An answer that has the head of the last good one, to the byte, and its length is another good one: a server's answers differ
in nothing but the second that they were sent in. Every other head is read. Of the bodies those are looked at whose size is
new: the first, and whatever differs from it, as an error does that comes with status 200.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Protocol, cast

from graphpipe.bench.tally import Tally
from graphpipe.client.address import Address
from graphpipe.client.calls import Reply, outputs_of
from graphpipe.client.failures import unanswered
from graphpipe.client.http1 import HEAD_BYTES_MAX, Chunks, ResponseHead, parse_head
from graphpipe.errors import GraphPipeError, NoAnswer

__all__ = ["Connection", "Expected", "Owner"]

# Sizes of answers that have been looked at. Whose answers have more of them has each looked at.
_SIZES_MAX = 4096


class Expected:
    """What the answers of one server look like, as far as it is known: ``sizes`` of bodies that held outputs, and of the
    last good answer that came in one piece its ``head``, its body's ``size``, and the bytes of the ``whole``.
    """

    __slots__ = ("_outputs", "address", "head", "size", "sizes", "whole")

    def __init__(self, address: Address, outputs: int) -> None:
        self.address = address
        self.sizes: set[int] = set()
        self.head, self.whole, self.size = b"", -1, 0
        self._outputs = outputs

    def check(self, head: ResponseHead, body: memoryview) -> None:
        """Look at a whole answer. Raises the ServiceError that it is, or NoAnswer if it is none."""
        outputs_of(Reply(head, body), self.address, self._outputs)
        if len(self.sizes) < _SIZES_MAX:
            self.sizes.add(len(body))


class Owner(Protocol):
    """Who has the connections of a load."""

    tally: Tally
    expected: Expected

    def free(self, connection: Connection, now: float) -> None:
        """The connection has its answer, and can send again. ``now`` is of ``time.perf_counter``."""

    def lost(self, connection: Connection) -> None:
        """The connection is of no use any more."""


class Connection(asyncio.Protocol):
    """Sends one request at a time; its latency counts from ``due``, its time limit from ``sent``."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_head",
        "_left",
        "_owner",
        "_transport",
        "due",
        "sent",
        "waits",
    )

    def __init__(self, owner: Owner) -> None:
        self.waits = False  # for an answer
        self.due = self.sent = 0.0
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._buffer = b""  # of a head that is not whole
        self._head: ResponseHead | None = None
        self._body: bytearray | None = None  # of an answer that will be looked at
        self._left = 0  # bytes of the body still to come
        self._chunks: Chunks | None = None

    def send(self, message: bytes, due: float, now: float) -> None:
        """Send a request; its bytes are not to change."""
        assert self._transport is not None
        self.waits, self.due, self.sent = True, due, now
        self._transport.write(message)

    def abort(self) -> None:
        """Close at once; nobody is told."""
        self.waits = False
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def give_up(self, error: GraphPipeError) -> None:
        """Count an error in the place of the answer, and close."""
        if self.waits:
            self._owner.tally.fail(error)
        if self._transport is not None:
            self.abort()
            self._owner.lost(self)

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports have the methods of asyncio.Transport, but do not inherit from it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take note of what came."""
        expected = self._owner.expected
        if self._head is not None:
            self._more(data)
            return
        if self.waits and len(data) == expected.whole and not self._buffer and data.startswith(expected.head):
            # Nearly always, and as quick as may be: what this costs, the server cannot have.
            now = perf_counter()
            tally = self._owner.tally
            tally.latencies.append(now - self.due)
            tally.received += expected.size
            self.waits = False
            self._owner.free(self, now)
            return
        if not self.waits:
            self.give_up(NoAnswer(f"{expected.address.url} sent what nobody asked for"))
            return
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        end = data.find(b"\r\n\r\n") + 4
        try:
            if end < 4:
                if len(data) > HEAD_BYTES_MAX:
                    raise NoAnswer(f"{expected.address.url} answered with an endless head")
                self._buffer = data
                return
            head = parse_head(data[:end])
            if (
                head.status == 200
                and head.keep_alive
                and len(data) - end == head.length
                and head.length in expected.sizes
            ):
                expected.head, expected.whole, expected.size = data[:end], len(data), head.length
                self._good(head.length)
                return
            if head.status < 200:  # 100 Continue and its kind: the answer comes after it
                if data[end:]:
                    self.data_received(data[end:])
                return
            self._begin(head, data[end:])
        except NoAnswer as error:
            self.give_up(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._transport is None:
            return
        self._transport = None
        if self.waits:
            head = self._head
            if head is not None and head.length is None and self._chunks is None and exc is None:
                self._finish(head)  # a body that ends with its connection
                return
            address = self._owner.expected.address
            if head is not None:
                self._owner.tally.fail(NoAnswer(f"{address.url} closed the connection in the middle of its answer"))
            else:
                self._owner.tally.fail(unanswered(address, used=bool(self._owner.expected.sizes), may_send_again=False))
            self.waits = False
        self._owner.lost(self)

    # --- an answer that comes in pieces, or is to be looked at ---

    def _begin(self, head: ResponseHead, first: bytes) -> None:
        self._head = head
        self._chunks = Chunks() if head.chunked else None
        self._left = head.length or 0
        known = head.status == 200 and head.length in self._owner.expected.sizes
        self._body = None if known else bytearray()
        self._more(first)

    def _more(self, data: bytes) -> None:
        head, body = self._head, self._body
        assert head is not None
        try:
            if self._chunks is not None:
                assert body is not None
                if self._chunks.feed(memoryview(data), body):
                    raise NoAnswer(f"{self._owner.expected.address.url} sent more than its answer")
                if self._chunks.done:
                    self._finish(head)
                return
            if body is not None:
                body += data
            if head.length is None:
                return
            self._left -= len(data)
            if self._left < 0:
                raise NoAnswer(f"{self._owner.expected.address.url} sent more than its answer")
            if not self._left:
                self._finish(head)
        except NoAnswer as error:
            self._head = None
            self.give_up(error)

    def _finish(self, head: ResponseHead) -> None:
        body, self._head, self._body, self._chunks = self._body, None, None, None
        error: GraphPipeError | None = None
        if body is not None:
            try:
                self._owner.expected.check(head, memoryview(body))
            except GraphPipeError as refused:
                error = refused
        if not head.keep_alive:
            self.abort()
        if error is None:
            self._good(head.length if body is None and head.length is not None else len(body or b""))
            return
        self._owner.tally.fail(error)
        self._go_on(perf_counter())

    def _good(self, size: int) -> None:
        now = perf_counter()
        tally = self._owner.tally
        tally.latencies.append(now - self.due)
        tally.received += size
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        self.waits = False
        if self._transport is None:
            self._owner.lost(self)
        else:
            self._owner.free(self, now)
