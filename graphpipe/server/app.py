"""A server from start to end. The only file that wires things together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from aiohttp import web

from graphpipe.backends import LoadOptions, Model, open_model
from graphpipe.buffers import BufferPool
from graphpipe.server.admission import Admission
from graphpipe.server.front import Front
from graphpipe.server.listener import bind, url_of
from graphpipe.server.routes import Routes
from graphpipe.server.service import Service
from graphpipe.server.settings import ModelSettings, Settings, usable_cpus
from graphpipe.server.stages.runner import ModelRunner
from graphpipe.server.state import State

__all__ = ["load_models", "run"]

log = logging.getLogger("graphpipe.server")


def load_models(models: Sequence[ModelSettings]) -> list[tuple[ModelSettings, Model]]:
    """Open every model, in order. Raises LoadError for the first that cannot be."""
    return [(model, open_model(model.source, _one_thread(model.options), model.backend)) for model in models]


def _one_thread(options: LoadOptions) -> LoadOptions:
    # Several calls run at once here: one thread each, unless told otherwise.
    return replace(options, intra_threads=options.intra_threads or 1)


def build(models: Sequence[tuple[ModelSettings, Model]]) -> dict[str, Service]:
    """Each model behind its stages."""
    return {
        settings.name: Service.of(
            settings.name,
            model,
            ModelRunner(model, settings.name, settings.threads or getattr(model, "threads", 0) or usable_cpus()),
            cast=settings.cast,
            ignore_extra_inputs=settings.ignore_extra_inputs,
        )
        for settings, model in models
    }


def run(
    models: Sequence[tuple[ModelSettings, Model]],
    settings: Settings,
    *,
    listener: socket.socket | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and return.

    Raises BindError if the address cannot be listened on.
    """
    listener = listener or bind(settings.listen)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(models, settings, listener, on_ready))


async def _serve(
    models: Sequence[tuple[ModelSettings, Model]],
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    state, stop = State(), asyncio.Event()
    state.on_drain = stop.set
    services = build(models)
    pool = BufferPool(settings.in_flight_cap())
    admission = Admission(pool, settings.body_bytes_max, settings.admission_wait_s)
    app = web.AppRunner(
        Routes(services, admission, settings, state).application(),
        access_log=None,
        handle_signals=False,
        # A compressed body is refused, and must not be inflated before anybody can say so.
        auto_decompress=False,
        keepalive_timeout=settings.keepalive_timeout_s,
        # What arrives while a connection waits to be closed is thrown away, not read for long.
        lingering_time=1.0,
        shutdown_timeout=settings.drain_timeout_s,
    )
    await app.setup()
    assert app.server is not None
    server = app.server
    for name in (signal.SIGTERM, signal.SIGINT):
        # Not in a thread other than the main one: the caller ends it otherwise.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(name, state.begin_drain)
    front = Front(services, admission, settings, state, server)
    state.connections = lambda: len(front.connections) + len(server.connections)
    sockets = await _listen(front, listener)
    state.started = True
    on_ready(url_of(listener))
    await stop.wait()
    log.info("finishing %d requests", state.in_flight)
    sockets.close()
    front.drain()
    deadline = loop.time() + settings.drain_timeout_s
    while front.connections and loop.time() < deadline:
        await asyncio.sleep(0.02)
        front.drain()
    await app.cleanup()
    front.close()
    state.alive = False
    for service in services.values():
        await loop.run_in_executor(None, service.close)


async def _listen(front: Front, listener: socket.socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        return await loop.create_unix_server(front, sock=listener, backlog=1024)
    return await loop.create_server(front, sock=listener, backlog=1024)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
