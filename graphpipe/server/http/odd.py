"""The HTTP that is not hot, by aiohttp: inference for whoever the hot route passes on, and the pages of ``control.py``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web

from graphpipe.buffers import POOLED_FROM
from graphpipe.errors import InvalidRequest, ModelFailed, NotFound, ServiceError, Unsupported, let_go
from graphpipe.server.exchange import Exchange
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.control import Control
from graphpipe.server.http.refusal import error_headers
from graphpipe.server.numbers.accesslog import AccessLog
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.protocol import Answer, Dialect
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S, Settings
from graphpipe.server.state import State
from graphpipe.server.target import Target
from graphpipe.version import SERVER

__all__ = ["Odd"]

log = logging.getLogger("graphpipe.http")

OCTETS = "application/octet-stream"
TIMEOUT_HEADER = "GraphPipe-Timeout-Ms"
# Parts of an answer of this size are written one after another, each when the one before has left.
_PART_BYTES = 256 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Odd:
    """The aiohttp application."""

    def __init__(
        self,
        dialect: Dialect,
        control: Control,
        admission: Admission,
        settings: Settings,
        state: State,
        counters: Counters,
        access_log: AccessLog,
    ) -> None:
        self._first_seen: WeakKeyDictionary[asyncio.Task[None], float] = WeakKeyDictionary()
        self._nobody = counters.meter("")
        self._access_log = access_log
        self._dialect = dialect
        self._control = control
        self._admission = admission
        self._settings = settings
        self._state = state

    def application(self) -> web.Application:
        """A fresh application with all routes."""
        app = web.Application(middlewares=[self._answer_errors], client_max_size=0)
        self._control.add_to(app.router)
        app.router.add_post("/{path:.*}", self._infer, expect_handler=_say_nothing_yet)
        app.router.add_get("/{path:.*}", self._control.describe, allow_head=False)
        app.on_response_prepare.append(self._on_prepare)
        return app

    def side_application(self) -> web.Application:
        """An application for an address of its own: the metrics and the health checks alone."""
        app = web.Application(middlewares=[self._answer_errors])
        self._control.add_side_to(app.router)
        return app

    # --- inference ---

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(self._state, self._access_log, self._nobody, asyncio.get_running_loop())
        size, status, rows, length = 0, 0, 0, 0
        segments: list[Any] = []
        try:
            try:
                target = Target.of(self._dialect.endpoint(request.path))
            except NotFound:
                exchange.start(None)
                raise
            exchange.start(target.service)
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Unsupported("a compressed body is not taken; send it plain, without Content-Encoding", 415)
            timeout_ms = _timeout_ms(request.headers.get(TIMEOUT_HEADER))
            if request.content_length is not None:
                target.admit(request.content_length)
            body = await self._body(request)
            size = len(body)
            answer = _Answered()
            done = exchange.answer(target, body, timeout_ms, answer)
            del body  # what is left of it is in the answer
            segments, rows = done if done is not None else await answer.future
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
                exchange.finish(status, request.transport, size, length, rows, _request_id(request))
            else:
                exchange.leave()
        response = web.StreamResponse(headers={"Content-Type": OCTETS})
        response.content_length = length
        await response.prepare(request)
        for segment in segments:
            view = memoryview(segment)
            for at in range(0, len(view), _PART_BYTES):
                # Each write waits for the socket; aiohttp neither joins nor copies a large one.
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await response.write(view[at : at + _PART_BYTES])
        await response.write_eof()
        return response

    async def _body(self, request: web.Request) -> memoryview:
        size = request.content_length
        body = await self._admission.soon(POOLED_FROM if size is None else size)
        if request.headers.get("Expect", "").lower() == "100-continue":
            # Only now: who asks before sending wants to hear of a refusal first.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        filled, pace = 0, _Pace(self._settings.body_timeout_s)
        try:
            while chunk := await pace.chunk(request, filled):
                end = filled + len(chunk)
                if end > len(body):  # chunked: nobody said how much would come
                    grown = await self._admission.soon(max(end, min(2 * len(body), self._admission.body_bytes_max)))
                    grown[:filled] = body[:filled]
                    body = grown
                body[filled:end] = chunk
                filled = end
            return body[:filled]
        except BaseException:
            # Whoever keeps the error keeps this frame: the room is to go back at once.
            body = grown = memoryview(b"")
            raise

    # --- errors ---

    async def _on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER
        if request_id := _request_id(request):
            response.headers["X-Request-Id"] = request_id
        if self._state.draining or self._is_old(request):
            response.force_close()
            response.headers["Connection"] = "close"  # aiohttp has thought about this header already

    def _is_old(self, request: web.Request) -> bool:
        age_max_s = self._settings.connection_age_max_s
        if not age_max_s:
            return False
        now = asyncio.get_running_loop().time()
        return now - self._first_seen.setdefault(request.task, now) > age_max_s  # a task serves one connection

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            refusal = Unsupported(f"{request.method} is not served here; use {allowed}")
            self._nobody.described(405)
            return self._refuse(request, refusal, {"Allow": allowed})
        except web.HTTPException as error:
            if error.status == 404:
                return self._refuse(request, NotFound(f"nothing is served at {request.path}"))
            raise
        except ServiceError as error:
            return self._refuse(request, let_go(error))  # it came through frames that know it by a future
        except (ConnectionError, TimeoutError):
            # The caller is gone or does not read: there is nobody to answer.
            if request.transport is not None:
                request.transport.abort()
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return self._refuse(request, ModelFailed("the server failed on this request; its log has the cause"))

    def _refuse(
        self, request: web.Request, error: ServiceError, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        content_type, body = self._dialect.error_body(error, request.headers.get("Accept", ""))
        response = web.Response(
            status=error.http_status, body=body, headers={**error_headers(error), **(headers or {})}
        )
        response.headers["Content-Type"] = content_type
        if not request.content.is_eof():
            # What is still to come of the body will not be read.
            response.force_close()
        return response


class _Answered:
    """An exchange's ``done`` that can be awaited."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def __call__(self, answer: Answer | None, error: BaseException | None) -> None:
        if self.future.done():  # the handler was cancelled in this turn of the loop
            return
        if answer is not None:
            self.future.set_result(answer)
        elif isinstance(error, ServiceError):
            self.future.set_exception(error)
        else:  # told here, with the frames that it is about to let go of
            log.error("answering failed", exc_info=error)
            self.future.set_exception(ModelFailed("the server failed on this request; its log has the cause"))


