"""One caller's connection on the hot route.

A small request arrives in the scratch buffer that all connections share; a large body is received straight into its leased
buffer (``body.py``). The answer goes out from the model's own arrays. ``states.py`` has what may follow what.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Protocol, cast

from graphpipe.errors import ModelFailed, ServiceError
from graphpipe.server.exchange import Exchange, peer_of
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.body import Body, too_slow
from graphpipe.server.http.head import HEAD_BYTES_MAX, Head, asked_in, may_begin, request_id_of, version_of
from graphpipe.server.http.leaver import Leaver
from graphpipe.server.http.refusal import HEAD_TOO_LARGE, NOT_SPOKEN, response_head
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
from graphpipe.server.numbers.accesslog import NOBODY_KNOWS, Question
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.protocols.protocol import Answer, Fields
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S, Settings
from graphpipe.server.state import State
from graphpipe.server.target import Target
from graphpipe.wire import Segment

__all__ = ["TICK_S", "Connection", "Request", "Shared"]

log = logging.getLogger("graphpipe.front")

# How often the hub looks at the time of every connection.
TICK_S = 0.5

# What may arrive while a request is being answered, before reading pauses.
_SPARE_BYTES = 64 * 1024
# Less than this at once waits for the end of the turn.
_SOON_BYTES = 64 * 1024
# The head of nearly every caller fits.
_HEAD_BYTES = 2 * 1024
# Up to here an answer is joined into one write; above, its parts go out as they are.
_JOIN_MAX = 32 * 1024
# Over TLS a write is encrypted at once: slices keep the loop free and the memory small.
_TLS_SLICE = 256 * 1024
# After a refusal, what the caller still sends is read and dropped for so long: closing at once would destroy the
# answer.
_DISCARD_S = 2.0
# An old connection is closed with an answer; only if none is asked for during so long, without one.
_OLD_IDLE_S = 5.0

# What aiohttp understands, or calls no protocol at all.
_VERSIONS = ("HTTP/1.1", "HTTP/1.0", "")

# Over the limit of connections, so many are told so; further ones are cut.
_TOLD_MAX = 64

# While more is held than may be, an answer may make no progress for no longer than this.
_PRESSED_S = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a hot request's head asks for. The body of a ``small`` one is not worth a lease, and within all limits.

    ``length`` is -1 for a body in chunks.
    """

    head: Head
    target: Target
    small: bool
    length: int


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
    requests: dict[bytes, Request]
    ok_heads: dict[int | tuple[int, Fields], bytes]

    def open(self, connection: Connection) -> int:
        """A connection is there. How many there are beyond the limit: it is to say so then, and to go."""
        ...

    def leave(self, connection: Connection) -> None:
        """It is gone, or somebody else's."""
        ...

    def request(self, head: bytes) -> Request | None:
        """What a head asks for that is not among ``requests``; None if it is not a hot one."""
        ...

    def ok_head(self, length: int, fields: Fields = ()) -> bytes:
        """The head of a good answer whose length is not among ``ok_heads``, or which says more than that."""
        ...

    def refusal(self, error: ServiceError, head: Head, keep_alive: bool) -> tuple[bytes, int]:
        """The answer that says no, and how many bytes of it are its body."""
        ...

    def take_soon(self, connection: Connection) -> None:
        """Have ``take`` called when this turn of the loop has read from all sockets."""
        ...

    def take_next(self, connection: Connection) -> None:
        """Have ``take`` called in a turn of the loop to come."""
        ...

    def write_soon(self, connection: Connection, answer: bytes) -> None:
        """Have ``write_small`` called when this turn of the loop has made all of its answers."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One caller's connection."""

    __slots__ = (
        "_arrived",
        "_body",
        "_born",
        "_exchange",
        "_held",
        "_keep_alive",
        "_leaver",
        "_mark",
        "_paused_reading",
        "_paused_writing",
        "_received",
        "_request",
        "_served",
        "_shared",
        "_since",
        "_soon",
        "_state",
        "_tls",
        "_transport",
        "_unsent",
        "_window",
        "peer",
    )

    _transport: asyncio.Transport

    def __init__(self, shared: Shared, exchange: Exchange) -> None:
        self._shared = shared
        self._exchange = exchange
        self._state = WAITING
        self._window = shared.scratch  # where the next head is received
        self._soon = _SOON_BYTES
        self._arrived = b""  # in this turn of the loop, and not looked at yet
        self._received = bytearray()  # of a head that is not whole yet, or of what came too early
        self._since = self._born = shared.tick
        self._served = False
        self._mark = 0
        self._body: Body | None = None
        self._held = 0  # bytes of a small body that is being answered, or of an answer that is being sent
        self._request: Request | None = None
        self._keep_alive = True
        self._paused_reading = False
        self._paused_writing = False
        self._unsent: list[Segment] = []
        self._tls = False
        self._leaver: Leaver | None = None
        self.peer: Hashable = None

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("sslcontext") is not None
        # Nothing may stay behind unnoticed: with no room in the buffer, resume_writing means that all is sent. (Over TLS
        # that is all but what is encrypted already, and no room at all would be taken for a full buffer.)
        self._transport.set_write_buffer_limits(high=1 if self._tls else 0)
        self.peer = self._exchange.peer = peer_of(transport)
        if self._tls:
            self._exchange.caller = caller_of(transport)
        over = self._shared.open(self)
        if over > 0:
            self._refuse_head(503, "as many connections are open as may be (--connections-max); try again")
        if over > _TOLD_MAX:
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None:
            return self._body.window(self._shared.scratch)
        # The event loop reads and calls back before it turns to another connection, so one buffer serves them all.
        return self._window

    def buffer_updated(self, count: int) -> None:
        state = self._state
        if self._body is not None:
            self._take_more(self._body, count)
        elif state == WAITING:
            shared = self._shared
            data = shared.scratch[:count].tobytes()
            if self._received:
                self._received += data
                data = bytes(self._received)
            else:
                self._since = shared.tick
            if count < self._soon:
                self._state, self._arrived = ARRIVED, data
                shared.take_soon(self)
            else:
                self._take_head(data)
        elif state == ARRIVED:  # TLS may bring more than once in a turn
            self._arrived += self._shared.scratch[:count]
        elif state == SKIPPING:
            self._skip(count)
        elif state != DISCARDING:
            self._received += self._shared.scratch[:count]
            if len(self._received) >= _SPARE_BYTES:
                self._pause_reading()

    def eof_received(self) -> bool:
        """He sends no more. What he has sent is answered, unless it is not whole, or it turns out that he is gone."""
        self.take()  # there is nothing to wait for
        protocol = self._transport.get_protocol()
        if protocol is not self:  # it was handed over in this moment
            return bool(cast(asyncio.Protocol, protocol).eof_received())
        if self._tls or self._state not in (ANSWERING, SENDING):
            return False  # TLS ends both ways at once
        self._leaver = Leaver(
            self._transport, knows_interim=self._request is not None and not self._request.head.is_old
        )
        self._paused_reading = True  # for good
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._state = GONE
        self._shared.leave(self)
        self._exchange.leave()
        self._drop_body()
        self._release()
        self._unsent = []

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        if self._state == SENDING:
            self._send()

    # --- a request comes in ---

    def take(self) -> None:
        """Look at what arrived in this turn of the loop."""
        if self._state == ARRIVED:
            data, self._arrived = self._arrived, b""
            self._take_head(data)

    def _take_head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if not may_begin(data) or (b"\n" in data and _has_bare_line_feed(data)):
                self._hand_over(data)
            elif len(data) > HEAD_BYTES_MAX:
                self._refuse_head(431, HEAD_TOO_LARGE, data)
            else:
                self._state = WAITING
                if len(self._received) < len(data):
                    self._received[:] = data
            return
        if end > HEAD_BYTES_MAX:
            self._refuse_head(431, HEAD_TOO_LARGE, data)
            return
        head, shared = data[:end], self._shared
        request = shared.requests.get(head) or shared.request(head)
        if request is None:
            if version_of(head) not in _VERSIONS:
                self._refuse_head(505, NOT_SPOKEN, head, request_id_of(head))
            else:
                self._hand_over(data)
            return
        if self._received:
            self._received.clear()
        if len(data) - end > request.length >= 0:  # the next one is here already, and waits for this one's answer
            self._received += data[end + request.length :]
            data = data[: end + request.length]
        self._request, self._keep_alive = request, request.head.keep_alive
        if request.small != (self._soon == _SOON_BYTES):
            self._expect(request.small)
        if request.small and len(data) - end == request.length and not shared.admission.is_full:
            # A copy of its own, since bytes objects start at a multiple of 16 and a body in the middle of one does not.
            self._answer(request, data[end:])
        else:
            self._take_body(request, memoryview(data)[end:])

    def _expect(self, small: bool) -> None:
        """The next request is taken for one like this: before a large body no more is read than a head and a little, since
        what is read with the head has to be copied to where it belongs.
        """
        scratch = self._shared.scratch
        self._window, self._soon = (scratch, _SOON_BYTES) if small else (scratch[:_HEAD_BYTES], _HEAD_BYTES)

    def _take_body(self, request: Request, data: memoryview) -> None:
        """The body begins with ``data``; what has not come yet is received when there is room."""
        head = request.head
        self._exchange.start(request.target.service, request.target.protocol)
        try:
            request.target.admit(max(request.length, len(data)))
            self._body = body = _body(self._shared.admission, request.length)
            self._take_early(data[len(data) - body.take(data) :])
        except ServiceError as error:
            rest = request.length - len(data)  # below 0: nobody knows
            self._refuse(error, more_to_come=rest != 0, rest=rest if request.small else 0)
            return
        if head.timeout_ms is not None:
            self._exchange.limit(head.timeout_ms, self._late)
        if not self._shared.admission.begin(body):
            self._wait_for_room()
        else:
            self._receive()

    def _take_early(self, data: memoryview) -> None:
        """The next request begins with this."""
        self._received += data

    def _receive(self) -> None:
        """The body is welcome."""
        body, request = self._body, self._request
        assert body is not None
        assert request is not None
        self._resume_reading()
        if body.is_whole:
            self._answer_body()
            return
        self._state = BODY
        self._since, body.mark = self._shared.tick, body.filled
        if request.head.expects_continue and not body.filled:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_more(self, body: Body, count: int) -> None:
        scratch = self._shared.scratch
        try:
            early = body.received(scratch, count)
        except ServiceError as error:
            self._refuse(error, more_to_come=True)
            return
        if early:
            self._take_early(scratch[count - early : count])
        if self._state == BODY:
            if body.is_whole:
                self._answer_body()
            elif self._shared.admission.is_full and not self._shared.admission.begin(body):
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        """Wait, without reading on."""
        body = self._body
        assert body is not None
        self._state = ROOM
        self._pause_reading()
        self._exchange.wait(self._shared.admission.turn(body), self._on_turn)

    def _on_turn(self, _: None, error: BaseException | None) -> None:
        if error is None:
            self._receive()
        elif isinstance(error, ServiceError):
            more_to_come = self._body is None or not self._body.is_whole
            self._drop_body()
            self._refuse(error, more_to_come=more_to_come)
        else:
            self.abort()

    def _late(self, error: ServiceError) -> None:
        """The deadline is over before the body is whole."""
        self._refuse(error, more_to_come=True)

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.drop()
            self._body = None

    # --- it is answered ---

    def _answer_body(self) -> None:
        body, self._body, request = self._body, None, self._request
        assert body is not None
        assert request is not None
        if request.length < 0:
            self._request = request = replace(request, length=body.filled)
        self._held = body.held
        self._answer(request, body.let_go())
        if self._held and self._state != SENDING and not self._exchange.waits:
            self._release()

    def _answer(self, request: Request, body: memoryview | bytes) -> None:
        self._served = True
        self._state = ANSWERING  # what comes in meanwhile is kept for afterwards
        try:
            answer = self._exchange.answer(
                request.target, body, request.head.timeout_ms, self._answered, request.head.request_id
            )
        except BaseException as error:  # as a coroutine's end has it
            answer = None
            self._fail(error)
        if answer is not None:
            self._finish(*answer)
        elif type(body) is bytes and self._exchange.waits:
            self._hold(len(body))

    def _answered(self, answer: Answer | None, error: BaseException | None) -> None:
        if self._held:
            self._release()
        if answer is None:
            self._fail(error)
        else:
            self._finish(*answer)

    def _hold(self, size: int) -> None:
        """So much more is kept for this connection."""
        self._held += size
        self._shared.admission.hold(size)

    def _release(self) -> None:
        if self._held:
            held, self._held = self._held, 0
            self._shared.admission.hold(-held)

    def _fail(self, error: BaseException | None) -> None:
        if not isinstance(error, ServiceError):
            if error is not None:
                head = self._request.head if self._request is not None else NOBODY_KNOWS
                FAILURES.tell(log, "answering failed", error=error, request_id=head.request_id)
            error = ModelFailed("the server failed on this request; its log has the cause")
        self._refuse(error)

    def _finish(self, segments: list[Segment], rows: int, fields: Fields = ()) -> None:
        shared, request = self._shared, self._request
        assert request is not None
        length = sum(map(len, segments))
        head = shared.ok_head(length, fields) if fields else shared.ok_heads.get(length) or shared.ok_head(length)
        if not self._keep_alive or shared.state.draining or (shared.age_max_s and self._is_old()):
            self._keep_alive = False
            head = head[:-2] + b"Connection: close\r\n\r\n"
        elif request.head.is_old:
            head = head[:-2] + b"Connection: keep-alive\r\n\r\n"
        if request.head.request_id:
            head = head[:-2] + f"X-Request-Id: {request.head.request_id}\r\n\r\n".encode("latin-1")
        self._exchange.finish(200, self._transport, request.length, length, rows, request.head)
        if length <= _JOIN_MAX:
            shared.write_soon(self, b"".join((head, *segments)))
        elif self._tls:
            self._begin_sending(_slices([head, *segments]))
        else:
            self._transport.writelines([head, *segments])
            self._begin_sending([])
            if self._state == SENDING:
                # Whatever is sent of them, the arrays stay until the last byte is.
                self._hold(length - self._held)

    def _is_old(self) -> bool:
        age_max_s = self._shared.age_max_s
        return bool(age_max_s) and (self._shared.tick - self._born) * TICK_S > age_max_s

    def write_small(self, answer: bytes) -> None:
        """Write a whole answer. Nothing is left to do afterwards, nearly always."""
        if self._state == GONE:
            return
        self._transport.write(answer)
        if self._keep_alive and not self._paused_writing and not self._received and not self._paused_reading:
            self._state = WAITING
            self._since = self._shared.tick
        else:
            self._begin_sending([])

    def _begin_sending(self, pieces: list[Segment]) -> None:
        self._state = SENDING
        self._since = self._shared.tick
        self._unsent = pieces
        self._send()
        if self._state == SENDING:
            self._mark = self._left()
            self._hold(self._mark)

    def _left(self) -> int:
        """Bytes of an answer that are not sent yet."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._unsent))

    def _send(self) -> None:
        while self._unsent and not self._paused_writing:
            self._transport.write(self._unsent.pop(0))
        if self._unsent or self._paused_writing:
            return
        if self._held:
            self._release()
        if not self._keep_alive:
            self._close_soon()
            return
        self._state = WAITING
        self._since = self._shared.tick
        if self._received:
            self._state, self._arrived = ARRIVED, bytes(self._received)
            self._received.clear()
            self._shared.take_next(self)
            self._resume_reading()
        elif self._leaver is not None:
            self._close_soon()
        else:
            self._resume_reading()

    def _close_soon(self) -> None:
        """Close once everything is sent."""
        self._state = CLOSING
        self._since = self._shared.tick
        self._transport.close()

    # --- or it is not ---

    def _refuse(self, error: ServiceError, *, more_to_come: bool = False, rest: int = 0) -> None:
        """Say no. If more of the body is to come, that is the end of the connection, unless it is known to be little:
        ``rest`` bytes, which are skipped. Under overload it would cost more to let everybody connect anew.
        """
        request, shared = self._request, self._shared
        assert request is not None
        is_skipped = rest > 0 and not request.head.expects_continue
        if (more_to_come and not is_skipped) or shared.state.draining or self._is_old():
            self._keep_alive = False
        answer, length = shared.refusal(error, request.head, self._keep_alive)
        self._exchange.finish(error.http_status, self._transport, max(0, request.length), length, 0, request.head)
        if more_to_come:
            self._transport.write(answer)
            if self._keep_alive:
                self._state, self._since, self._mark = SKIPPING, shared.tick, rest
            else:
                self._discard()
        else:
            self._state = ANSWERING  # until it is written
            shared.write_soon(self, answer)

    def _refuse_head(self, status: int, message: str, data: bytes = b"", request_id: str = "") -> None:
        """No to what is not even a request yet, or to a body that does not come."""
        self._keep_alive = False
        headers = {"Connection": "close"} | ({"Retry-After": "1"} if status == 503 else {})
        body = f"{message}\n".encode()
        if self._state == BODY and self._request is not None:
            head = self._request.head
            request_id = head.request_id
            self._exchange.finish(status, self._transport, max(0, head.length), len(body), 0, head)
        else:
            self._exchange.start(None)
            self._exchange.finish(status, self._transport, 0, len(body), 0, Question(*asked_in(data), request_id))
        if request_id:
            headers["X-Request-Id"] = request_id
        self._transport.write(response_head(status, "text/plain; charset=utf-8", len(body), headers) + body)
        self._discard()

    def _discard(self) -> None:
        self._state = DISCARDING
        self._since = self._shared.tick
        self._expect(small=True)
        self._received.clear()
        self._drop_body()
        self._resume_reading()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()  # it need not wait for the end of its own words

    def _skip(self, count: int) -> None:
        """So much more has come of a body that was refused before it came."""
        self._mark -= count
        if self._mark <= 0:
            self._state, self._since = WAITING, self._shared.tick
            if self._mark:
                self._take_head(self._shared.scratch[count + self._mark : count].tobytes())

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp have this connection, from these bytes on."""
        transport, shared = self._transport, self._shared
        self._state = GONE
        shared.leave(self)
        protocol = shared.fallback()
        transport.set_write_buffer_limits()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._resume_reading()
        protocol.data_received(data)
        if self._leaver is not None and not protocol.eof_received():
            transport.close()

    # --- time ---

    def check(self, tick: int) -> None:
        """End the connection if it has waited for too long; called with every tick."""
        settings, state = self._shared.settings, self._state
        if self._leaver is not None and (state in (WAITING, BODY) or (state == ANSWERING and self._leaver.is_gone())):
            self.abort()
            return
        if state in (ANSWERING, ROOM):
            return
        waited_s = (tick - self._since) * TICK_S
        if state == WAITING:
            if self._received:
                if waited_s > settings.head_timeout_s:
                    why = f"the head did not come within {settings.head_timeout_s:g} s (--head-timeout-s)"
                    self._refuse_head(408, why, bytes(self._received))
            elif waited_s > self._idle_max_s():
                self._close_soon()
        elif state == BODY:
            assert self._body is not None
            self._check_body(self._body, waited_s)
        elif state == SENDING:
            limit_s = settings.send_timeout_s
            if self._shared.admission.is_full:  # he keeps others out
                limit_s = min(limit_s, _PRESSED_S)
            if waited_s > limit_s:
                left = self._left()
                if self._mark - left < PROGRESS_BYTES_PER_S * waited_s:
                    log.info("a caller did not read its answer for %g s (--send-timeout-s)", waited_s)
                    self.abort()
                self._since, self._mark = tick, left
        elif state in (DISCARDING, SKIPPING):
            if waited_s > _DISCARD_S:
                self._close_soon()
        elif state == CLOSING and waited_s > settings.send_timeout_s:
            self.abort()

    def _idle_max_s(self) -> float:
        settings = self._shared.settings
        if not self._served:  # who comes has something to say
            return min(settings.head_timeout_s, settings.keepalive_timeout_s)
        return _OLD_IDLE_S if self._is_old() else settings.keepalive_timeout_s

    def _check_body(self, body: Body, waited_s: float) -> None:
        """End it if it comes too slowly."""
        limit_s = self._shared.settings.body_timeout_s
        body.look(TICK_S)
        if waited_s > limit_s:
            came, pace = body.filled - body.mark, body.pace(limit_s)
            if came < pace * waited_s:
                self._refuse_head(408, too_slow(came, waited_s, pace))
            else:
                self._since, body.mark = self._shared.tick, body.filled

    def close_if_idle(self, idle_s: float = 0.0) -> None:
        """Close, if nothing of a request has come; a connection that has never sent one only after ``idle_s``."""
        idle = self._state == WAITING and not self._received
        if idle and (self._served or (self._shared.tick - self._born) * TICK_S >= idle_s):
            self._close_soon()

    def give_up(self, error: BaseException) -> None:
        """Something went wrong that should not have."""
        FAILURES.tell(log, "a connection is cut", error=error)
        self.abort()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._transport.abort()

    def _pause_reading(self) -> None:
        if not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused_reading and self._leaver is None:
            self._paused_reading = False
            if not self._transport.is_closing():
                self._transport.resume_reading()


def _body(admission: Admission, length: int) -> Body:
    return Body(admission, length) if length >= 0 else Body(admission, None, chunked=True)


def _has_bare_line_feed(data: bytes) -> bool:
    return data.count(b"\n") != data.count(b"\r\n")


def _slices(segments: list[Segment]) -> list[Segment]:
    return [
        memoryview(segment)[at : at + _TLS_SLICE] for segment in segments for at in range(0, len(segment), _TLS_SLICE)
    ]
