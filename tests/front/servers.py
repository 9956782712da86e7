"""Servers inside the test's own process, so that a test can look at their connections and buffers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import uvloop
from aiohttp import web

from graphpipe.backends import Model
from graphpipe.backends.echo import Echo
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind, url_of
from graphpipe.server.protocols.protocol import Rpcs
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.signature import Signature, TensorSpec
from tests.raw_http import Wire

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: graphpipe-memory/1\r\n\r\n"


class InProcess:
    """A running App, with the loop that it runs on."""

    def __init__(self, app: App, url: str, loop: asyncio.AbstractEventLoop, grpc_url: str = "") -> None:
        self.app = app
        self.url = url
        self.loop = loop
        self.grpc_url = grpc_url
        self.passing = False  # whether a test is to speak to it by connections that pass memory

    def ask(self, question: Callable[[], Any]) -> Any:
        """What ``question`` answers on the server's own loop."""

        async def put() -> Any:
            return question()

        return asyncio.run_coroutine_threadsafe(put(), self.loop).result(10)

    def pass_time(self, ticks: int = 3) -> None:
        """Have ticks of the server's clock now, one after another: by them it notices who is gone."""
        hub = self.app.hub

        def tick() -> None:
            hub._sweeper.cancel()
            hub._sweep()

        for _ in range(ticks):
            self.ask(tick)
            time.sleep(0.01)  # what it does by one may have an answer before the next


@dataclass(frozen=True)
class Way:
    """A way in: a server, and how one speaks to it."""

    server: InProcess
    tls: ssl.SSLContext | None = None
    passing: bool = False  # a connection by which memory can be passed

    def wire(self) -> Wire:
        wire = Wire(self.server.url, 10, self.tls)
        if self.passing:
            wire.send(UPGRADE)
            assert wire.answer().status == 101
        return wire


@contextlib.contextmanager
def in_process(
    models: Mapping[str, Model] | None = None,
    *,
    plain: bool = False,
    listen: str = "127.0.0.1:0",
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    threads: int = 2,
    tls: Any = None,
    model_settings: Mapping[str, Any] | None = None,
    rpcs: Callable[[App], Mapping[str, Rpcs]] | None = None,
    grpc_listen: str = "",
    **settings: Any,
) -> Iterator[InProcess]:
    """An App on a thread of its own; with ``plain`` the same one without the front: aiohttp alone at the socket. ``rpcs``
    are services of gRPC beside those that it has.
    """
    ready: threading.Event = threading.Event()
    running: list[InProcess] = []
    grpc_url: list[str] = []
    failed: list[BaseException] = []

    async def main() -> None:
        app = App(
            [
                (ModelSettings(name, "", threads=threads, warmup=0, **(model_settings or {})), model)
                for name, model in (models or {"echo": Echo()}).items()
            ],
            replace(Settings(drain_grace_s=0.0), **settings),
        )
        listener = bind(listen)
        if plain:
            await app.behind.setup()
            await web.SockSite(app.behind, listener).start()
            app.state.started = True
        else:
            if rpcs is not None:
                app.dialects.rpcs |= rpcs(app)
            grpc = bind(grpc_listen) if grpc_listen else None
            await app.start(listener, tls, None, grpc)
            if grpc is not None:
                grpc_url.append(url_of(grpc))
        running.append(InProcess(app, url_of(listener, tls=tls is not None), asyncio.get_running_loop(), *grpc_url))
        ready.set()
        await app.stop.wait()
        if plain:
            await app.behind.cleanup()
        else:
            await app.finish()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    assert ready.wait(30)
    try:
        if not failed:
            yield running[0]
    finally:
        if running:
            with contextlib.suppress(RuntimeError):  # a test may have ended it
                running[0].loop.call_soon_threadsafe(running[0].app.state.begin_drain)
        thread.join(60)
    if failed:
        raise failed[0]


class Function:
    """A model made of a function, for tests."""

    def __init__(self, call: Callable[[Mapping[str, Any]], Mapping[str, Any]], quick: bool = False) -> None:
        self._call = call
        self.quick = quick
        self.signature = Signature((TensorSpec("x"),), (TensorSpec("y"),))

    def infer(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Any]:
        return dict(self._call(inputs))

    def close(self) -> None:
        pass
