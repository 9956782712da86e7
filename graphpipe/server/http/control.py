"""Pages for operators and for people: health, metrics, what is served, and the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from graphpipe.errors import NotFound, Unsupported
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.metrics import CONTENT_TYPE, Metrics
from graphpipe.server.protocols.graphpipe import GraphPipe, GraphPipeEndpoint
from graphpipe.server.settings.values import Settings
from graphpipe.server.state import State

__all__ = ["Control"]


class Control:
    """Handlers of aiohttp."""

    def __init__(self, dialect: GraphPipe, settings: Settings, state: State, counters: Counters) -> None:
        self._dialect = dialect
        self._settings = settings
        self._state = state
        self._metrics = Metrics(counters)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """All pages. The metrics only where no other address has them: that is for whoever may see them."""
        router.add_get(
            "/metrics",
            self._metrics_elsewhere if self._settings.metrics_listen else self._metrics_page,
            allow_head=False,
        )
        self._add_health_to(router)
        router.add_get("/control/is_alive", self._is_alive, allow_head=False)
        router.add_get("/control/is_ready", self._is_ready, allow_head=False)
        router.add_get("/control/client_count", self._client_count, allow_head=False)
        router.add_route("*", "/control/shutdown", self._shutdown)
        router.add_get("/models", self._models, allow_head=False)

    def add_side_to(self, router: web.UrlDispatcher) -> None:
        """The metrics and the health checks alone, for an address of their own."""
        router.add_get("/metrics", self._metrics_page, allow_head=False)
        self._add_health_to(router)

    def _add_health_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/livez", self._is_alive, allow_head=False)
        router.add_get("/readyz", self._is_ready, allow_head=False)

    async def describe(self, request: web.Request) -> web.StreamResponse:
        """A model's metadata as JSON, as the original gave it."""
        endpoint = self._dialect.endpoint(request.path)
        endpoint.service.meter.described(200)
        return _json(_description(endpoint))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return _json([_description(endpoint) for endpoint in self._dialect.endpoints()])

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
        async with self._metrics.page() as page:
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
            response.content_length = page.length
            await response.prepare(request)
            for part in page.parts if request.method != "HEAD" else ():
                # Who does not read would keep the page for ever.
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await response.write(part)
            await response.write_eof()
            return response

    async def _metrics_elsewhere(self, request: web.Request) -> web.StreamResponse:
        raise NotFound("/metrics has an address of its own on this server (--metrics-listen)")

    async def _client_count(self, request: web.Request) -> web.StreamResponse:
        return _text(200, f"{self._state.connections()}\n")

    async def _shutdown(self, request: web.Request) -> web.StreamResponse:
        if not self._settings.enable_shutdown:
            raise NotFound("/control/shutdown is off; start the server with --enable-shutdown to turn it on")
        if request.method not in ("GET", "POST"):
            raise Unsupported(f"{request.method} is not served here; POST it")
        self._state.on_shutdown()
        return _text(200, "ok\n")


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"Retry-After": "1"} if status == 503 else None)


def _json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value, indent=4), content_type="application/json")


def _description(endpoint: GraphPipeEndpoint) -> dict[str, Any]:
    meta = endpoint.metadata
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
