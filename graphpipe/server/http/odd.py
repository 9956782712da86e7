"""The HTTP that is not hot, by aiohttp: inference for whoever the hot route passes on, and the pages of ``control.py``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakKeyDictionary

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from graphpipe.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MalformedMessage,
    ModelFailed,
    NotFound,
    ServiceError,
    Unauthenticated,
    Unsupported,
    let_go,
    service_error,
)
from graphpipe.server.exchange import Exchange
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.body import Body, least_pace, too_slow
from graphpipe.server.http.coder import Coder
from graphpipe.server.http.codings import Inflating
from graphpipe.server.http.control import Control, Handlers
from graphpipe.server.http.cors import Cors
from graphpipe.server.http.head import is_host, request_id
from graphpipe.server.http.keys import ANYBODY, NOBODY, OPEN, SCOPE_OF, Grant, Keys
from graphpipe.server.http.memory_fields import MEMORY, MemoryRefused, shown_in
from graphpipe.server.http.odd_connection import OddConnection, OddServer
from graphpipe.server.http.readers import Readers
from graphpipe.server.http.refusal import NOT_SPOKEN, error_headers
from graphpipe.server.http.tls import caller_of
from graphpipe.server.numbers.accesslog import AccessLog, Question
from graphpipe.server.numbers.caller import Caller
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.families import PLACES
from graphpipe.server.numbers.places import places
from graphpipe.server.protocols.dialects import Dialects
from graphpipe.server.protocols.path import path_of, segments
from graphpipe.server.protocols.protocol import Answer, Dialect, WrongMethod
from graphpipe.server.quotas.quotas import Quotas
from graphpipe.server.settings.values import Settings
from graphpipe.server.state import State
from graphpipe.version import SERVER
from graphpipe.wire import Segment
from graphpipe.words import visible

__all__ = ["Odd"]

log = logging.getLogger("graphpipe.http")

OCTETS = "application/octet-stream"
TIMEOUT_HEADER = "GraphPipe-Timeout-Ms"
# What aiohttp says where it could read none.
_NO_METHOD = "UNKNOWN"
# Parts of an answer of this size are written one after another, each when the one before has left.
_PART_BYTES = 256 * 1024


class Odd:
    """What is answered over aiohttp."""

    def __init__(
        self,
        dialects: Dialects,
        control: Control,
        admission: Admission,
        settings: Settings,
        state: State,
        counters: Counters,
        access_log: AccessLog,
        keys: Keys | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self._first_seen: WeakKeyDictionary[asyncio.Task[None], float] = WeakKeyDictionary()
        self._nobody = counters.meter("")
        self._access_log = access_log
        self._dialects = dialects
        self._keys = keys
        self._quotas = quotas
        self._control = control
        control.sign = self._sign
        self._admission = admission
        self._settings = settings
        self._state = state
        self._cors = Cors(settings.allow_origin)
        self._coder = control.coder = Coder(settings, admission)
        self.readers = Readers(settings.send_timeout_s)

    def server(self) -> OddServer:
        """All there is, over aiohttp."""
        return self._server(self._control.pages(), models=True)

    def side_server(self) -> OddServer:
        """For an address of its own: the metrics and the health checks alone."""
        return self._server(self._control.side_pages(), models=False)

    def close(self) -> None:
        """Nobody is served any more."""
        self._coder.close()

    def _server(self, pages: Mapping[tuple[str, ...], Handlers], *, models: bool) -> OddServer:
        return OddServer(partial(self._answer, pages, models), self._turn_away, self._settings)

    # --- what is asked for ---

    async def _answer(
        self, pages: Mapping[tuple[str, ...], Handlers], models: bool, request: web.BaseRequest
    ) -> web.StreamResponse:
        grant = NOBODY
        try:
            _check(request)
            if request.method == "OPTIONS" and (told := self._cors.preflight(request.headers)) is not None:
                asked = web.Response(status=204, headers=told)
                self._sign(request, asked)
                return asked
            grant = self._grant(request) if models else ANYBODY
            handlers = self._handlers(pages, models, request, grant)
        except ServiceError as error:
            return self._turn_away(request, error, grant.caller)
        try:
            handler = handlers.get("GET" if request.method == "HEAD" else request.method)
            response = self._only(handlers, request) if handler is None else await handler(request, grant)
        except ServiceError as error:
            return self._refuse(request, let_go(error))  # it came through frames that know it by a future
        except web.HTTPException as error:
            return self._refuse(request, service_error(0, error.status, (error.text or error.reason).rstrip()))
        except (ConnectionError, TimeoutError):
            # The caller is gone or does not read: there is nobody to answer.
            if request.transport is not None:
                request.transport.abort()
            raise
        except Exception as error:
            what = partial(_what_failed, request.method, request.raw_path, error)
            FAILURES.tell(log, "a request failed", error=error, cause=what, request_id=_request_id(request))
            return self._refuse(request, ModelFailed("the server failed on this request; its log has the cause"))
        if not response.prepared:
            if isinstance(response, web.Response) and response.status == 200:
                await self._coder.compress_page(request, response)
            self._sign(request, response)
        return response

    def _handlers(
        self, pages: Mapping[tuple[str, ...], Handlers], models: bool, request: web.BaseRequest, grant: Grant
    ) -> Handlers:
        """What may be asked of the path that a request names, by method. Raises ServiceError if that is nothing."""
        path = path_of(request.raw_path)
        served: Handlers = {"GET": self._control.describe, "POST": self._infer}
        if path == "*" and request.method == "OPTIONS":  # of the server as a whole
            return served
        if request.method == "CONNECT":
            raise Unsupported("CONNECT is not served here: this is no proxy", 501)
        if not path.startswith("/"):
            raise InvalidRequest(f"{path[:40]!r} is no path")
        page = segments(path)
        if page in SCOPE_OF:
            grant.need(SCOPE_OF[page])
        handlers = pages.get(page)
        if handlers == {}:
            raise NotFound(f"{path[:200]} is off; start the server with --enable-shutdown to turn it on")
        if handlers is None and not models:
            raise NotFound(f"nothing is served at {path[:200]}")
        if handlers is not None:
            return handlers
        dialect = self._dialects.at(path)
        if dialect is not self._dialects.graphpipe:
            # Of the two that may be asked for, the dialect says itself which is wrong: that counts as one of its own.
            asks = request.method in ("GET", "HEAD", "POST")
            return dict.fromkeys(("GET", "POST") if asks else dialect.methods(path), self._infer)
        if request.method != "POST":
            grant.endpoint(partial(self._dialects.graphpipe.served, path))
        return served

    def _dialect(self, request: web.BaseRequest) -> Dialect:
        """Whose the path is that a request names."""
        return self._dialects.at(path_of(request.raw_path))

    def _grant(self, request: web.BaseRequest) -> Grant:
        """What the caller may do. Raises Unauthenticated for who has no key where one is needed."""
        if self._keys is None:
            return ANYBODY
        shown = [field.encode("utf-8", "surrogateescape") for field in request.headers.getall("Authorization", [])]
        try:
            return self._keys.grant(shown)
        except Unauthenticated:
            path = path_of(request.raw_path)
            if path.startswith("/") and segments(path) in OPEN:
                return NOBODY
            raise

    def _only(self, handlers: Handlers, request: web.BaseRequest) -> web.StreamResponse:
        """What may be asked of a path, to whoever asks that, or asks anything else."""
        no = WrongMethod(request.method, handlers)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": no.allowed})
        dialect = self._dialect(request)
        self._nobody.described(405, PLACES["json" if dialect is self._dialects.graphpipe else dialect.protocol])
        return self._refuse(request, no)

    # --- inference ---

    async def _infer(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        exchange = Exchange(self._state, self._access_log, self._nobody, asyncio.get_running_loop(), self._quotas)
        exchange.peer, exchange.caller = _peer(request), caller_of(request.transport)
        size, held, status, rows, length = 0, 0, 0, 0, 0
        until: float | None = None
        segments: Sequence[Segment] = ()
        headers = {"Content-Type": OCTETS}
        answer = _Answered(_request_id(request))
        try:
            try:
                expected = request.content_length
                path = path_of(request.raw_path)
                dialect = self._dialect(request)
                method = "GET" if request.method == "HEAD" else request.method
                find = partial(dialect.endpoint, method, path, partial(_field, request))
                target = grant.target(find, dialect.protocol, -1 if expected is None else expected)
            except ServiceError:
                exchange.start(None, PLACES[dialect.protocol])
                raise
            exchange.start(target.service, target.protocol)
            _check_that_no_memory_is_shown(request.headers)
            inflating = self._coder.inflating(request)
            timeout_ms = _timeout_ms(request.headers.get(TIMEOUT_HEADER))
            if timeout_ms is not None:
                exchange.limit(timeout_ms, _is_noticed)
                until = asyncio.get_running_loop().time() + timeout_ms / 1000
            if expected is not None:
                target.admit(expected)
                self._admission.check(expected)
            # What a compressed body has is known when it is inflated.
            exchange.enter(target, -1 if expected is None or inflating is not None else expected)
            async with _in_time(until, "the caller's deadline passed before its body had come"):
                body = await self._received(request, inflating, exchange.grow)
            size, held = body.filled, body.held
            done = exchange.answer(target, body.let_go(), timeout_ms, answer, _request_id(request))
            segments, rows, *fields = done if done is not None else await answer.future
            if fields:
                headers = dict(fields[0])
            if self._coder.is_asked(request, headers):
                async with _in_time(until, "the caller's deadline passed while its answer was compressed"):
                    segments = await self._coder.compressed(headers, segments)
                del done
            status, length = 200, sum(map(len, segments))
        except ServiceError as error:
            status = error.http_status
            raise
        except web.HTTPException as error:  # the body did not come
            status = error.status
            raise
        except Exception:
            status = 500
            raise
        finally:
            if status:
                exchange.finish(status, request.transport, size, length, rows, _question(request, grant.caller))
            else:
                exchange.leave()
            self._admission.hold(-held)
            # A failure remembers this frame, and the future the failure: a ring that would hold the request's memory.
            del answer
        return await self._send(request, headers, segments, length)

    async def _send(
        self, request: web.BaseRequest, headers: Mapping[str, str], segments: Sequence[Segment], length: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_length = length
        self._sign(request, response)
        self._admission.hold(length)
        try:
            await response.prepare(request)
            for segment in segments if request.method != "HEAD" else ():
                view = memoryview(segment)
                for at in range(0, len(view), _PART_BYTES):
                    # Each write waits for the socket; aiohttp neither joins nor copies a large one.
                    part = view[at : at + _PART_BYTES]
                    if request.transport is not None:
                        self.readers.wrote(request.transport, len(part))
                    await response.write(part)
            await response.write_eof()
        finally:
            self._admission.hold(-length)
        return response

    async def _received(
        self, request: web.BaseRequest, inflating: Inflating | None, grows: Callable[[int], None]
    ) -> Body:
        """The whole body, with its codings undone. Raises what may become of one."""
        body = Body(self._admission, request.content_length if inflating is None else None, grows)
        pace = _Pace(self._settings.body_timeout_s, request.content_length)
        state_bytes = 0 if inflating is None else inflating.state_bytes
        self._admission.hold(state_bytes)
        try:
            await self._wait_for_room(body)
            self._admission.expect(body, 0)  # nobody looks at how fast it comes, so no room is kept for it
            if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
                # Only now: who asks before sending wants to hear of a refusal first.
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            while chunk := await pace.chunk(request):
                if inflating is None:
                    await self._take(body, memoryview(chunk))
                else:
                    await self._coder.inflate(inflating, chunk, partial(self._take, body))
            if inflating is not None:
                inflating.end()
            body.ended()
            return body
        except BaseException as error:
            # Whoever keeps the error keeps this frame: the room is to go back at once.
            body.drop()
            if isinstance(error, HttpProcessingError):
                raise MalformedMessage("the body is not in chunks as HTTP has them") from None
            raise
        finally:
            self._admission.hold(-state_bytes)

    async def _take(self, body: Body, data: memoryview) -> None:
        body.take(data)
        if self._admission.is_full and not body.is_whole:
            await self._wait_for_room(body)

    async def _wait_for_room(self, body: Body) -> None:
        if not self._admission.begin(body):
            await self._admission.turn(body)

    # --- errors ---

    def _sign(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """What every answer bears. Before it is prepared."""
        response.headers["Server"] = SERVER
        for name, value in self._cors.fields(request.headers.get("Origin")).items():
            if name == "Vary" and response.headers.get(name, value) != value:
                value = f"{response.headers[name]}, {value}"
            response.headers[name] = value
        if called := _request_id(request):
            response.headers["X-Request-Id"] = called
        if self._state.draining or self._is_old(request):
            response.force_close()

    def _is_old(self, request: web.BaseRequest) -> bool:
        age_max_s = self._settings.connection_age_max_s
        if not age_max_s:
            return False
        now = asyncio.get_running_loop().time()
        return now - self._first_seen.setdefault(request.task, now) > age_max_s  # a task serves one connection

    def _turn_away(
        self, request: web.BaseRequest, error: ServiceError, caller: Caller | None = None
    ) -> web.StreamResponse:
        """No to what reaches no model and no page."""
        exchange = Exchange(self._state, self._access_log, self._nobody, asyncio.get_running_loop())
        exchange.caller = caller_of(request.transport)
        asked = _question(request, caller)  # where the parser refused its head, that knows its path nevertheless
        exchange.start(None, PLACES[self._dialects.at(asked.path).protocol])
        response = self._refuse(request, error)
        said = response.body if request.method != "HEAD" and isinstance(response.body, bytes) else b""
        exchange.finish(error.http_status, request.transport, 0, len(said), 0, asked)
        if error.http_status not in (401, 403, 404):
            response.force_close()
        return response

    def _refuse(self, request: web.BaseRequest, error: ServiceError) -> web.Response:
        content_type, body = self._dialect(request).error_body(error, request.headers.get("Accept", ""))
        response = web.Response(status=error.http_status, body=body, headers=error_headers(error))
        response.headers["Content-Type"] = content_type
        if not request.content.is_eof():
            # What is still to come of the body will not be read.
            response.force_close()
        self._sign(request, response)
        return response


class _Answered:
    """An exchange's ``done`` that can be awaited."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def __call__(self, answer: Answer | None, error: BaseException | None) -> None:
        if self.future.done():  # the handler was cancelled in this turn of the loop
            return
        if answer is not None:
            self.future.set_result(answer)
        elif isinstance(error, ServiceError):
            self.future.set_exception(error)
        else:  # told here, with the frames that it is about to let go of
            if error is not None:
                FAILURES.tell(log, "answering failed", error=error, request_id=self._request_id)
            self.future.set_exception(ModelFailed("the server failed on this request; its log has the cause"))


