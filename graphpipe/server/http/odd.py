"""The HTTP that is not hot: control, metrics, metadata as JSON, and inference for whoever the front passes on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web

from graphpipe.buffers import POOLED_FROM
from graphpipe.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    NotFound,
    ServiceError,
    Unsupported,
)
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.refusal import error_body, error_headers
from graphpipe.server.models.service import SERVER, Answer, Service, find
from graphpipe.server.numbers.accesslog import Access, AccessLog
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.metrics import CONTENT_TYPE, Metrics
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S, Settings
from graphpipe.server.state import State

__all__ = ["Routes", "service_at"]

log = logging.getLogger("graphpipe.http")

OCTETS = "application/octet-stream"
TIMEOUT_HEADER = "GraphPipe-Timeout-Ms"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Paths that are not the first model's.
_RESERVED = frozenset(("control", "models", "metrics", "livez", "readyz", "v1", "v2"))


def service_at(path: str, services: Mapping[str, Service]) -> Service:
    """Whose inference endpoint a path is. Raises NotFound, which lists the models."""
    _, first, *rest = path.split("/", 2)
    if first == "models" and rest and rest[0]:
        return find(services, rest[0].rstrip("/"))
    if first in _RESERVED:
        raise NotFound(f"nothing is served at {path}; POST to / or to /models/NAME: {', '.join(services)}")
    return next(iter(services.values()))


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


class Routes:
    """The aiohttp application over some services."""

    def __init__(
        self,
        services: Mapping[str, Service],
        admission: Admission,
        settings: Settings,
        state: State,
        counters: Counters,
        access_log: AccessLog,
    ) -> None:
        self._first_seen: WeakKeyDictionary[asyncio.Task[None], float] = WeakKeyDictionary()
        self._metrics = Metrics(counters)
        self._nobody = counters.meter("")
        self._access_log = access_log
        self._services = services
        self._admission = admission
        self._settings = settings
        self._state = state

    def application(self) -> web.Application:
        """A fresh application with all routes."""
        app = web.Application(middlewares=[self._answer_errors], client_max_size=0)
        app.router.add_get("/control/is_alive", self._is_alive, allow_head=False)
        app.router.add_get("/control/is_ready", self._is_ready, allow_head=False)
        app.router.add_get("/livez", self._is_alive, allow_head=False)
        app.router.add_get("/readyz", self._is_ready, allow_head=False)
        app.router.add_get("/control/client_count", self._client_count, allow_head=False)
        app.router.add_route("*", "/control/shutdown", self._shutdown)
        app.router.add_get("/metrics", self._metrics_page, allow_head=False)
        app.router.add_get("/models", self._models, allow_head=False)
        app.router.add_post("/{path:.*}", self._infer, expect_handler=_say_nothing_yet)
        app.router.add_get("/{path:.*}", self._describe, allow_head=False)
        app.on_response_prepare.append(self._on_prepare)
        return app

    def side_application(self) -> web.Application:
        """An application for an address of its own: the metrics and the health checks alone."""
        app = web.Application(middlewares=[self._answer_errors])
        app.router.add_get("/metrics", self._metrics_page, allow_head=False)
        app.router.add_get("/livez", self._is_alive, allow_head=False)
        app.router.add_get("/readyz", self._is_ready, allow_head=False)
        return app

    # --- inference ---

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        began, service, size = perf_counter(), None, 0
        try:
            service = service_at(request.path, self._services)
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Unsupported("a compressed body is not taken; send it plain, without Content-Encoding", 415)
            deadline = deadline_of(request.headers.get(TIMEOUT_HEADER), asyncio.get_running_loop().time())
            if request.content_length is not None:
                service.admit(request.content_length)
            body = await self._body(request)
            began, size = perf_counter(), len(body)
            self._state.in_flight += 1
            try:
                answer = service.answer(body, deadline)
                segments, rows = answer if isinstance(answer, tuple) else await _in_time(answer, deadline)
            finally:
                self._state.in_flight -= 1
            del body  # what is left of it is in the answer
        except ServiceError as error:
            self._count(request, service, error.http_status, 0, size, 0, perf_counter() - began)
            raise
        except web.HTTPException as error:  # the body did not come
            self._count(request, service, error.status, 0, size, 0, perf_counter() - began)
            raise
        length = sum(map(len, segments))
        self._count(request, service, 200, rows, size, length, perf_counter() - began)
        response = web.StreamResponse(headers={"Content-Type": OCTETS})
        response.content_length = length
        await response.prepare(request)
        for segment in segments:
            # Each write waits for the socket; aiohttp neither joins nor copies a large one.
            async with asyncio.timeout(self._settings.send_timeout_s):
                await response.write(segment)
        await response.write_eof()
        return response

    def _count(
        self,
        request: web.Request,
        service: Service | None,
        status: int,
        rows: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
    ) -> None:
        (service.meter if service else self._nobody).answered(status, seconds)
        if self._access_log.wanted():
            name, request_id = service.name if service else "", _request_id(request)
            peer = request.remote or "unix"
            self._access_log.write(Access(status, name, rows, bytes_in, bytes_out, seconds, peer, request_id))

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

    # --- descriptions ---

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        service = service_at(request.path, self._services)
        service.meter.described(200)
        return _json(_description(service))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return _json([_description(service) for service in self._services.values()])

    # --- control ---

    async def _is_alive(self, request: web.Request) -> web.StreamResponse:
        status, text = (200, "ok\n") if self._state.alive else (503, "not alive\n")
        if "verbose" in request.query:
            # Whoever reads this knows as much: the event loop has just written it.
            text = f"event loop: ok\nserver: {'ok' if self._state.alive else 'ending'}\n{text}"
        return _text(status, text)

    async def _is_ready(self, request: web.Request) -> web.StreamResponse:
        status, text = (200, "ok\n") if self._state.ready else (503, "not ready\n")
        if "verbose" in request.query:
            text = "".join(f"{what}: {how}\n" for what, how in self._state.checks().items()) + text
        return _text(status, text)

    async def _metrics_page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    async def _client_count(self, request: web.Request) -> web.StreamResponse:
        return _text(200, f"{self._state.connections()}\n")

    async def _shutdown(self, request: web.Request) -> web.StreamResponse:
        if not self._settings.enable_shutdown:
            raise NotFound("/control/shutdown is off; start the server with --enable-shutdown to turn it on")
        if request.method not in ("GET", "POST"):
            raise Unsupported(f"{request.method} is not served here; POST it")
        self._state.on_shutdown()
        return _text(200, "ok\n")

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
            return self._refuse(request, error)
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
        content_type, body = error_body(error, request.headers.get("Accept", ""))
        response = web.Response(
            status=error.http_status, body=body, headers={**error_headers(error), **(headers or {})}
        )
        response.headers["Content-Type"] = content_type
        if not request.content.is_eof():
            # What is still to come of the body will not be read.
            response.force_close()
        return response


async def _say_nothing_yet(request: web.Request) -> None:
    """Leaves the answer to ``Expect: 100-continue`` to whoever knows whether the body is welcome."""


def deadline_of(value: str | None, now: float) -> float | None:
    """The loop time at which a caller stops waiting, from its GraphPipe-Timeout-Ms header. Raises InvalidRequest."""
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise InvalidRequest(f"{TIMEOUT_HEADER} is a number of milliseconds; {value[:40]!r} came")
    return now + int(value) / 1000


async def _in_time(answer: Awaitable[Answer], deadline: float | None) -> Answer:
    # As Connection does. What it waits for raises ServiceError alone.
    try:
        async with asyncio.timeout_at(deadline):
            return await answer
    except TimeoutError:
        raise DeadlineExceeded("the caller's deadline passed before there was an answer") from None


def _request_id(request: web.Request) -> str:
    # What is not UTF-8 could be neither logged nor sent back.
    return request.headers.get("X-Request-Id", "")[:128].encode("utf-8", "replace").decode()


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"Retry-After": "1"} if status == 503 else None)


def _json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value, indent=4), content_type="application/json")


def _description(service: Service) -> dict[str, Any]:
    meta = service.metadata
    return {
        "Name": meta.name,
        "Version": meta.version,
        "Server": meta.server,
        "Description": meta.description,
        **{
            side: [
                {"Name": io.name, "Description": io.description, "Shape": list(io.shape), "Type": int(io.type)}
                for io in ios
            ]
            for side, ios in (("Inputs", meta.inputs), ("Outputs", meta.outputs))
        },
    }
