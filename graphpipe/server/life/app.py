"""A server on one event loop: it listens, serves, drains and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiohttp import web

from graphpipe.backends import Model
from graphpipe.backends.find import loading
from graphpipe.buffers import BufferPool
from graphpipe.errors import LoadError
from graphpipe.machine import resident_bytes
from graphpipe.memory.rights import take_none
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.control import Control
from graphpipe.server.http.hub import Hub
from graphpipe.server.http.keys import Keys
from graphpipe.server.http.odd import Odd
from graphpipe.server.http.tls import TlsContext
from graphpipe.server.life.events import Loaded
from graphpipe.server.life.warmup import prove, warm_up
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.models.wiring import build
from graphpipe.server.numbers.accesslog import AccessLog
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.protocols.dialects import Dialects
from graphpipe.server.quotas.quotas import Quotas
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.server.stages.causes import Causes
from graphpipe.server.state import State
from graphpipe.words import counted, first_line

if TYPE_CHECKING:
    from graphpipe.server.http.grpc import Calls

__all__ = ["App"]

T = TypeVar("T")

_BACKLOG = 1024
_LINGER_S = 0.3

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
        # What lies in segments reaches a model in another process without a copy.
        is_shared = any(getattr(model, "shares_segments", False) for _, model in models)
        self.pool = BufferPool(settings.in_flight_cap(), shared=is_shared)
        self.admission = Admission(self.pool, settings.body_bytes_max, settings.admission_wait_s)
        causes = Causes(settings.log_values, settings.debug)
        services = build(models, self.counters, lambda: self.admission.is_full, causes)
        self.directory = Directory(services, let_go=_close_aside)
        self.dialects = Dialects.of(settings, self.directory, self.state, self.counters, self.pool)
        if settings.grpc_listen and not self.dialects.rpcs:
            raise LoadError("--grpc-listen is an address for gRPC, and --protocols leaves that out")
        for service in self.directory:
            with loading(f"model {service.name!r}"):  # it is asked what it takes
                self.dialects.graphpipe.endpoint_of(service)
        self.access_log = AccessLog(settings.access_lines_per_s)
        self._warmups = {model.name: model.warmup for model, _ in models}
        control = Control(self.dialects.graphpipe, settings, self.state, self.counters)
        self.keys = Keys(settings.api_key_file, self.counters) if settings.api_key_file else None
        limits = settings.caller_limits()
        self.quotas = Quotas(limits) if limits else None
        shared = self.admission, settings, self.state, self.counters, self.access_log
        self._odd = Odd(self.dialects, control, *shared, self.keys, self.quotas)
        self.behind = web.ServerRunner(self._odd.server(), shutdown_timeout=settings.drain_timeout_s)
        self._side: web.ServerRunner | None = None
        self._doors: list[_Door] = []
        self._calls: Calls | None = None
        self.on_loaded: Callable[[Loaded], None] = lambda loaded: None
        self.on_memory_limit: Callable[[], None] | None = None
        self._ask_again = 0
        # What is to look for changes at each tick.
        self.looks: list[Callable[[], None]] = []

    async def start(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None = None,
        side: socket.socket | None = None,
        grpc: socket.socket | None = None,
        grpc_tls: ssl.SSLContext | None = None,
    ) -> None:
        """Warm the models up, then listen: from here on requests are welcome. ``side`` is for metrics and health, ``grpc``
        for callers of gRPC alone, who are welcome at ``listener`` too; its TLS is ``grpc_tls``, else the other's.

        Raises LoadError for a model that fails its own test.
        """
        for service in self.directory.models:
            began = perf_counter()
            why = await in_thread(warm_up, service.model, self._warmups[service.name])
            if why:
                # Of a pipeline, what is behind a stage that refuses what is made up: no text is a picture.
                for part in service.parts:
                    await in_thread(warm_up, part.model, self._warmups[service.name])
            try:
                await in_thread(prove, service.model, service.name)
            except LoadError:
                await self._close_services()
                raise
            seconds = self._load_seconds.get(service.name, 0.0) + perf_counter() - began
            service.meter.gauge("graphpipe_model_load_seconds", seconds)
            if why:
                self.state.cold[service.name] = why
            self.on_loaded(Loaded.of(service, seconds, why))
        await self.behind.setup()
        behind = self.behind.server
        assert behind is not None
        shared = self.admission, self.settings, self.state, self.counters, self.access_log
        self.hub = Hub(self.dialects, *shared, behind, self.keys, self.quotas)
        self.hub.on_tick = self._tick
        if self.keys is not None:
            self.keys.on_change.append(self.hub.forget_heads)
            self.keys.watch()
        self.directory.on_change.append(self.hub.forget_heads)
        self.state.connections = lambda: len(self.hub.connections) + len(behind.connections)
        h2 = self._speak_grpc(tls) if self.dialects.rpcs else None
        await self._listen(listener, tls, self.hub)
        if grpc is not None and h2 is not None:
            await self._listen(grpc, grpc_tls or tls, h2)
        if side is not None:
            self._side = web.ServerRunner(self._odd.side_server(), shutdown_timeout=self.settings.drain_timeout_s)
            await self._side.setup()
            await web.SockSite(self._side, side).start()
        memory = resident_bytes()
        if memory > (self.settings.memory_limit_bytes or memory):
            # A fresh one would be no better.
            log.warning("%d bytes are in use before the first request; --memory-limit-bytes cannot hold", memory)
            self.on_memory_limit = None
        self.state.started = True

    def _speak_grpc(self, tls: ssl.SSLContext | None) -> Callable[[], asyncio.BaseProtocol]:
        from graphpipe.server.http.grpc import Calls  # they take a library that is not everywhere
        from graphpipe.server.http.h2 import H2Connection

        if isinstance(tls, TlsContext):
            # Who speaks both is no caller of gRPC, and may ask for anything; who is one speaks HTTP/2 alone.
            tls.offer("http/1.1", "h2")
        self._calls = Calls(self.dialects.rpcs, self.admission, self.settings, self.hub.exchange, self.keys)
        self.hub.h2 = factory = partial(H2Connection, self.hub, self._calls.begin)
        return factory

    async def _listen(
        self, listener: socket.socket, tls: ssl.SSLContext | None, factory: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        loop = asyncio.get_running_loop()
        take_none(listener)
        options: dict[str, Any] = {"ssl": tls}
        if tls is not None:
            options["ssl_handshake_timeout"] = self.settings.head_timeout_s
        create = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        listening = await create(factory, sock=listener, backlog=_BACKLOG, **options)
        self._doors.append(_Door(listener, listening, factory, options))

    async def start_unless_stopped(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None = None,
        side: socket.socket | None = None,
        grpc: socket.socket | None = None,
        grpc_tls: ssl.SSLContext | None = None,
    ) -> bool:
        """The same, but given up when told to end meanwhile: warming up may take for ever."""
        start = asyncio.create_task(self.start(listener, tls, side, grpc, grpc_tls))
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
        try:
            await self._finish()
        finally:
            self._odd.close()
            if self._calls is not None:
                self._calls.close()
            if self.keys is not None:
                self.keys.close()
            self._next_second()

    async def _finish(self) -> None:
        drain = asyncio.create_task(self._drain())
        cut = asyncio.create_task(self._cut.wait())
        await asyncio.wait({drain, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if drain.done():
            drain.result()
            return
        drain.cancel()
        if self.state.in_flight:
            log.warning("cutting %s in flight: told to end at once", counted(self.state.in_flight, "request"))
        if self.state.started:
            for door in self._doors:
                door.listening.close()
            self.hub.close()
        for transport in self._transports_behind():
            transport.abort()

    def _transports_behind(self) -> list[asyncio.Transport]:
        """Those of the connections that aiohttp has."""
        servers = [runner.server for runner in (self.behind, self._side) if runner is not None]
        connections = [connection for server in servers if server is not None for connection in server.connections]
        return [connection.transport for connection in connections if connection.transport is not None]

    async def _drain(self) -> None:
        """Answer on for the grace, let no one in any more, finish what is in flight, give everything back.

        All the while the answers say ``Connection: close``, so that callers who come back go elsewhere.
        """
        state, settings = self.state, self.settings
        state.draining = True
        if not state.started:
            await self._close_services()
            return
        await self._wait(settings.drain_grace_s, lambda: False)
        await self._stop_listening()
        # Connections that were accepted a moment ago, and have said nothing yet, are about to.
        self.hub.drain(_LINGER_S)
        await self._wait(_LINGER_S, lambda: not self.hub.connections)

        def gone() -> bool:
            self.hub.drain()
            return not self.hub.connections

        began = asyncio.get_running_loop().time()
        await self._wait(settings.drain_timeout_s, gone)
        if left_over := len(self.hub.connections):
            what = f"cutting {counted(left_over, 'connection')}, busy for longer than"
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

    async def _stop_listening(self) -> None:
        """Let nobody in any more. Whom the kernel has connected, and nobody has accepted, would be reset, with the request
        that he may have sent: they come in yet.
        """
        let_in = asyncio.get_running_loop().connect_accepted_socket
        entering = [
            asyncio.ensure_future(let_in(door.factory, each, **door.options))
            for door in self._doors
            for each in door.close()
        ]
        # Side by side: one who says nothing of TLS keeps neither the others nor the end waiting.
        for entered in (await asyncio.wait(entering, timeout=_LINGER_S))[0] if entering else ():
            entered.exception()  # he has left: nobody needs to hear of it
        for entered in entering:
            entered.cancel()

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
        """Twice a second: say how things are, and look for what has changed."""
        for look in self.looks:
            look()
        counters = self.counters
        counters.gauge("graphpipe_connections", self.state.connections())
        counters.gauge("graphpipe_in_flight_requests", self.state.in_flight)
        counters.gauge("graphpipe_in_flight_bytes", self.admission.held_bytes)
        counters.gauge("graphpipe_buffer_pool_idle_bytes", self.pool.idle_bytes)
        self._odd.readers.look(self._transports_behind(), asyncio.get_running_loop().time())
        memory = resident_bytes()
        counters.gauge("graphpipe_memory_bytes", memory)
        over = memory > (self.settings.memory_limit_bytes or memory)
        if over and self.on_memory_limit is not None and self.hub.tick >= self._ask_again:
            self._ask_again = self.hub.tick + 20  # the replacement may have failed
            self.on_memory_limit()
        counters.publish()
        if self.hub.tick % 2 == 0:
            self._next_second()

    def _next_second(self) -> None:
        """Say and count what the log left out."""
        self.access_log.next_second()
        self.counters.meter("").add("graphpipe_log_lines_left_out", FAILURES.next_second())


@dataclass(frozen=True, slots=True)
class _Door:
    """An address, and who is let in there."""

    listener: socket.socket
    listening: asyncio.Server
    factory: Callable[[], asyncio.BaseProtocol]
    options: Mapping[str, Any]

    def close(self) -> list[socket.socket]:
        """Listen no more. Those whom the kernel has connected and nobody has accepted."""
        last = self.listener.dup()
        last.setblocking(False)
        self.listening.close()
        waiting = []
        try:
            while True:
                waiting.append(last.accept()[0])
        except OSError:
            last.close()  # at once: who connects between that look and this is lost
        return waiting


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
