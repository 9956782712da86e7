"""A server from start to end: it listens, serves, drains and ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar, cast

from aiohttp import web

from graphpipe.backends import Model
from graphpipe.backends.find import loading
from graphpipe.buffers import BufferPool
from graphpipe.errors import LoadError, NotReady
from graphpipe.machine import resident_bytes
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.control import Control
from graphpipe.server.http.hub import Hub
from graphpipe.server.http.odd import Odd
from graphpipe.server.life.ending import cut_at_exit
from graphpipe.server.life.listener import bind, tls_context, url_of
from graphpipe.server.life.supervisor import NoWorker, supervise
from graphpipe.server.life.warmup import warm_up
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.models.wiring import build, load_models
from graphpipe.server.numbers.accesslog import AccessLog
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.graphpipe import GraphPipe
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.server.state import State
from graphpipe.signals import ENDING, before_the_end, restored
from graphpipe.words import first_line

__all__ = ["App", "NoWorker", "Part", "Server"]

T = TypeVar("T")

_BACKLOG = 1024
_LINGER_S = 0.3

_SIGNALS = dict.fromkeys(ENDING, State.on_signal)
# A supervisor's: the first drains, and the other, which is its alone, ends at once.
_SIGNALS_OF_A_WORKER = {signal.SIGTERM: State.begin_drain, signal.SIGQUIT: State.cut}

log = logging.getLogger("graphpipe.server")


class App:
    """A server on this event loop: ``start`` it, wait until its ``stop`` is set, ``finish`` it."""

    def __init__(
        self,
        models: Sequence[tuple[ModelSettings, Model]],
        settings: Settings,
        counters: Counters | None = None,
        load_seconds: Mapping[str, float] | None = None,
    ) -> None:
        self.settings = settings
        self._load_seconds = load_seconds or {}
        self.state = State()
        self.stop = asyncio.Event()
        self.state.on_drain = self.stop.set
        self._cut = asyncio.Event()
        self.state.on_cut = self._cut.set
        self.counters = counters or Counters([model.name for model, _ in models])
        self.state.workers = lambda: (self.counters.workers_live, self.counters.workers_wanted)
        self.directory = Directory(build(models, self.counters), let_go=_close_aside)
        self.dialect = GraphPipe(self.directory)
        for service in self.directory:
            with loading(f"model {service.name!r}"):  # it is asked what it takes
                self.dialect.endpoint_of(service)
        self.pool = BufferPool(settings.in_flight_cap())
        self.admission = Admission(self.pool, settings.body_bytes_max, settings.admission_wait_s)
        self.access_log = AccessLog(settings.access_lines_per_s)
        self._warmups = {model.name: model.warmup for model, _ in models}
        control = Control(self.dialect, settings, self.state, self.counters)
        self._odd = Odd(self.dialect, control, self.admission, settings, self.state, self.counters, self.access_log)
        self.behind = self._runner(self._odd.application())
        self._side: web.AppRunner | None = None
        self.on_memory_limit: Callable[[], None] | None = None
        self._ask_again = 0

    def _runner(self, application: web.Application) -> web.AppRunner:
        return web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            # Who hangs up takes the work along that was under way for it.
            handler_cancellation=True,
            # A compressed body is refused, and must not be inflated before anybody can say so.
            auto_decompress=False,
            keepalive_timeout=self.settings.keepalive_timeout_s,
            # What arrives while a connection waits to be closed is thrown away, not read for long.
            lingering_time=1.0,
            shutdown_timeout=self.settings.drain_timeout_s,
        )

    async def start(
        self, listener: socket.socket, tls: ssl.SSLContext | None = None, side: socket.socket | None = None
    ) -> None:
        """Warm the models up, then listen: from here on requests are welcome. ``side`` is for metrics and health."""
        loop = asyncio.get_running_loop()
        for service in self.directory:
            began = perf_counter()
            await in_thread(warm_up, service.model, service.name, self._warmups[service.name])
            seconds = self._load_seconds.get(service.name, 0.0) + perf_counter() - began
            service.meter.gauge("graphpipe_model_load_seconds", seconds)
        await self.behind.setup()
        behind = self.behind.server
        assert behind is not None
        self.hub = Hub(self.dialect, self.admission, self.settings, self.state, self.counters, self.access_log, behind)
        self.hub.on_tick = self._tick
        self.directory.on_change.append(self.hub.forget_heads)
        self.state.connections = lambda: len(self.hub.connections) + len(behind.connections)
        if listener.family == socket.AF_UNIX:
            self._listening = await loop.create_unix_server(self.hub, sock=listener, backlog=_BACKLOG, ssl=tls)
        else:
            self._listening = await loop.create_server(self.hub, sock=listener, backlog=_BACKLOG, ssl=tls)
        if side is not None:
            self._side = self._runner(self._odd.side_application())
            await self._side.setup()
            await web.SockSite(self._side, side).start()
        memory = resident_bytes()
        if memory > (self.settings.memory_limit_bytes or memory):
            # A fresh one would be no better.
            log.warning("%d bytes are in use before the first request; --memory-limit-bytes cannot hold", memory)
            self.on_memory_limit = None
        self.state.started = True

    async def start_unless_stopped(
        self, listener: socket.socket, tls: ssl.SSLContext | None = None, side: socket.socket | None = None
    ) -> bool:
        """The same, but given up when told to end meanwhile: warming up may take for ever."""
        start = asyncio.create_task(self.start(listener, tls, side))
        stop = asyncio.create_task(self.stop.wait())
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not start.done():
            start.cancel()
            return False
        start.result()
        return True

    async def finish(self) -> None:
        """Drain, or end at once as soon as that is said."""
        drain = asyncio.create_task(self._drain())
        cut = asyncio.create_task(self._cut.wait())
        await asyncio.wait({drain, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if drain.done():
            drain.result()
            return
        drain.cancel()
        log.warning("%d requests in flight are cut: told to end at once", self.state.in_flight)
        if self.state.started:
            self._listening.close()
            self.hub.close()
        for runner in (self.behind, self._side):
            for connection in runner.server.connections if runner is not None and runner.server is not None else ():
                if connection.transport is not None:
                    connection.transport.abort()

    async def _drain(self) -> None:
        """Answer on for the grace, let no one in any more, finish what is in flight, give everything back.

        All the while the answers say ``Connection: close``, so that callers who come back go elsewhere.
        """
        state, settings = self.state, self.settings
        state.draining = True
        log.info("draining: %d requests in flight", state.in_flight)
        if not state.started:
            await self._close_services()
            return
        await self._wait(settings.drain_grace_s, lambda: False)
        self._listening.close()
        # Connections that were accepted a moment ago, and have said nothing yet, are about to.
        self.hub.drain(_LINGER_S)
        await self._wait(_LINGER_S, lambda: not self.hub.connections)

        def gone() -> bool:
            self.hub.drain()
            return not self.hub.connections

        began = asyncio.get_running_loop().time()
        await self._wait(settings.drain_timeout_s, gone)
        if left_over := len(self.hub.connections):
            what = f"{left_over} connections are cut: their requests took longer than"
            log.warning("%s %g s (--drain-timeout-s)", what, settings.drain_timeout_s)
        self.hub.close()
        # Connections that aiohttp has taken over have been draining all the while: they get what is left of the time.
        left = max(0.1, settings.drain_timeout_s - (asyncio.get_running_loop().time() - began))
        for runner in (self.behind, self._side):
            if runner is not None:
                runner._shutdown_timeout = left
                await runner.cleanup()
        state.alive = False
        await self._close_services()

    async def _close_services(self) -> None:
        for service in self.directory:
            await in_thread(service.close)

    async def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Looked at now and then: nobody announces the end of the last connection.
        while not done() and loop.time() < deadline:
            await asyncio.sleep(0.02)

    def _tick(self) -> None:
        """Twice a second: say how things are."""
        counters = self.counters
        counters.gauge("graphpipe_connections", self.state.connections())
        counters.gauge("graphpipe_in_flight_requests", self.state.in_flight)
        counters.gauge("graphpipe_in_flight_bytes", self.pool.leased_bytes)
        counters.gauge("graphpipe_buffer_pool_idle_bytes", self.pool.idle_bytes)
        memory = resident_bytes()
        counters.gauge("graphpipe_memory_bytes", memory)
        over = memory > (self.settings.memory_limit_bytes or memory)
        if over and self.on_memory_limit is not None and self.hub.tick >= self._ask_again:
            self._ask_again = self.hub.tick + 20  # the replacement may have failed
            self.on_memory_limit()
        counters.publish()
        if self.hub.tick % 2 == 0:
            self.access_log.next_second()


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker has from its supervisor: sockets that are bound, its row in the counters, a way to say how it is."""

    listener: socket.socket
    side: socket.socket | None
    counters: Counters
    say: Callable[[str], None]


