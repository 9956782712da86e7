"""One caller's connection on the hot route: from its bytes to requests, and from one request to the next.

A small request arrives in the scratch buffer that all connections share; a large body is received straight into its leased
buffer (``body.py``). ``states.py`` has what may follow what. This is the way of a small request:

    buffer_updated --> take --> _take_head --> Cycle.answer --> write_small

What becomes of a request is its ``Cycle`` (``cycle.py``), the transport below is a ``Line`` (``line.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from typing import cast

from graphpipe.server.exchange import Exchange, peer_of
from graphpipe.server.http.cycle import Cycle
from graphpipe.server.http.head import HEAD_BYTES_MAX, may_begin, request_id_of, version_of
from graphpipe.server.http.line import Line
from graphpipe.server.http.memory_cycle import MemoryCycle
from graphpipe.server.http.memory_fields import SWITCHING, is_upgrade
from graphpipe.server.http.passing import PassingTransport, can_pass
from graphpipe.server.http.refusal import HEAD_TOO_LARGE, NOT_SPOKEN
from graphpipe.server.http.shared import TICK_S, Shared, Successor
from graphpipe.server.http.states import (
    ANSWERING,
    ARRIVED,
    BODY,
    CLOSING,
    DISCARDING,
    GONE,
    ROOM,
    SENDING,
    SKIPPING,
    WAITING,
)
from graphpipe.server.http.tls import caller_of
from graphpipe.server.numbers.failures import FAILURES

__all__ = ["Connection"]

log = logging.getLogger("graphpipe.front")

# What may arrive while a request is being answered, before reading pauses.
_SPARE_BYTES = 64 * 1024
# Less than this at once waits for the end of the turn.
_SOON_BYTES = 64 * 1024
# The head of nearly every caller fits.
_HEAD_BYTES = 2 * 1024
# After a refusal, what the caller still sends is read and dropped for so long: closing at once would destroy the
# answer.
_DISCARD_S = 2.0
# An old connection is closed with an answer; only if none is asked for during so long, without one.
_OLD_IDLE_S = 5.0

# What aiohttp understands, or calls no protocol at all.
_VERSIONS = ("HTTP/1.1", "HTTP/1.0", "")

# How a connection begins on which HTTP/2 is spoken: six bytes follow, and whoever speaks it looks at all of them.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
# Over TLS a caller has so long to say that he has understood that it is over.
_GOODBYE_S = 1.0

# Over the limit of connections, so many are told so; further ones are cut.
_TOLD_MAX = 64


class Connection(asyncio.BufferedProtocol):
    """One caller's connection."""

    __slots__ = (
        "_arrived",
        "_born",
        "_cycle",
        "_exchange",
        "_line",
        "_received",
        "_rest",
        "_shared",
        "_soon",
        "_window",
        "peer",
        "since",
        "state",
    )

    _line: Line
    _cycle: Cycle

    def __init__(self, shared: Shared, exchange: Exchange) -> None:
        self._shared = shared
        self._exchange = exchange
        self.state = WAITING
        self._window = shared.scratch  # where the next head is received
        self._soon = _SOON_BYTES
        self._arrived = b""  # in this turn of the loop, and not looked at yet
        self._received = bytearray()  # of a head that is not whole yet, or of what came too early
        self.since = self._born = shared.tick
        self._rest = 0  # bytes to skip
        self.peer: Hashable = None

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = line = Line(cast(asyncio.Transport, transport))
        shared = self._shared
        if isinstance(transport, PassingTransport) and shared.sharing is not None:
            self._cycle = MemoryCycle(self, line, shared, self._exchange, transport, shared.sharing)
        else:
            self._cycle = Cycle(self, line, shared, self._exchange)
        line.open()
        self.peer = self._exchange.peer = peer_of(transport)
        if self.peer is None:
            self.state = GONE
            self.abort()
            return
        if line.is_tls:
            self._exchange.caller = caller_of(transport)
        over = self._shared.open(self)
        if over > 0:
            self._cycle.refuse_head(503, "as many connections are open as may be (--connections-max); try again")
        if over > _TOLD_MAX:
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        body = self._cycle.body
        if body is not None:
            return body.window(self._shared.scratch)
        # The event loop reads and calls back before it turns to another connection, so one buffer serves them all.
        return self._window

    def buffer_updated(self, count: int) -> None:
        state = self.state
        if state == WAITING:
            shared = self._shared
            data = shared.scratch[:count].tobytes()
            if self._received:
                self._received += data
                data = bytes(self._received)
            else:
                self.since = shared.tick
            if count < self._soon:
                self.state, self._arrived = ARRIVED, data
                shared.take_soon(self)
            else:
                self._take_head(data)
        elif (body := self._cycle.body) is not None:
            self._cycle.take_more(body, count)
        elif state == ARRIVED:  # TLS may bring more than once in a turn
            self._arrived += self._shared.scratch[:count]
        elif state == SKIPPING:
            self._skip(count)
        elif state != DISCARDING:
            self._received += self._shared.scratch[:count]
            if len(self._received) >= _SPARE_BYTES:
                self._line.pause_reading()

    def eof_received(self) -> bool:
        """He sends no more. What he has sent is answered, unless it is not whole, or it turns out that he is gone."""
        self.take()  # there is nothing to wait for
        protocol = self._line.transport.get_protocol()
        if protocol is not self:  # it was handed over in this moment
            return bool(cast(asyncio.Protocol, protocol).eof_received())
        if self._line.is_tls or self.state not in (ANSWERING, SENDING):
            return False  # TLS ends both ways at once
        self._line.end_reading(self._cycle.knows_interim)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.state = GONE
        self._shared.leave(self)
        self._cycle.leave()

    def pause_writing(self) -> None:
        self._line.paused_writing = True

    def resume_writing(self) -> None:
        self._line.paused_writing = False
        if self.state == SENDING and self._line.go_on():
            self._cycle.sent()

    # --- a request comes in ---

    def take(self) -> None:
        """Look at what arrived in this turn of the loop."""
        if self.state == ARRIVED:
            data, self._arrived = self._arrived, b""
            self._take_head(data)

    def _take_head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if not may_begin(data) or (b"\n" in data and _has_bare_line_feed(data)):
                self._hand_over(data)
            elif len(data) > HEAD_BYTES_MAX:
                self._cycle.refuse_head(431, HEAD_TOO_LARGE, data)
            else:
                self.state = WAITING
                if len(self._received) < len(data):
                    self._received[:] = data
            return
        if end > HEAD_BYTES_MAX:
            self._cycle.refuse_head(431, HEAD_TOO_LARGE, data)
            return
        head, shared = data[:end], self._shared
        request = shared.requests.get(head) or shared.request(head)
        if request is None:
            if head == _PREFACE and shared.h2 is not None and not self._cycle.served:
                self._go_on(shared.h2(), data)
            elif is_upgrade(head) and self._can_pass():
                self._pass(data[end:])
            elif version_of(head) not in _VERSIONS:
                self._cycle.refuse_head(505, NOT_SPOKEN, head, request_id_of(head))
            else:
                self._hand_over(data)
            return
        if self._received:
            self._received.clear()
        if len(data) - end > request.length >= 0:  # the next one is here already, and waits for this one's answer
            self._received += data[end + request.length :]
            data = data[: end + request.length]
        if request.small != (self._soon == _SOON_BYTES):
            self._expect(request.small)
        if request.small and len(data) - end == request.length and not shared.admission.is_full:
            # A copy of its own, since bytes objects start at a multiple of 16 and a body in the middle of one does not.
            self._cycle.answer(request, data[end:])
        else:
            self._cycle.take_body(request, memoryview(data)[end:])

    def _expect(self, small: bool) -> None:
        """The next request is taken for one like this: before a large body no more is read than a head and a little, since
        what is read with the head has to be copied to where it belongs.
        """
        scratch = self._shared.scratch
        self._window, self._soon = (scratch, _SOON_BYTES) if small else (scratch[:_HEAD_BYTES], _HEAD_BYTES)

    def take_early(self, data: memoryview) -> None:
        """The next request begins with this."""
        self._received += data

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp have this connection, from these bytes on."""
        line, shared = self._line, self._shared
        self.state = GONE
        shared.leave(self)
        self._cycle.leave()
        protocol = shared.fallback()
        line.transport.set_write_buffer_limits()
        line.transport.set_protocol(protocol)
        protocol.connection_made(line.transport)
        if line.transport.is_closing():
            return
        line.resume_reading()
        protocol.data_received(data)
        if line.leaver is not None and not protocol.eof_received():
            line.transport.close()

    def _go_on(self, successor: Successor, data: bytes) -> None:
        """HTTP/2 is spoken on this connection, from these bytes on."""
        line = self._line
        self.state = GONE
        self._shared.leave(self)
        self._cycle.leave()
        line.transport.set_protocol(cast(asyncio.BaseProtocol, successor))
        successor.connection_made(line.transport)
        if line.transport.is_closing():
            return
        line.resume_reading()
        successor.receive(data)

    def _can_pass(self) -> bool:
        """Whether the caller may pass memory on this connection. Said by none that was served already: what he has sent
        before may hold descriptors, which are lost.
        """
        sharing, line = self._shared.sharing, self._line
        if sharing is None or sharing.waiting.is_full or self._shared.state.draining:
            return False
        return not self._cycle.served and line.leaver is None and can_pass(line.transport)

    def _pass(self, data: bytes) -> None:
        """Go on as another connection, by which descriptors come too: from these bytes on."""
        line, shared = self._line, self._shared
        assert shared.sharing is not None
        try:
            transport = PassingTransport(line.transport, asyncio.get_running_loop(), shared.sharing.waiting)
        except OSError:  # no descriptor is left: he may try again
            self._cycle.refuse_head(503, "no descriptor is left for this; try again")
            return
        self.state = GONE
        shared.leave(self)
        self._cycle.leave()
        successor = shared()
        transport.write(SWITCHING)
        transport.open(cast(asyncio.BaseProtocol, successor))
        if data:
            successor.begin_with(data)

    def begin_with(self, data: bytes) -> None:
        """So much has come already of its first request."""
        if self.state == WAITING:
            self.state, self._arrived = ARRIVED, data
            self._shared.take_next(self)

    # --- its answer is there, and what follows ---

    def write_small(self, answer: bytes) -> None:
        """Write a whole answer. Nothing is left to do afterwards, nearly always."""
        if self.state == GONE:
            return
        line = self._line
        line.transport.write(answer)
        if self._cycle.keep_alive and not line.paused_writing and not self._received and not line.paused_reading:
            self.state = WAITING
            self.since = self._shared.tick
        else:
            self._cycle.send([])

    def sent(self) -> None:
        """The answer is out: on to what follows."""
        if not self._cycle.keep_alive:
            self._close_soon()
            return
        self.state, self.since = WAITING, self._shared.tick
        if self._received:
            self.state, self._arrived = ARRIVED, bytes(self._received)
            self._received.clear()
            self._shared.take_next(self)
            self._line.resume_reading()
        elif self._line.leaver is not None:
            self._close_soon()
        else:
            self._line.resume_reading()

    def skip(self, rest: int) -> None:
        """So many bytes of a body that was refused are still to come, and then the next request."""
        self.state, self.since, self._rest = SKIPPING, self._shared.tick, rest

    def _skip(self, count: int) -> None:
        self._rest -= count
        if self._rest <= 0:
            self.state, self.since = WAITING, self._shared.tick
            if self._rest:
                self._take_head(self._shared.scratch[count + self._rest : count].tobytes())

    def discard(self) -> None:
        """Whatever comes is dropped from now on: this was the last answer."""
        self.state, self.since = DISCARDING, self._shared.tick
        self._expect(small=True)
        self._received.clear()
        self._cycle.drop_body()
        self._line.resume_reading()
        self._line.end_writing()

    def _close_soon(self) -> None:
        """Close once everything is sent."""
        self.state, self.since = CLOSING, self._shared.tick
        self._line.transport.close()

    # --- time ---

    def is_old(self) -> bool:
        """Whether it is to take no further request for its age."""
        age_max_s = self._shared.age_max_s
        return bool(age_max_s) and (self._shared.tick - self._born) * TICK_S > age_max_s

    def check(self, tick: int) -> None:
        """End the connection if it has waited for too long; called with every tick."""
        settings, state, leaver = self._shared.settings, self.state, self._line.leaver
        if leaver is not None and (state in (WAITING, BODY) or (state == ANSWERING and leaver.is_gone())):
            self.abort()
            return
        if state in (ANSWERING, ROOM):
            return
        waited_s = (tick - self.since) * TICK_S
        if state == WAITING:
            if self._received:
                if waited_s > settings.head_timeout_s:
                    why = f"the head did not come within {settings.head_timeout_s:g} s (--head-timeout-s)"
                    self._cycle.refuse_head(408, why, bytes(self._received))
            elif waited_s > self._idle_max_s():
                self._close_soon()
        elif state == BODY:
            self._cycle.check_body(waited_s)
        elif state == SENDING:
            self._cycle.check_sending(waited_s)
        elif state in (DISCARDING, SKIPPING):
            if waited_s > _DISCARD_S:
                self._close_soon()
        elif state == CLOSING and waited_s > (settings.send_timeout_s if self._line.left() else _GOODBYE_S):
            self.abort()

    def _idle_max_s(self) -> float:
        settings = self._shared.settings
        if not self._cycle.served:  # who comes has something to say
            return min(settings.head_timeout_s, settings.keepalive_timeout_s)
        return _OLD_IDLE_S if self.is_old() else settings.keepalive_timeout_s

    def close_if_idle(self, idle_s: float = 0.0) -> None:
        """Close, if nothing of a request has come; a connection that has never sent one only after ``idle_s``."""
        idle = self.state == WAITING and not self._received
        if idle and (self._cycle.served or (self._shared.tick - self._born) * TICK_S >= idle_s):
            self._close_soon()

    def give_up(self, error: BaseException) -> None:
        """Something went wrong that should not have."""
        FAILURES.tell(log, "a connection is cut", error=error)
        self.abort()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._line.transport.abort()


def _has_bare_line_feed(data: bytes) -> bool:
    return data.count(b"\n") != data.count(b"\r\n")