class _Pace:
    """Receives a body, unless it comes too slowly to be waited for."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._now = asyncio.get_running_loop().time
        self._since, self._mark = self._now(), 0

    async def chunk(self, request: web.Request, filled: int) -> bytes:
        """The next part after the first ``filled`` bytes; empty at the end."""
        while True:
            try:
                async with asyncio.timeout_at(self._since + self._limit_s):
                    return await request.content.readany()
            except TimeoutError:
                came = filled - self._mark
                if came < PROGRESS_BYTES_PER_S * self._limit_s:
                    raise web.HTTPRequestTimeout(
                        text=f"the body came too slowly: {came} bytes in {self._limit_s:g} s (--body-timeout-s)\n"
                    ) from None
                self._since, self._mark = self._now(), filled


async def _say_nothing_yet(request: web.Request) -> None:
    """Leaves the answer to ``Expect: 100-continue`` to whoever knows whether the body is welcome."""


def _timeout_ms(value: str | None) -> int | None:
    """How long a caller waits, from its GraphPipe-Timeout-Ms header. Raises InvalidRequest."""
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise InvalidRequest(f"{TIMEOUT_HEADER} is a number of milliseconds; {value[:40]!r} came")
    return int(value)


def _request_id(request: web.Request) -> str:
    # What is not UTF-8 could be neither logged nor sent back.
    return request.headers.get("X-Request-Id", "")[:128].encode("utf-8", "replace").decode()