class Server:
    """Models at an address, from start to end, the same behind every door.

    ``run`` serves in this thread until somebody says that it is enough, as a command does; ``start`` serves in a thread of
    its own, until ``stop``. A model that is None is loaded from its source. Where the settings ask for workers, processes
    of their own serve, and load every model themselves. ``part`` is what such a process has got. A server serves once.
    """

    def __init__(
        self,
        models: Sequence[tuple[ModelSettings, Model | None]],
        settings: Settings,
        on_ready: Callable[[str], object] = lambda url: None,
        part: Part | None = None,
    ) -> None:
        self.models = models
        self.settings = settings
        self.url = ""
        self._on_ready = on_ready
        self._part = part
        self._thread: threading.Thread | None = None
        self._ready: Future[str] = Future()
        self._told = threading.Event()
        self._end: Callable[[], object] = lambda: None

    def run(self) -> signal.Signals | None:
        """Serve until SIGTERM, SIGINT or ``stop``, then finish what is in flight: the signal, if nothing was served yet.

        Raises BindError if an address cannot be listened on or the TLS files cannot be used, LoadError if a model cannot be
        loaded, NoWorker.
        """
        settings = self.settings
        tls = tls_context(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        with contextlib.ExitStack() as stack:
            # The address first: loading a large model only to find it taken is a waste of somebody's minutes.
            listener, side = self._addresses(stack)
            if settings.in_workers and self._part is None:
                # Before any framework is loaded: a fork after one has run hangs, and workers are fresh processes anyway.
                told = [self._for_workers(model, loaded) for model, loaded in self.models]
                return supervise(told, settings, listener, side, tls, self._is_ready, self._is_running)
            seconds: dict[str, float] = {}
            to_load = [model for model, loaded in self.models if loaded is None]
            opened = {model.name: loaded for model, loaded in load_models(to_load, seconds)}
            if to_load and self._thread is None:
                # Frameworks are some 100,000 objects that stay. A full garbage collection would look at all of them, and
                # stop every answer meanwhile: 50 ms with ONNX Runtime, 170 with PyTorch, 250 with TensorFlow.
                gc.collect()
                gc.freeze()
            models = [(model, opened[model.name] if loaded is None else loaded) for model, loaded in self.models]
            # The loop would leave its handlers behind.
            stack.enter_context(restored(_SIGNALS if self._part is None else _SIGNALS_OF_A_WORKER))
            runner = stack.enter_context(asyncio.Runner(loop_factory=_loop_factory()))
            return runner.run(self._serve(models, seconds, listener, side, tls))

    def start(self) -> str:
        """Serve in a thread of its own, and give the URL once requests are welcome. Raises what ``run`` does."""
        self._thread = threading.Thread(target=self._run_aside, name="graphpipe server", daemon=True)
        self._thread.start()
        try:
            return self._ready.result()
        except KeyboardInterrupt:
            self._tell()
            raise

    def stop(self) -> None:
        """Finish what is in flight, and end. Returns when it is over; said again, it changes nothing."""
        self._tell()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _tell(self) -> None:
        self._told.set()
        self._end()

    def _is_running(self, end: Callable[[], object]) -> None:
        """Called on the loop, with what ends it."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # it is closed: all is over
                loop.call_soon_threadsafe(end)

        self._end = tell
        if self._told.is_set():
            end()

    def _is_ready(self, url: str) -> None:
        self.url = url
        self._on_ready(url)
        if not self._ready.done():
            self._ready.set_result(url)

    def _run_aside(self) -> None:
        try:
            self.run()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        else:
            if not self._ready.done():
                self._ready.set_exception(NotReady("the server was told to end before it was ready"))

    def _addresses(self, stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket | None]:
        """The sockets to listen on, bound, for callers and for metrics. They are closed with the stack."""
        if self._part is not None:
            for inherited in (self._part.listener, self._part.side):
                if inherited is not None:
                    stack.enter_context(inherited)
            return self._part.listener, self._part.side
        addresses = [self.settings.listen, *([self.settings.metrics_listen] if self.settings.metrics_listen else [])]
        bound = []
        for address in addresses:
            bound.append(stack.enter_context(bind(address)))
            stack.enter_context(before_the_end(bound[-1].close))
        return bound[0], bound[1] if len(bound) > 1 else None

    def _for_workers(self, model: ModelSettings, loaded: Model | None) -> ModelSettings:
        if loaded is not None and not model.source:
            raise LoadError(
                f"model {model.name!r} is in this process only, and workers (workers, memory_limit_bytes) are others: "
                "serve what they can load, a file, a URL or module:function"
            )
        return model

    async def _serve(
        self,
        models: Sequence[tuple[ModelSettings, Model]],
        load_seconds: Mapping[str, float],
        listener: socket.socket,
        side: socket.socket | None,
        tls: ssl.SSLContext | None,
    ) -> signal.Signals | None:
        loop, part = asyncio.get_running_loop(), self._part
        loop.set_exception_handler(_on_trouble)
        app = App(models, self.settings, part.counters if part else None, load_seconds)
        app.state.on_shutdown = app.state.begin_drain
        on_signals: Mapping[signal.Signals, Callable[[State], None]] = _SIGNALS
        if part is not None:
            app.on_memory_limit = lambda: part.say("recycle")
            app.state.on_shutdown = lambda: part.say("shutdown")
            on_signals = _SIGNALS_OF_A_WORKER
        came: list[signal.Signals] = []

        def on_signal(name: signal.Signals) -> None:
            came.append(name)
            on_signals[name](app.state)

        for name in on_signals:
            # Not in a thread other than the main one: whoever started it there ends it in another way.
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(name, on_signal, name)
        self._is_running(app.state.begin_drain)
        with cut_at_exit(app.state.cut):
            if not self._told.is_set() and await app.start_unless_stopped(listener, tls, side):
                self._is_ready(url_of(listener, tls=tls is not None))
                await app.stop.wait()
            await app.finish()
        return came[0] if came and not app.state.started else None


def _close_aside(service: Service) -> None:
    """Close a service that nobody uses any more: its model may take its time."""
    threading.Thread(target=service.close, name=f"closing {service.name}", daemon=True).start()


async def in_thread(call: Callable[..., T], *arguments: object) -> T:
    """What a blocking call gives, from a thread that does not hold up the end of the process if it never returns."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def work() -> None:
        result, error = None, None
        try:
            result = call(*arguments)
        except Exception as raised:
            error = raised
        except BaseException as raised:  # a future cannot tell it without ending the loop
            error = RuntimeError(f"{type(raised).__name__}: {first_line(raised)}")
        if isinstance(error, StopIteration):  # nor this one
            error = RuntimeError("StopIteration")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await future


def _on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # The loop's own handler would write out futures with their results, and exceptions with their words.
    log.error("%s", context.get("message"), exc_info=context.get("exception"))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
