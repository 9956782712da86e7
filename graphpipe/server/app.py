"""A server from start to end. The only file that wires things together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence

from aiohttp import web

from graphpipe.backends import Model, open_model
from graphpipe.buffers import BufferPool
from graphpipe.server.admission import Admission
from graphpipe.server.front import Front
from graphpipe.server.listener import bind, tls_context, url_of
from graphpipe.server.routes import Routes
from graphpipe.server.service import Service
from graphpipe.server.settings import ModelSettings, Settings, usable_cpus
from graphpipe.server.stages.runner import ModelRunner
from graphpipe.server.state import State

__all__ = ["App", "load_models", "run"]

_BACKLOG = 1024

log = logging.getLogger("graphpipe.server")


def load_models(models: Sequence[ModelSettings]) -> list[tuple[ModelSettings, Model]]:
    """Open every model, in order. Raises LoadError for the first that cannot be."""
    return [(model, open_model(model.source, model.options, model.backend)) for model in models]


def build(models: Sequence[tuple[ModelSettings, Model]]) -> dict[str, Service]:
    """Each model behind its stages."""
    return {
        settings.name: Service.of(
            settings.name,
            model,
            ModelRunner(model, settings.name, settings.threads or usable_cpus()),
            cast=settings.cast,
            ignore_extra_inputs=settings.ignore_extra_inputs,
        )
        for settings, model in models
    }


class App:
    """A server on this event loop: ``start`` it, wait until its ``stop`` is set, ``finish`` it."""

    def __init__(self, models: Sequence[tuple[ModelSettings, Model]], settings: Settings) -> None:
        self.settings = settings
        self.state = State()
        self.stop = asyncio.Event()
        self.state.on_drain = self.stop.set
        self.services = build(models)
        self.pool = BufferPool(settings.in_flight_cap())
        self.admission = Admission(self.pool, settings.body_bytes_max, settings.admission_wait_s)
        self.behind = web.AppRunner(
            Routes(self.services, self.admission, settings, self.state).application(),
            access_log=None,
            logger=_silent_logger(),
            handle_signals=False,
            # A compressed body is refused, and must not be inflated before anybody can say so.
            auto_decompress=False,
            keepalive_timeout=settings.keepalive_timeout_s,
            # What arrives while a connection waits to be closed is thrown away, not read for long.
            lingering_time=1.0,
            shutdown_timeout=settings.drain_timeout_s,
        )

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Listen. From here on requests are welcome."""
        await self.behind.setup()
        behind = self.behind.server
        assert behind is not None
        self.front = Front(self.services, self.admission, self.settings, self.state, behind)
        self.state.connections = lambda: len(self.front.connections) + len(behind.connections)
        loop = asyncio.get_running_loop()
        if listener.family == socket.AF_UNIX:
            self._listening = await loop.create_unix_server(self.front, sock=listener, backlog=_BACKLOG, ssl=tls)
        else:
            self._listening = await loop.create_server(self.front, sock=listener, backlog=_BACKLOG, ssl=tls)
        self.state.started = True

    async def finish(self) -> None:
        """Let no one in any more, answer what is in flight, give everything back."""
        self.state.begin_drain()
        log.info("finishing %d requests", self.state.in_flight)
        self._listening.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.drain_timeout_s
        self.front.drain()
        while self.front.connections and loop.time() < deadline:
            await asyncio.sleep(0.02)
            self.front.drain()
        await self.behind.cleanup()
        self.front.close()
        self.state.alive = False
        for service in self.services.values():
            await loop.run_in_executor(None, service.close)


def run(
    models: Sequence[tuple[ModelSettings, Model]],
    settings: Settings,
    *,
    listener: socket.socket | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and return.

    Raises BindError if the address cannot be listened on, LoadError if the TLS files cannot be used.
    """
    tls = tls_context(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
    listener = listener or bind(settings.listen)

    async def serve() -> None:
        app = App(models, settings)
        for name in (signal.SIGTERM, signal.SIGINT):
            # Not in a thread other than the main one: whoever started it there ends it in another way.
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(name, app.state.begin_drain)
        await app.start(listener, tls)
        on_ready(url_of(listener, tls=tls is not None))
        await app.stop.wait()
        await app.finish()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _silent_logger() -> logging.Logger:
    # aiohttp's own messages hold raw bytes of the request, with a traceback for each stranger's typo or early leave.
    logger = logging.getLogger("graphpipe.aiohttp")
    logger.setLevel(logging.CRITICAL)
    return logger


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