class _Pace:
    """Receives a body, of ``length`` bytes where that is known, unless it comes too slowly to be waited for."""

    def __init__(self, limit_s: float, length: int | None) -> None:
        self._limit_s = limit_s
        self._length = length
        self._came = self._mark = 0
        self._now = asyncio.get_running_loop().time
        self._since = self._now()

    async def chunk(self, request: web.BaseRequest) -> bytes:
        """The next part; empty at the end."""
        while True:
            try:
                async with asyncio.timeout_at(self._since + self._limit_s):
                    data = await request.content.readany()
                    self._came += len(data)
                    return data
            except TimeoutError:
                came, pace = self._came - self._mark, least_pace(self._length or self._came, self._limit_s)
                if came < pace * self._limit_s:
                    raise web.HTTPRequestTimeout(text=f"{too_slow(came, self._limit_s, pace)}\n") from None
                self._since, self._mark = self._now(), self._came


@asynccontextmanager
async def _in_time(until: float | None, words: str) -> AsyncIterator[None]:
    """What is done in here is over by then, in the loop's time. Raises DeadlineExceeded, with these words."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError:
        raise DeadlineExceeded(words) from None


def _is_noticed(error: ServiceError) -> None:
    """The deadline is over while nothing is under way: whoever receives the body finds out himself."""


def _check(request: web.BaseRequest) -> None:
    """Raise for what aiohttp lets pass and HTTP does not."""
    if request._version not in (HttpVersion10, HttpVersion11):  # `version` would keep it for the answer
        request._version = HttpVersion11
        raise Unsupported(NOT_SPOKEN, 505)
    hosts = request.headers.getall("Host", [])
    if len(hosts) > 1 or not all(is_host(host.encode("utf-8", "surrogateescape")) for host in hosts):
        raise InvalidRequest("the Host field is not the name of a host")
    coding = request.headers.get("Transfer-Encoding", "chunked")
    if coding.lower() != "chunked":
        raise Unsupported(f"Transfer-Encoding {coding[:40]!r} is not understood here; chunked is", 501)


def _check_that_no_memory_is_shown(headers: Mapping[str, str]) -> None:
    """Raise MemoryRefused if some is: descriptors do not come this way."""
    fields = [headers.get(name) for name in (MEMORY, f"{MEMORY}-Answer")]
    memory, answer = [None if value is None else value.encode("utf-8", "surrogateescape") for value in fields]
    if shown_in(memory, answer) is not None:
        raise MemoryRefused(
            "memory is shown by requests with a plain head and a length, on a connection over a Unix socket that was "
            "upgraded to graphpipe-memory/1; send the bytes"
        )


def _timeout_ms(value: str | None) -> int | None:
    """How long a caller waits, from its GraphPipe-Timeout-Ms header. Raises InvalidRequest."""
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise InvalidRequest(f"{TIMEOUT_HEADER} is a number of milliseconds; {value[:40]!r} came")
    return int(value)


def _what_failed(method: str, path: str, error: BaseException) -> str:
    return f"{visible(f'{method} {path}'[:200])}\n{places(error)}"


def _field(request: web.BaseRequest, name: str) -> str | None:
    """What a field of its head says. Raises InvalidRequest where it came more than once."""
    found = request.headers.getall(name, [])
    if len(found) > 1:
        raise InvalidRequest(f"one field {name} is expected, and {len(found)} came")
    return found[0] if found else None


def _request_id(request: web.BaseRequest) -> str:
    return request_id(request.headers.get("X-Request-Id", "").encode("utf-8", "surrogateescape"))


def _peer(request: web.BaseRequest) -> Hashable:
    """Who gets a turn: the same for every request of a connection."""
    protocol: object = request.protocol
    return protocol.peer if isinstance(protocol, OddConnection) else None


def _question(request: web.BaseRequest, caller: Caller | None) -> Question:
    """What the access log says of a head."""
    if request.method == _NO_METHOD:
        protocol: object = request.protocol
        method, path = protocol.asked_for() if isinstance(protocol, OddConnection) else ("", "")
        return Question(method, path, _request_id(request))
    return Question(request.method, path_of(request.raw_path), _request_id(request), caller)
