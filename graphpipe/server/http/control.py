"""Pages for operators and for people: health, metrics, what is served, and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from graphpipe.errors import NotFound
from graphpipe.server.http.coder import Coder
from graphpipe.server.http.keys import Grant
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.metrics import CONTENT_TYPE, Metrics
from graphpipe.server.protocols.graphpipe import GraphPipe, GraphPipeEndpoint
from graphpipe.server.protocols.path import path_of
from graphpipe.server.settings.values import Settings
from graphpipe.server.state import State
from graphpipe.wire import Segment

__all__ = ["Control", "Handlers"]

# What a path does, by method, for whoever may do so much.
Handlers = dict[str, Callable[[web.BaseRequest, Grant], Awaitable[web.StreamResponse]]]


class Control:
    """Handlers of aiohttp, and where each is. What is at a path that has none is off."""

    def __init__(self, dialect: GraphPipe, settings: Settings, state: State, counters: Counters) -> None:
        self._dialect = dialect
        self._settings = settings
        self._state = state
        self._metrics = Metrics(counters)
        # Both are given by whoever serves the pages: what compresses them, and what puts on them what every answer bears.
        self.coder: Coder
        self.sign: Callable[[web.BaseRequest, web.StreamResponse], None] = lambda request, response: None

    def pages(self) -> dict[tuple[str, ...], Handlers]:
        """All pages, by the segments of their paths, and what each does by method."""
        # Where keys are asked for, one with the scope for it is enough.
        is_on = self._settings.enable_shutdown or self._settings.api_key_file
        shutdown: Handlers = {"POST": self._shutdown} if is_on else {}
        # The metrics only where no other address has them: that is for whoever may see them.
        metrics = self._metrics_elsewhere if self._settings.metrics_listen else self._metrics_page
        return self.side_pages() | {
            ("metrics",): {"GET": metrics},
            ("control", "is_alive"): {"GET": self._is_alive},
            ("control", "is_ready"): {"GET": self._is_ready},
            ("control", "client_count"): {"GET": self._client_count},
            ("control", "shutdown"): shutdown,
            ("models",): {"GET": self._models},
        }

    def side_pages(self) -> dict[tuple[str, ...], Handlers]:
        """The metrics and the health checks alone, for an address of their own."""
        return {
            ("metrics",): {"GET": self._metrics_page},
            ("livez",): {"GET": self._is_alive},
            ("readyz",): {"GET": self._is_ready},
        }

    async def describe(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        """A model's metadata as JSON, as the original gave it."""
        grant.need("metadata")
        endpoint = grant.endpoint(lambda: self._dialect.served(path_of(request.raw_path)))
        endpoint.service.meter.described(200)
        return _json(_description(endpoint))

    async def _models(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        endpoints = self._dialect.endpoints()
        return _json(
            [_description(each) for each in endpoints if grant.models is None or each.service.name in grant.models]
        )

    async def _is_alive(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        status, text = (200, "ok\n") if self._state.alive else (503, "not alive\n")
        if "verbose" in request.query:
            # Whoever reads this knows as much: the event loop has just written it.
            text = f"event loop: ok\nserver: {'ok' if self._state.alive else 'ending'}\n{text}"
        return _text(status, text)

    async def _is_ready(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        status, text = (200, "ok\n") if self._state.ready else (503, "not ready\n")
        if "verbose" in request.query and "metrics" in grant.scopes:  # it names models
            text = "".join(f"{what}: {how}\n" for what, how in self._state.checks().items()) + text
        return _text(status, text)

    async def _metrics_page(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        async with self._metrics.page() as page:
            headers = {"Content-Type": CONTENT_TYPE}
            parts: Sequence[Segment] = page.parts
            if self.coder.is_asked(request, headers):
                parts = await self.coder.compressed(headers, parts)
            response = web.StreamResponse(headers=headers)
            response.content_length = sum(map(len, parts))
            self.sign(request, response)
            await response.prepare(request)
            for part in parts if request.method != "HEAD" else ():
                # Who does not read would keep the page for ever.
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await response.write(part)
            await response.write_eof()
            return response

    async def _metrics_elsewhere(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        raise NotFound("/metrics has an address of its own on this server (--metrics-listen)")

    async def _client_count(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        return _text(200, f"{self._state.connections()}\n")

    async def _shutdown(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
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
