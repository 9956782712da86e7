r"""One request on the hot route and its answer, from its head to the last byte that is sent.

    answer                     a small body has come with its head
    take_body --> take_more --> _answer_body --> answer         a larger one
             \-- no room: until there is some
    answer --> _finish --> Shared.write_soon                    a small answer
                      \-- send --> sent                         a larger one, from the model's own arrays

Or it is refused: ``_refuse``, ``refuse_head``.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Protocol

from graphpipe.buffers import POOLED_FROM
from graphpipe.errors import ModelFailed, ServiceError, service_error
from graphpipe.server.exchange import Exchange
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.body import Body, too_slow
from graphpipe.server.http.head import asked_in
from graphpipe.server.http.line import Line, slices
from graphpipe.server.http.memory_fields import MemoryRefused, Shown
from graphpipe.server.http.refusal import response_head
from graphpipe.server.http.request import Request
from graphpipe.server.http.shared import TICK_S, Shared, TurnTaker
from graphpipe.server.http.states import ANSWERING, BODY, ROOM, SENDING
from graphpipe.server.numbers.accesslog import NOBODY_KNOWS, Question
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.protocols.protocol import Answer, Fields
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S
from graphpipe.wire import Segment

__all__ = ["Carrier", "Cycle"]

log = logging.getLogger("graphpipe.front")

# Up to here an answer is joined into one write; above, its parts go out as they are.
_JOIN_MAX = 32 * 1024
# While more is held than may be, an answer may make no progress for no longer than this.
_PRESSED_S = 2.0


class Carrier(TurnTaker, Protocol):
    """The connection that a request came by: what its cycle has it do.

    ``state`` is one of ``states.py``, and ``since`` the tick from which on its time is counted.
    """

    state: int
    since: int

    def take_early(self, data: memoryview) -> None:
        """The next request begins with this."""
        ...

    def sent(self) -> None:
        """The answer is out: on to what follows."""
        ...

    def skip(self, rest: int) -> None:
        """So many bytes of a body that was refused are still to come, and then the next request."""
        ...

    def discard(self) -> None:
        """Whatever comes is dropped from now on: this was the last answer."""
        ...

    def is_old(self) -> bool:
        """Whether it is to take no further request for its age."""
        ...


class Cycle:
    """What is known of the request that is under way on a connection: one object for all of them, one after the other.

    ``body`` is what is being received; ``keep_alive`` says whether another request may follow, ``served`` that one was
    answered, well or badly.
    """

    __slots__ = ("_carrier", "_exchange", "_held", "_line", "_request", "_shared", "body", "keep_alive", "served")

    def __init__(self, carrier: Carrier, line: Line, shared: Shared, exchange: Exchange) -> None:
        self._carrier = carrier
        self._line = line
        self._shared = shared
        self._exchange = exchange
        self._request: Request | None = None
        self._held = 0  # bytes of a small body that is being answered, or of an answer that is being sent
        self.body: Body | None = None
        self.keep_alive = True
        self.served = False

    @property
    def knows_interim(self) -> bool:
        """Whether who asks speaks HTTP/1.1, as far as anybody knows."""
        return self._request is not None and not self._request.head.is_old

    def leave(self) -> None:
        """The connection is gone, or somebody else's."""
        self._exchange.leave()
        self.drop_body()
        self._release()
        self._line.drop()
        del self._carrier  # else the two would keep each other

    # --- its body comes in ---

    def take_body(self, request: Request, data: memoryview) -> None:
        """The body begins with ``data``; what has not come yet is received when there is room."""
        self._request, self.keep_alive = request, request.head.keep_alive
        head, admission = request.head, self._shared.admission
        self._exchange.start(request.target.service, request.target.protocol)
        try:
            request.target.admit(max(request.size, len(data)))
            admission.check(request.size)
            self._exchange.enter(request.target, request.size)
            if head.shown is not None:
                self._take_beside(request, head.shown)
            self.body = body = _body(admission, request, self._exchange)
            self._carrier.take_early(data[len(data) - body.take(data) :])
        except ServiceError as error:
            rest = request.length - len(data)  # below 0: nobody knows
            is_little = request.small or (head.shown is not None and request.length < POOLED_FROM)
            self._refuse(error, more_to_come=rest != 0, rest=rest if is_little else 0)
            return
        if head.timeout_ms is not None:
            self._exchange.limit(head.timeout_ms, self._late)
        if not admission.begin(body):
            self._wait_for_room(body)
        else:
            self._receive()

    def _take_beside(self, request: Request, shown: Shown) -> None:
        """Take what its caller shows. Raises MemoryRefused, and here it always does."""
        raise MemoryRefused(
            "memory is shown on a connection over a Unix socket that was upgraded to graphpipe-memory/1; send the bytes"
        )

    def take_more(self, body: Body, count: int) -> None:
        """So much has come into the body's ``window``."""
        scratch, carrier = self._shared.scratch, self._carrier
        try:
            early = body.received(scratch, count)
        except ServiceError as error:
            self._refuse(error, more_to_come=True)
            return
        if early:
            carrier.take_early(scratch[count - early : count])
        if carrier.state == BODY:
            if body.is_whole:
                self._answer_body()
            elif self._shared.admission.is_full and not self._shared.admission.begin(body):
                self._wait_for_room(body)

    def _receive(self) -> None:
        """The body is welcome."""
        body, request = self.body, self._request
        assert body is not None
        assert request is not None
        self._line.resume_reading()
        if body.is_whole:
            self._answer_body()
            return
        carrier = self._carrier
        carrier.state, carrier.since, body.mark = BODY, self._shared.tick, body.filled
        if request.head.expects_continue and not body.filled:
            self._line.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _wait_for_room(self, body: Body) -> None:
        """Wait, without reading on."""
        self._carrier.state = ROOM
        self._line.pause_reading()
        self._exchange.wait(self._shared.admission.turn(body), self._on_turn)

    def _on_turn(self, _: None, error: BaseException | None) -> None:
        if error is None:
            self._receive()
        elif isinstance(error, ServiceError):
            more_to_come = self.body is None or not self.body.is_whole
            self.drop_body()
            self._refuse(error, more_to_come=more_to_come)
        else:
            self._carrier.abort()

    def _late(self, error: ServiceError) -> None:
        """The deadline is over before the body is whole."""
        self._refuse(error, more_to_come=True)

    def check_body(self, waited_s: float) -> None:
        """End it if its body comes too slowly."""
        body, limit_s = self.body, self._shared.settings.body_timeout_s
        assert body is not None
        body.look(TICK_S)
        if waited_s > limit_s:
            came, pace = body.filled - body.mark, body.pace(limit_s)
            if came < pace * waited_s:
                self._refuse(service_error(0, 408, too_slow(came, waited_s, pace)), more_to_come=True)
            else:
                self._carrier.since, body.mark = self._shared.tick, body.filled

    def drop_body(self) -> None:
        """It will not come, or nobody wants it."""
        if self.body is not None:
            self.body.drop()
            self.body = None

    # --- it is answered ---

    def _answer_body(self) -> None:
        body, self.body, request = self.body, None, self._request
        assert body is not None
        assert request is not None
        if request.length < 0:
            request = replace(request, length=body.filled, size=body.filled)
        self._held = body.held
        self.answer(request, body.let_go())
        if self._held and self._carrier.state != SENDING and not self._exchange.waits:
            self._release()

    def answer(self, request: Request, body: memoryview | bytes) -> None:
        """Answer a request whose body is here, now or when there is an answer."""
        head = request.head
        self._request, self.keep_alive = request, head.keep_alive
        self.served = True
        self._carrier.state = ANSWERING  # what comes in meanwhile is kept for afterwards
        try:
            answer = self._exchange.answer(request.target, body, head.timeout_ms, self._answered, head.request_id)
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

    def _fail(self, error: BaseException | None) -> None:
        if not isinstance(error, ServiceError):
            if error is not None:
                head = self._request.head if self._request is not None else NOBODY_KNOWS
                FAILURES.tell(log, "answering failed", error=error, request_id=head.request_id)
            error = ModelFailed("the server failed on this request; its log has the cause")
        self._refuse(error)

    def _finish(self, segments: list[Segment], rows: int, fields: Fields = (), written: int = 0) -> None:
        """Send the answer. So many bytes of it were ``written`` to where the caller has them."""
        shared, request, line = self._shared, self._request, self._line
        assert request is not None
        asked, length = request.head, sum(map(len, segments))
        head = shared.ok_head(length, fields) if fields else shared.ok_heads.get(length) or shared.ok_head(length)
        if not self.keep_alive or shared.state.draining or (shared.age_max_s and self._carrier.is_old()):
            self.keep_alive = False
            head = head[:-2] + b"Connection: close\r\n\r\n"
        elif asked.is_old:
            head = head[:-2] + b"Connection: keep-alive\r\n\r\n"
        if asked.request_id:
            head = head[:-2] + f"X-Request-Id: {asked.request_id}\r\n\r\n".encode("latin-1")
        self._exchange.finish(200, line.transport, request.size, length + written, rows, asked)
        if length <= _JOIN_MAX:
            shared.write_soon(self._carrier, b"".join((head, *segments)))
        elif line.is_tls:
            self.send(slices([head, *segments]))
        else:
            line.transport.writelines([head, *segments])
            self.send([])
            if self._carrier.state == SENDING:
                # Whatever is sent of them, the arrays stay until the last byte is.
                self._hold(length - self._held)

    # --- its answer goes out ---

    def send(self, pieces: list[Segment]) -> None:
        """Send these, and what the transport has not sent yet."""
        carrier, line = self._carrier, self._line
        carrier.state, carrier.since = SENDING, self._shared.tick
        if line.send(pieces):
            self.sent()
        else:
            self._hold(line.mark)

    def sent(self) -> None:
        """The answer is out."""
        if self._held:
            self._release()
        self._carrier.sent()

    def check_sending(self, waited_s: float) -> None:
        """End the connection if nobody reads its answer."""
        limit_s = self._shared.settings.send_timeout_s
        if self._shared.admission.is_full:  # he keeps others out
            limit_s = min(limit_s, _PRESSED_S)
        if waited_s > limit_s:
            if self._line.progress() < PROGRESS_BYTES_PER_S * waited_s:
                log.info("a caller did not read its answer for %g s (--send-timeout-s)", waited_s)
                self._carrier.abort()
            self._carrier.since = self._shared.tick

    def _hold(self, size: int) -> None:
        """So much more is kept for this connection."""
        self._held += size
        self._shared.admission.hold(size)

    def _release(self) -> None:
        if self._held:
            held, self._held = self._held, 0
            self._shared.admission.hold(-held)

    # --- or it is not ---

    def _refuse(self, error: ServiceError, *, more_to_come: bool = False, rest: int = 0, fields: Fields = ()) -> None:
        """Say no, with these ``fields`` in the head.

        If more of the body is to come, that is the end of the connection, unless it is known to be little: ``rest`` bytes,
        which are skipped. Under overload it would cost more to let everybody connect anew.
        """
        request, shared, carrier = self._request, self._shared, self._carrier
        assert request is not None
        is_skipped = rest > 0 and not request.head.expects_continue
        if (more_to_come and not is_skipped) or shared.state.draining or carrier.is_old():
            self.keep_alive = False
        answer, length = shared.refusal(error, request.head, self.keep_alive)
        if fields:
            end = len(answer) - length - 2
            more = "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")
            answer = answer[:end] + more + answer[end:]
        transport = self._line.transport
        self._exchange.finish(error.http_status, transport, max(0, request.size), length, 0, request.head)
        if not more_to_come:
            carrier.state = ANSWERING  # until it is written
            shared.write_soon(carrier, answer)
            return
        transport.write(answer)
        if self.keep_alive:
            carrier.skip(rest)
        else:
            carrier.discard()

    def refuse_head(self, status: int, message: str, data: bytes = b"", request_id: str = "") -> None:
        """No to what is not even a request yet."""
        answer, length = _plain(status, message, request_id)
        asked = Question(*asked_in(data), request_id)
        self._exchange.start(None, self._shared.place_of(asked.path))
        self._exchange.finish(status, self._line.transport, 0, length, 0, asked)
        self._end_with(answer)

    def _end_with(self, answer: bytes) -> None:
        self.keep_alive = False
        self._line.transport.write(answer)
        self._carrier.discard()


def _body(admission: Admission, request: Request, exchange: Exchange) -> Body:
    length = request.length
    if length < 0:
        return Body(admission, None, exchange.grow, chunked=True)
    return Body(admission, length, exchange.grow, beside=request.size - length)


def _plain(status: int, message: str, request_id: str) -> tuple[bytes, int]:
    """An answer in words, the last one of its connection, and how many bytes of it are its body."""
    headers = {"Connection": "close"} | ({"Retry-After": "1"} if status == 503 else {})
    if request_id:
        headers["X-Request-Id"] = request_id
    body = f"{message}\n".encode()
    return response_head(status, "text/plain; charset=utf-8", len(body), headers) + body, len(body)
