r"""One caller's connection on the hot route.

A small request arrives in the scratch buffer that all connections share; a large body is received straight into its leased
buffer. The answer goes out from the model's own arrays.

    waiting --head--> (body) --whole--> answering --answer--> sending --sent--> waiting
                 \-- not hot: handed to aiohttp             \-- refused with bytes to come: discarding, then closed
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from graphpipe.errors import DeadlineExceeded, ModelFailed, ServiceError
from graphpipe.server.http.refusal import response_head
from graphpipe.server.numbers.accesslog import Access
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S
from graphpipe.server.taskless import Steps
from graphpipe.wire import Segment

if TYPE_CHECKING:
    from graphpipe.server.http.head import Head
    from graphpipe.server.http.hub import Front, Route
    from graphpipe.server.models.service import Answer

__all__ = ["TICK_S", "Connection"]

log = logging.getLogger("graphpipe.front")

# How often Front looks at the time of every connection.
TICK_S = 0.5

_HEAD_BYTES_MAX = 16 * 1024
# What may arrive while a request is being answered, before reading pauses.
_SPARE_BYTES = 64 * 1024
# Less than this at once waits for the end of the turn.
_SOON_BYTES = 64 * 1024
# Up to here an answer is joined into one write; above, its parts go out as they are.
_JOIN_MAX = 32 * 1024
# Over TLS a write is encrypted at once: slices keep the loop free and the memory small.
_TLS_SLICE = 256 * 1024
# After a refusal, what the caller still sends is read and dropped for so long: closing at once would destroy the
# answer.
_DISCARD_S = 2.0
# An old connection is closed with an answer; only if none is asked for during so long, without one.
_OLD_IDLE_S = 5.0

# The states of a connection.
_WAITING, _ARRIVED, _BODY, _ANSWERING, _SENDING, _DISCARDING, _CLOSING, _GONE = range(8)


class Connection(asyncio.BufferedProtocol):
    """One caller's connection."""

    __slots__ = (
        "_arrived",
        "_body",
        "_born",
        "_deadline",
        "_filled",
        "_front",
        "_keep_alive",
        "_mark",
        "_paused_reading",
        "_paused_writing",
        "_received",
        "_route",
        "_since",
        "_started",
        "_state",
        "_steps",
        "_tls",
        "_transport",
        "_unsent",
    )

    _transport: asyncio.Transport

    def __init__(self, front: Front) -> None:
        self._front = front
        self._state = _WAITING
        self._arrived = b""  # in this turn of the loop, and not looked at yet
        self._received = bytearray()  # of a head that is not whole yet, or of what came too early
        self._since = self._born = front.tick
        self._started = 0.0
        self._deadline: float | None = None
        self._mark = 0
        self._body: memoryview | None = None
        self._filled = 0
        self._route: Route | None = None
        self._steps: Steps[Any] | None = None
        self._keep_alive = True
        self._paused_reading = False
        self._paused_writing = False
        self._unsent: list[Segment] = []
        self._tls = False

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("sslcontext") is not None
        self._front.connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._state == _BODY:
            assert self._body is not None
            return self._body[self._filled :]
        # The event loop reads and calls back before it turns to another connection, so one buffer serves them all.
        return self._front.scratch

    def buffer_updated(self, count: int) -> None:
        state = self._state
        if state == _BODY:
            self._filled += count
            assert self._body is not None
            if self._filled == len(self._body):
                self._answer_body()
        elif state == _WAITING:
            front = self._front
            data = front.scratch[:count].tobytes()
            if self._received:
                self._received += data
                data = bytes(self._received)
            else:
                self._since = front.tick
            if count < _SOON_BYTES:
                self._state, self._arrived = _ARRIVED, data
                front.take_soon(self)
            else:
                self._take_head(data)
        elif state == _ARRIVED:  # TLS may bring more than once in a turn
            self._arrived += self._front.scratch[:count]
        elif state != _DISCARDING:
            self._received += self._front.scratch[:count]
            if len(self._received) >= _SPARE_BYTES:
                self._pause_reading()

    def eof_received(self) -> None:
        # Before the answer: the caller is gone, and connection_lost takes its work along.
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._state = _GONE
        self._front.connections.discard(self)
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
            self._front.state.in_flight -= 1
            if self._route is not None:
                self._route.service.meter.abandoned()
        self._body = None
        self._unsent = []

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        if self._state == _SENDING:
            self._send()

    # --- a request comes in ---

    def take(self) -> None:
        """Look at what arrived in this turn of the loop."""
        if self._state == _ARRIVED:
            data, self._arrived = self._arrived, b""
            self._state = _WAITING
            self._take_head(data)

    def _take_head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if b"\n" in data and _has_bare_line_feed(data):
                self._hand_over(data)
            elif len(data) > _HEAD_BYTES_MAX:
                self._refuse_head(431, f"the head has more than {_HEAD_BYTES_MAX} bytes; send fewer or shorter headers")
            elif len(self._received) < len(data):
                self._received[:] = data
            return
        if end > _HEAD_BYTES_MAX:
            self._refuse_head(431, f"the head has {end} bytes; at most {_HEAD_BYTES_MAX} are taken")
            return
        head, front = data[:end], self._front
        route = front.routes[head] if head in front.routes else front.route(head)
        if route is None or len(data) - end > route.length:
            # Odd; or the next request is here already, and pipelining is for those who know all of HTTP.
            self._hand_over(data)
            return
        if self._received:
            self._received.clear()
        self._route, self._keep_alive = route, route.head.keep_alive
        if route.small and len(data) - end == route.length:
            # A copy of its own, since bytes objects start at a multiple of 16 and a body in the middle of one does not.
            self._answer(route, data[end:])
        else:
            self._take_body(route.head, data, end)

    def _take_body(self, head: Head, data: bytes, end: int) -> None:
        try:
            self._route.service.admit(head.length)  # type: ignore[union-attr]
            body = self._front.admission.now(head.length)
        except ServiceError as error:
            self._refuse(error, more_to_come=True)
            return
        if body is not None:
            self._receive(body, head, data, end)
            return
        # No room now: wait for it, without reading on.
        self._state = _ANSWERING
        self._deadline = None  # the last request's; this one's begins when it is whole
        self._pause_reading()
        self._front.state.in_flight += 1

        def admitted(room: memoryview | None, error: BaseException | None) -> None:
            self._steps = None
            self._front.state.in_flight -= 1
            self._resume_reading()
            if room is not None:
                self._receive(room, head, data, end)
            elif isinstance(error, ServiceError):
                self._refuse(error, more_to_come=True)
            else:
                self.abort()

        self._steps = Steps(self._front.admission.soon(head.length), admitted)
        self._steps.start()

    def _receive(self, body: memoryview, head: Head, data: bytes, end: int) -> None:
        self._filled = len(data) - end
        body[: self._filled] = data[end:]
        self._body = body
        self._state = _BODY
        self._since, self._mark = self._front.tick, self._filled
        if self._filled == len(body):
            self._answer_body()
        elif head.expects_continue and not self._filled:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- it is answered ---

    def _answer_body(self) -> None:
        body, self._body = self._body, None
        assert body is not None
        assert self._route is not None
        self._answer(self._route, body)

    def _answer(self, route: Route, body: memoryview | bytes) -> None:
        self._started = perf_counter()
        service, timeout_ms = route.service, route.head.timeout_ms
        try:
            self._deadline = None if timeout_ms is None else self._front.time() + timeout_ms / 1000
            answer = service.answer(body, self._deadline)
        except BaseException as error:  # as Steps does
            self._fail(error)
            return
        if isinstance(answer, tuple):
            self._finish(*answer)
            return
        del body  # the stages hold it now; nobody else may
        self._state = _ANSWERING
        self._front.state.in_flight += 1
        self._steps = steps = Steps(answer, self._answered)
        steps.start()

    def _answered(self, answer: Answer | None, error: BaseException | None) -> None:
        self._steps = None
        self._front.state.in_flight -= 1
        if self._state == _GONE:
            return
        if answer is None:
            self._fail(error)
        else:
            self._finish(*answer)

    def _fail(self, error: BaseException | None) -> None:
        if not isinstance(error, ServiceError):
            log.error("answering failed", exc_info=error)
            error = ModelFailed("the server failed on this request; its log has the cause")
        self._refuse(error)

    def _finish(self, segments: list[Segment], rows: int) -> None:
        front, route = self._front, self._route
        assert route is not None
        length = sum(map(len, segments))
        head = front.ok_heads.get(length) or front.ok_head(length)
        if route.head.request_id:
            head = head[:-2] + f"X-Request-Id: {route.head.request_id}\r\n\r\n".encode("latin-1")
        if not self._keep_alive or front.state.draining or (front.age_max_s and self._is_old()):
            self._keep_alive = False
            head = head[:-2] + b"Connection: close\r\n\r\n"
        seconds = perf_counter() - self._started
        route.service.meter.answered(200, seconds)
        if front.access_log.wanted():
            self._log(200, rows, length, seconds)
        if length <= _JOIN_MAX:
            self._state = _ANSWERING  # until it is written; what comes in meanwhile is kept for afterwards
            front.write_soon(self, b"".join((head, *segments)))
        elif self._tls:
            self._begin_sending(_slices([head, *segments]))
        else:
            # Nothing may stay behind unnoticed: with no room in the buffer, resume_writing means that all is sent.
            self._transport.set_write_buffer_limits(high=0)
            self._state = _SENDING
            self._since = front.tick
            self._transport.writelines([head, *segments])
            self._mark = self._transport.get_write_buffer_size()
            self._send()

    def _log(self, status: int, rows: int, bytes_out: int, seconds: float) -> None:
        head = self._route.head if self._route else None
        peer = self._transport.get_extra_info("peername")
        self._front.access_log.write(
            Access(
                status,
                self._route.service.name if self._route else "",
                rows,
                head.length if head else 0,
                bytes_out,
                seconds,
                f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix",
                head.request_id if head else "",
            )
        )

    def _is_old(self) -> bool:
        age_max_s = self._front.age_max_s
        return bool(age_max_s) and (self._front.tick - self._born) * TICK_S > age_max_s

    def write_small(self, answer: bytes) -> None:
        """Write a whole answer. Nothing is left to do afterwards, nearly always."""
        if self._state == _GONE:
            return
        self._transport.write(answer)
        if self._keep_alive and not self._paused_writing and not self._received and not self._paused_reading:
            self._state = _WAITING
            self._since = self._front.tick
        else:
            self._begin_sending([])

    def _begin_sending(self, pieces: list[Segment]) -> None:
        self._state = _SENDING
        self._since = self._front.tick
        self._mark = sum(map(len, pieces))
        self._unsent = pieces
        self._send()

    def _send(self) -> None:
        while self._unsent and not self._paused_writing:
            self._transport.write(self._unsent.pop(0))
        if self._unsent or self._paused_writing:
            return
        if not self._keep_alive:
            self._close_soon()
            return
        self._state = _WAITING
        self._since = self._front.tick
        if self._received:
            # Whoever sends the next request before the answer to the last goes to aiohttp.
            self._hand_over(bytes(self._received))
        else:
            self._resume_reading()

    def _close_soon(self) -> None:
        """Close once everything is sent."""
        self._state = _CLOSING
        self._since = self._front.tick
        self._transport.close()

    # --- or it is not ---

    def _refuse(self, error: ServiceError, *, more_to_come: bool = False) -> None:
        route, front = self._route, self._front
        assert route is not None
        seconds = 0.0 if more_to_come else perf_counter() - self._started
        route.service.meter.answered(error.http_status, seconds)
        if more_to_come or front.state.draining or self._is_old():
            self._keep_alive = False
        answer = front.refusal(error, route.head, self._keep_alive)
        if front.access_log.wanted():
            self._log(error.http_status, 0, len(answer) - answer.index(b"\r\n\r\n") - 4, seconds)
        if more_to_come:
            self._transport.write(answer)
            self._discard()
        else:
            self._state = _ANSWERING  # until it is written; what comes in meanwhile is kept for afterwards
            front.write_soon(self, answer)

    def _refuse_head(self, status: int, message: str) -> None:
        """No to what is not even a request yet, or to a body that does not come."""
        self._keep_alive = False
        route = self._route = self._route if self._state == _BODY else None
        headers = {"Connection": "close"}
        if route and route.head.request_id:
            headers["X-Request-Id"] = route.head.request_id
        body = f"{message}\n".encode()
        (route.service.meter if route else self._front.nobody).answered(status, 0.0)
        if self._front.access_log.wanted():
            self._log(status, 0, len(body), 0.0)
        self._transport.write(response_head(status, "text/plain; charset=utf-8", len(body), headers) + body)
        self._discard()

    def _discard(self) -> None:
        self._state = _DISCARDING
        self._since = self._front.tick
        self._received.clear()
        self._body = None
        self._resume_reading()

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp have this connection, from these bytes on."""
        transport, front = self._transport, self._front
        self._state = _GONE
        front.connections.discard(self)
        protocol = front.fallback()
        transport.set_write_buffer_limits()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._resume_reading()
        protocol.data_received(data)

    # --- time ---

    def check(self, tick: int) -> None:
        """End the connection if it has waited for too long; called with every tick."""
        settings, state = self._front.settings, self._state
        if state == _ANSWERING:
            self._check_deadline()
            return
        waited_s = (tick - self._since) * TICK_S
        if state == _WAITING:
            if self._received:
                if waited_s > settings.head_timeout_s:
                    self._refuse_head(
                        408, f"the head did not come within {settings.head_timeout_s:g} s (--head-timeout-s)"
                    )
            elif waited_s > (_OLD_IDLE_S if self._is_old() else settings.keepalive_timeout_s):
                self._close_soon()
        elif state == _BODY:
            if waited_s > settings.body_timeout_s:
                if self._filled - self._mark < PROGRESS_BYTES_PER_S * waited_s:
                    self._refuse_head(
                        408,
                        f"the body came too slowly: {self._filled - self._mark} bytes in {waited_s:g} s (--body-timeout-s)",
                    )
                else:
                    self._since, self._mark = tick, self._filled
        elif state == _SENDING:
            if waited_s > settings.send_timeout_s:
                left = self._transport.get_write_buffer_size() + sum(map(len, self._unsent))
                if self._mark - left < PROGRESS_BYTES_PER_S * waited_s:
                    log.info("a caller did not read its answer for %g s (--send-timeout-s)", waited_s)
                    self.abort()
                self._since, self._mark = tick, left
        elif state == _DISCARDING:
            if waited_s > _DISCARD_S:
                self._close_soon()
        elif state == _CLOSING and waited_s > settings.send_timeout_s:
            self.abort()

    def _check_deadline(self) -> None:
        if self._steps is not None and self._deadline is not None and self._front.time() > self._deadline:
            self._steps.cancel()
            self._steps = None
            self._front.state.in_flight -= 1
            self._refuse(DeadlineExceeded("the caller's deadline passed before there was an answer"))

    def close_if_idle(self, idle_s: float = 0.0) -> None:
        """Close, if nothing of a request has come; a connection that has never sent one only after ``idle_s``."""
        if self._state == _WAITING and not self._received:
            silent = not self._started
            if not silent or (self._front.tick - self._born) * TICK_S >= idle_s:
                self._close_soon()

    def give_up(self, error: BaseException) -> None:
        """Something went wrong that should not have."""
        log.error("a connection is cut", exc_info=error)
        self.abort()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._transport.abort()

    def _pause_reading(self) -> None:
        if not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused_reading:
            self._paused_reading = False
            if not self._transport.is_closing():
                self._transport.resume_reading()


def _has_bare_line_feed(data: bytes) -> bool:
    return data.count(b"\n") != data.count(b"\r\n")


def _slices(segments: list[Segment]) -> list[Segment]:
    return [
        memoryview(segment)[at : at + _TLS_SLICE] for segment in segments for at in range(0, len(segment), _TLS_SLICE)
    ]
