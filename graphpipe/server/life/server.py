"""A server from start to end, the same behind every door: a command, a call in Python, a worker."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphpipe.backends import Model
from graphpipe.errors import LoadError, NotReady
from graphpipe.server.http.keys import check_key_file
from graphpipe.server.life.certificates import Certificates
from graphpipe.server.life.ending import cut_at_exit
from graphpipe.server.life.events import SIGNALS, Events
from graphpipe.server.life.listener import bind, reach_of, url_of
from graphpipe.server.life.notify import Notifier
from graphpipe.server.life.supervisor import NoWorker, supervise
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.server.state import State
from graphpipe.signals import ENDING, RELOAD, before_the_end, is_free, restored

if TYPE_CHECKING:
    from graphpipe.server.life.app import App

__all__ = ["NoWorker", "Part", "Server"]

log = logging.getLogger("graphpipe.server")

_SIGNALS = dict.fromkeys(ENDING, State.on_signal)
# A supervisor's: the first drains, and the other, which is its alone, ends at once.
_SIGNALS_OF_A_WORKER = {signal.SIGTERM: State.begin_drain, signal.SIGQUIT: State.cut}


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker has from its supervisor: sockets that are bound, its row in the counters, a way to say how it is."""

    listener: socket.socket
    side: socket.socket | None
    grpc: socket.socket | None
    counters: Counters
    say: Callable[[str], None]


