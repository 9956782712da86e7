"""gRPC: calls over the streams of an HTTP/2 connection, each with one message and one answer.

A call's message has its length in front, so a large one is received into a lease of that length when there is room, and its
caller waits until then: no window is opened for what nobody has room for. From there on a call is an Exchange like any
other request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from graphpipe.errors import (
    ModelFailed,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unsupported,
    let_go,
    service_error,
)
from graphpipe.server.exchange import Exchange
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.body import Body, least_pace, too_slow
from graphpipe.server.http.coder import Coder
from graphpipe.server.http.grpc_head import CODINGS, CallHead, CallHeads, NotGrpc, coding_of, timeout_ms
from graphpipe.server.http.grpc_message import Incoming, prefix_of
from graphpipe.server.http.grpc_status import OK, trailers_of
from graphpipe.server.http.h2_stream import Headers, Stream
from graphpipe.server.http.head import HEAD_BYTES_MAX
from graphpipe.server.http.keys import ANYBODY, Keys
from graphpipe.server.http.shared import TICK_S
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.families import PLACES
from graphpipe.server.protocols.protocol import Answer, Rpcs
from graphpipe.server.settings.values import Settings
from graphpipe.server.target import Target
from graphpipe.wire import Segment

__all__ = ["Calls"]

log = logging.getLogger("graphpipe.front")

_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-accept-encoding", CODINGS.encode()))
_LENGTH_MAX = 2**32 - 1
# Calls that are over are used again, so many of them.
_SPARE_MAX = 128
# A stranger's message is looked at, as it may ask for what is open to all; but not a long one.
_STRANGER_MAX = 4 * 1024


class Calls:
    """What the calls of a server share. ``rpcs`` are the services, by ``package.Service``."""

    def __init__(
        self,
        rpcs: Mapping[str, Rpcs],
        admission: Admission,
        settings: Settings,
        exchange: Callable[[], Exchange],
        keys: Keys | None = None,
    ) -> None:
        self.rpcs = rpcs
        self.admission = admission
        self.settings = settings
        self.exchange = exchange
        self.keys = keys
        self.coder = Coder(settings, admission)
        self._heads = CallHeads()
        self.spare: list[_Call] = []  # answered, and known to nobody any more

    def begin(self, stream: Stream, headers: Headers) -> _Call | _NoCall:
        """What becomes of a stream."""
        try:
            head = self._heads.read(headers)
        except NotGrpc as no:
            body = f"{no.words}\n".encode()
            told = (
                (b":status", b"%d" % no.status),
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
            )
            if no.asked.method == "HEAD":
                body = b""
            exchange, connection = self.exchange(), stream.connection
            exchange.belongs_to(connection.peer, connection.caller)
            exchange.start(None, PLACES["grpc"])
            exchange.finish(no.status, connection.transport, 0, len(body), 0, no.asked)
            connection.refuse(stream, told, body)
            return _NoCall()
        call = self.spare.pop() if self.spare else _Call(self)
        call.begin(stream, head)
        return call

    def close(self) -> None:
        """Nobody calls any more."""
        self.coder.close()


class _NoCall:
    """A stream that is answered already: what comes of it is dropped."""

    def data(self, data: bytes) -> None:
        pass

    def end(self) -> None:
        pass

    def answer(self) -> None:
        pass

    def check(self, tick: int) -> None:
        pass

    def gone(self) -> None:
        pass


class _Call:
    """One call, from its head to its answer; and then another one, where there is one to come."""

    __slots__ = (
        "_calls",
        "_exchange",
        "_grant",
        "_head",
        "_held",
        "_is_answered",
        "_is_done",
        "_message",
        "_rpcs",
        "_since",
        "_stranger",
        "_stream",
    )

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._exchange = calls.exchange()
        self._message = Incoming(calls.admission, self._exchange.grow, calls.settings.inflate_ratio_max)
        self._held = 0

    def begin(self, stream: Stream, head: CallHead) -> None:
        """A stream's head has come."""
        self._stream: Stream = stream
        self._head = head
        self._is_done = self._is_answered = False
        self._since: int | None = None
        self._grant = ANYBODY
        self._stranger: Unauthenticated | None = None
        self._rpcs = rpcs = self._calls.rpcs.get(head.service)
        exchange, connection = self._exchange, stream.connection
        if exchange.peer is not connection.peer or exchange.caller is not connection.caller:
            exchange.belongs_to(connection.peer, connection.caller)
        exchange.start(None, PLACES["grpc" if rpcs is None else rpcs.protocol])
        if rpcs is not None and head.is_plain and self._calls.keys is None:  # nearly always
            return
        try:
            self._begin()
        except ServiceError as error:
            self._refuse(error)

    def _begin(self) -> None:
        calls, head = self._calls, self._head
        if head.size > HEAD_BYTES_MAX:
            raise TooLarge(f"the call's metadata has {head.size} bytes; at most {HEAD_BYTES_MAX} are taken")
        if self._rpcs is None:
            raise Unsupported(f"there is no service {head.service[:200]!r} here", 501)
        if calls.keys is not None:
            try:
                self._grant = calls.keys.grant(head.authorizations)
            except Unauthenticated as error:
                self._stranger = let_go(error)
            else:
                self._head = replace(head, caller=self._grant.caller)
        try:
            self._rpcs.check(head.path)
        except Unsupported:
            if self._stranger is not None:
                raise self._stranger from None
            raise
        if head.coding != b"identity":
            self._message.coding = coding_of(head.coding)
        elif not head.timeout:
            head.is_plain = True
        if head.timeout:
            self._exchange.limit(timeout_ms(head.timeout), self._refuse)

    # --- its message comes in ---

    def data(self, data: bytes) -> None:
        """So much more has come of it."""
        if self._is_done:
            return
        message = self._message
        known = message.body
        try:
            message.take(data)
            if known is None and message.body is not None and not message.body.is_small:
                self._exchange.come(self._grant.caller, message.size)
            if self._stranger is not None and message.size > _STRANGER_MAX:
                raise self._stranger
        except ServiceError as error:
            self._refuse(error)
            return
        if message.body is None:
            return
        if not self._exchange.waits:
            self._receive(message.body)
        elif self._calls.admission.is_over:
            self._calls.admission.refuse(message.body)

    def _receive(self, body: Body) -> None:
        """Have more of it come, if there is room."""
        admission = self._calls.admission
        if not body.begun:
            if not admission.begin(body):
                self._wait_for_room(body)
            elif not body.is_whole:
                self._stream.widen(body.rest)
        elif not body.is_whole and admission.is_full and not admission.begin(body):
            self._wait_for_room(body)

    def _wait_for_room(self, body: Body) -> None:
        """Wait, and let no more come than is on its way: which may be too much, where many wait."""
        if self._calls.admission.is_over:
            self._refuse(self._calls.admission.no_room())
            return
        self._stream.shut()
        self._exchange.wait(self._calls.admission.turn(body), self._on_turn)

    def _on_turn(self, _: None, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
            return
        body = self._message.body
        assert body is not None
        self._since = None
        self._stream.widen(body.rest)
        if self._stream.has_ended:
            self.end()

    def end(self) -> None:
        """Nothing more of it comes."""
        if self._is_done or self._exchange.waits:
            return
        if self._message.small is not None or self._message.is_whole:
            self._stream.connection.answer_soon(self._stream)
        else:
            self._refuse(self._message.missing())

    def check(self, tick: int) -> None:
        """End it if its message comes too slowly."""
        if self._is_done or self._exchange.waits:
            return
        if self._since is None:
            self._since = tick
        body, waited_s, limit_s = self._message.body, (tick - self._since) * TICK_S, self._calls.settings.body_timeout_s
        if body is not None:
            body.look(TICK_S)
        if waited_s <= limit_s:
            return
        came, pace = (0, least_pace(0, limit_s)) if body is None else (body.filled - body.mark, body.pace(limit_s))
        if body is None or body.is_whole or came < pace * waited_s:
            self._refuse(service_error(0, 408, too_slow(came, waited_s, pace)))
        else:
            self._since, body.mark = tick, body.filled

    # --- it is answered ---

    def answer(self) -> None:
        """All of it is here."""
        if self._is_done:
            return
        incoming = self._message
        message, self._held = incoming.let_go()
        if incoming.is_compressed:
            self._exchange.wait(incoming.inflated(message, self._calls.coder), self._on_inflated)
        else:
            self._ask(message)

    def _on_inflated(self, body: Body | None, error: BaseException | None) -> None:
        self._release()
        if body is None:
            self._fail(error)
            return
        self._held = body.held
        self._ask(body.let_go())

    def _ask(self, message: bytes | memoryview) -> None:
        exchange = self._exchange
        try:
            rpcs = self._rpcs
            assert rpcs is not None
            if self._calls.keys is None:
                target = Target.of(rpcs.endpoint(self._head.path, message), rpcs.protocol)
            else:
                target = self._target(rpcs, message)
            exchange.reach(target, len(message))
            answer = exchange.answer(target, message, None, self._answered, self._head.request_id)
        except BaseException as error:  # as a coroutine's end has it
            self._fail(error)
            return
        if answer is not None:
            if self._held:
                self._release()
            self._give(answer)
        elif exchange.waits and not self._held:
            self._hold(len(message) if type(message) is bytes else 0)

    def _target(self, rpcs: Rpcs, message: bytes | memoryview) -> Target:
        """Where it goes, if his key is good for that."""
        find = partial(rpcs.endpoint, self._head.path, message)
        if self._stranger is None:
            return self._grant.target(find, rpcs.protocol, len(message))
        try:
            endpoint = find()
        except ServiceError:
            raise self._stranger from None  # what there is, is not for him to know
        if endpoint.scope:
            raise self._stranger
        return Target.of(endpoint, rpcs.protocol)

    def _answered(self, answer: Answer | None, error: BaseException | None) -> None:
        self._release()
        if answer is None:
            self._fail(error)
        else:
            self._give(answer)

    def _give(self, answer: Answer) -> None:
        segments, rows = answer[0], answer[1]
        if self._head.takes_gzip and self._calls.settings.compress_answers:
            told: dict[str, str] = {}
            compressed = self._calls.coder.compressed(told, segments)
            self._exchange.wait(compressed, partial(self._on_compressed, segments, rows))
        else:
            self._finish(segments, rows)

    def _on_compressed(
        self, plain: list[Segment], rows: int, smaller: list[Segment] | None, error: BaseException | None
    ) -> None:
        if smaller is None:
            self._fail(error)
        else:
            self._finish(list(smaller), rows, is_compressed=smaller is not plain)

    def _finish(self, segments: list[Segment], rows: int, *, is_compressed: bool = False) -> None:
        size = sum(map(len, segments))
        if size > _LENGTH_MAX:
            self._refuse(TooLarge(f"the answer has {size} bytes; gRPC's messages have at most {_LENGTH_MAX}"))
            return
        self._is_done = self._is_answered = True
        stream, head = self._stream, self._head
        connection = stream.connection
        self._exchange.finish(200, connection.transport, self._message.size, size, rows, head)
        headers = self._headers() if head.request_id else _HEADERS
        if is_compressed:
            headers += ((b"grpc-encoding", b"gzip"),)
        connection.respond(stream, headers, [prefix_of(size, is_compressed=is_compressed), *segments], OK)

    def _headers(self) -> Headers:
        called = self._head.request_id
        return (*_HEADERS, (b"x-request-id", called.encode())) if called else _HEADERS

    # --- or it is not ---

    def _fail(self, error: BaseException | None) -> None:
        if not isinstance(error, ServiceError):
            if error is not None:
                FAILURES.tell(log, "answering failed", error=error, request_id=self._head.request_id)
            error = ModelFailed("the server failed on this request; its log has the cause")
        self._refuse(error)

    def _refuse(self, error: ServiceError) -> None:
        self._is_done, self._stranger = True, None  # which knows the frames that know this
        self._drop()
        connection = self._stream.connection
        if self._exchange.waits:  # for room, while what came is already wrong
            self._exchange.leave()
            connection.cancel(self._stream)
            return
        self._exchange.finish(error.http_status, connection.transport, self._message.size, 0, 0, self._head)
        connection.refuse(self._stream, self._headers() + trailers_of(error))

    def gone(self) -> None:
        """The stream is over."""
        if self._is_answered:
            del self._stream  # or it would keep its connection
            self._message.clear()
            spare = self._calls.spare
            if len(spare) < _SPARE_MAX:
                spare.append(self)
            return
        self._is_done = True
        self._exchange.leave()
        self._drop()

    def _drop(self) -> None:
        self._message.drop()
        self._release()

    def _hold(self, size: int) -> None:
        self._held += size
        self._calls.admission.hold(size)

    def _release(self) -> None:
        if self._held:
            held, self._held = self._held, 0
            self._calls.admission.hold(-held)