class Server:
    """Models at an address, from start to end, the same behind every door.

    ``run`` serves in this thread until somebody says that it is enough, as a command does; ``start`` serves in a thread of
    its own, until ``stop``. A model that is None is loaded from its source. Where the settings ask for workers, or one is
    asked for (``apart``), processes of their own serve, and load every model themselves. ``part`` is what such a process
    has got. ``on_failure`` is told, once, of each reason for which a worker cannot start; without it that is in what is
    raised, and in the log where others serve. A server serves once.
    """

    def __init__(
        self,
        models: Sequence[tuple[ModelSettings, Model | None]],
        settings: Settings,
        on_ready: Callable[[str], object] = lambda url: None,
        part: Part | None = None,
        apart: bool = False,
        notifier: Notifier | None = None,
        on_failure: Callable[[str], object] | None = None,
    ) -> None:
        self.models = models
        self.settings = settings
        self.url = ""
        self._on_ready = on_ready
        self._part = part
        self._on_failure = on_failure
        self._apart = apart or settings.in_workers
        self._notifier = notifier or Notifier()
        self._events = Events(settings, self._notifier)
        self._metrics_url = self._grpc_url = ""
        self._reach = ""
        self._thread: threading.Thread | None = None
        self._ready: Future[str] = Future()
        self._told = threading.Event()
        self._end: Callable[[], object] = lambda: None

    def run(self) -> signal.Signals | None:
        """Serve until SIGTERM, SIGINT or ``stop``, then finish what is in flight: the signal, if nothing was served yet.

        Raises BindError if an address cannot be listened on or the TLS files cannot be used, LoadError if a model or
        the file of keys cannot be loaded, NoWorker.
        """
        settings = self.settings
        tls = Certificates.of(settings, is_told=self._part is None)
        if settings.api_key_file and self._part is None:
            check_key_file(settings.api_key_file)
        with contextlib.ExitStack() as stack:
            # The address first: loading a large model only to find it taken is a waste of somebody's minutes.
            listener, side, grpc = self._addresses(stack)
            self._metrics_url = url_of(side) if side is not None else ""
            self._grpc_url = url_of(grpc, tls=tls is not None) if grpc is not None else ""
            self._reach = reach_of(listener)
            if self._apart and self._part is None:
                # Before any framework is loaded: a fork after one has run hangs, and workers are fresh processes anyway.
                told = [self._for_workers(model, loaded) for model, loaded in self.models]
                ways = self._is_ready, self._is_running, self._on_failure
                return supervise(told, settings, listener, side, grpc, tls, self._events, *ways)
            # Not before: who watches workers needs nothing of it. And not later than what is loaded.
            from graphpipe.server.life.app import App
            from graphpipe.server.models.wiring import load_models

            seconds: dict[str, float] = {}
            to_load = [model for model, loaded in self.models if loaded is None]
            opened = {model.name: loaded for model, loaded in load_models(to_load, seconds)}
            if to_load and self._thread is None:
                # Frameworks are some 100,000 objects that stay, and what serves 18,000. A full garbage collection would look
                # at all of them, and stop every answer meanwhile: 50 ms with ONNX Runtime, 170 with PyTorch, 250 with
                # TensorFlow.
                gc.collect()
                gc.freeze()
            models = [(model, opened[model.name] if loaded is None else loaded) for model, loaded in self.models]
            # The loop would leave its handlers behind.
            ending = _SIGNALS if self._part is None else _SIGNALS_OF_A_WORKER
            stack.enter_context(restored((*ending, *filter(is_free, RELOAD))))
            runner = stack.enter_context(asyncio.Runner(loop_factory=_loop_factory()))
            return runner.run(self._serve(App, models, seconds, listener, side, grpc, tls))

    def start(self) -> str:
        """Serve in a thread of its own, and give the URL once requests are welcome. Raises what ``run`` does."""
        self._thread = threading.Thread(target=self._run_aside, name="graphpipe server", daemon=True)
        self._thread.start()
        try:
            return self._ready.result()
        except KeyboardInterrupt:
            self._tell()
            raise

    def stop(self, wait: bool = True) -> None:
        """Finish what is in flight, and end. Returns when it is over, unless told not to ``wait``; said again, it changes
        nothing.
        """
        self._tell()
        if wait and self._thread is not None and self._thread is not threading.current_thread():
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
        self._notifier.keep_alive()
        if self._told.is_set():
            end()

    def _is_ready(self, url: str) -> None:
        self.url = url
        self._on_ready(url)
        if self._part is None:
            self._events.listening(url, self._metrics_url, self._reach, self._stopped_by(), self._grpc_url)
        if not self._ready.done():
            self._ready.set_result(url)

    def _stopped_by(self) -> str:
        if self._thread is not None:
            return "server.stop()"
        return SIGNALS if threading.current_thread() is threading.main_thread() else ""

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

    def _addresses(
        self, stack: contextlib.ExitStack
    ) -> tuple[socket.socket, socket.socket | None, socket.socket | None]:
        """The sockets to listen on, bound, for callers, for metrics and for gRPC. They are closed with the stack."""
        part, settings = self._part, self.settings
        if part is not None:
            for inherited in (part.listener, part.side, part.grpc):
                if inherited is not None:
                    stack.enter_context(inherited)
            return part.listener, part.side, part.grpc

        def bound(address: str) -> socket.socket:
            listener = stack.enter_context(bind(address))
            stack.enter_context(before_the_end(listener.close))
            return listener

        listener = bound(settings.listen)
        side = bound(settings.metrics_listen) if settings.metrics_listen else None
        return listener, side, bound(settings.grpc_listen) if settings.grpc_listen else None

    def _for_workers(self, model: ModelSettings, loaded: Model | None) -> ModelSettings:
        if loaded is not None and not model.source:
            raise LoadError(
                f"model {model.name!r} is in this process only, and workers (workers, memory_limit_bytes) are others: "
                "serve what they can load, a file, a URL or module:function"
            )
        return model

    async def _serve(
        self,
        make: type[App],
        models: Sequence[tuple[ModelSettings, Model]],
        load_seconds: Mapping[str, float],
        listener: socket.socket,
        side: socket.socket | None,
        grpc: socket.socket | None,
        tls: Certificates | None,
    ) -> signal.Signals | None:
        loop, part = asyncio.get_running_loop(), self._part
        loop.set_exception_handler(_on_trouble)
        app = make(models, self.settings, part.counters if part else None, load_seconds)
        app.state.on_shutdown = app.state.begin_drain
        app.on_loaded = self._events.loaded
        on_signals: Mapping[signal.Signals, Callable[[State], None]] = _SIGNALS
        if part is not None:
            app.on_memory_limit = lambda: part.say("recycle")
            app.on_loaded = lambda loaded: part.say(f"loaded {loaded.to_json()}")
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
        contexts = (tls.context, tls.h2_context) if tls is not None else (None, None)
        if tls is not None:
            app.looks.append(tls.look)
            for name in filter(is_free, RELOAD):
                with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                    loop.add_signal_handler(name, tls.reload)
        self._is_running(app.state.begin_drain)
        with cut_at_exit(app.state.cut):
            ways = listener, contexts[0], side, grpc, contexts[1]
            if not self._told.is_set() and await app.start_unless_stopped(*ways):
                self._is_ready(url_of(listener, tls=tls is not None))
                await app.stop.wait()
                if part is None:
                    self._events.draining(app.state.in_flight, came[0] if came else None)
            await app.finish()
            if part is None and app.state.started:
                self._events.stopped()
        return came[0] if came and not app.state.started else None


def _on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # The loop's own handler would write out futures with their results, and exceptions with their words.
    message, error = str(context.get("message")), context.get("exception")
    if error is None:
        log.error("%s", message)
    else:
        FAILURES.tell(log, "%s", message, error=error)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
