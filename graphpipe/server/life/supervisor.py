"""The parent of several workers: one address, processes that are started before any framework is loaded, and watched.

The parent binds the address once and its workers inherit the socket, so none of them owns it: a worker that dies
takes only the requests along that it was answering. It is started again, after a pause that doubles while it keeps
dying. While no worker is up the parent itself answers (standin.py). Whoever grows over its memory limit is replaced
first and drained then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from graphpipe.errors import LoadError
from graphpipe.server.life.certificates import LOOK_S, Certificates
from graphpipe.server.life.ending import cut_at_exit
from graphpipe.server.life.events import Events, Loaded
from graphpipe.server.life.listener import url_of
from graphpipe.server.life.standin import StandIn
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.server.state import SignalCount
from graphpipe.signals import ENDING, RELOAD, is_free, restored
from graphpipe.words import counted

__all__ = ["NoWorker", "supervise"]

log = logging.getLogger("graphpipe.supervisor")

_PAUSE_MIN_S, _PAUSE_MAX_S = 0.1, 10.0
# A worker that lived so long did not die of what it was started with.
_PROVEN_S = 10.0
# A worker that is to end at once may take so long to say its last words.
_LAST_WORDS_S = 1.0
# Until a worker has its own handlers these wait; the kernel's default for them would end it.
_WAIT_AT_START = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class NoWorker(LoadError):
    """Not one worker came up. The message says why, as whoever asked for failures has heard from each."""


def supervise(
    models: Sequence[ModelSettings],
    settings: Settings,
    listener: socket.socket,
    side: socket.socket | None,
    grpc: socket.socket | None,
    tls: Certificates | None,
    events: Events,
    on_ready: Callable[[str], None],
    on_running: Callable[[Callable[[], object]], None],
    on_failure: Callable[[str], object] | None = None,
) -> signal.Signals | None:
    """Run ``settings.workers`` workers until SIGTERM or SIGINT. Gives the signal that ended it before one was up.

    ``on_running`` is called on this loop with what ends it, ``on_failure`` with each reason why a worker
    cannot start. Without that it is raised, and logged if others serve. Raises NoWorker.
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited: the kernel would not say how workers ended
            stack.enter_context(restored((*ENDING, *filter(is_free, RELOAD))))
        runner = stack.enter_context(asyncio.Runner())
        supervisor = _Supervisor(models, settings, listener, side, grpc, events, on_ready, on_failure)
        return runner.run(supervisor.run(tls, on_running))


class _Supervisor:
    def __init__(
        self,
        models: Sequence[ModelSettings],
        settings: Settings,
        listener: socket.socket,
        side: socket.socket | None,
        grpc: socket.socket | None,
        events: Events,
        on_ready: Callable[[str], None],
        on_failure: Callable[[str], object] | None,
    ) -> None:
        names = [model.name for model in models]
        # What is found here is to be found there.
        self._what = pickle.dumps((list(models), settings, sys.path))
        self._settings = settings
        self._wanted = settings.workers
        self._listener = listener
        self._side = side
        self._grpc = grpc
        self._events = events
        self._on_ready = on_ready
        self._on_failure = on_failure
        # One row more than workers, for the replacement of one that is still draining.
        self._counters_fd = Counters.memory_for(self._wanted + 1)
        self._counters = Counters(names, None, self._counters_fd)
        self._free_rows = list(range(self._wanted + 1))
        self._one_replacement = asyncio.Lock()
        self._live: set[int] = set()  # process ids
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._first_results: dict[int, bool] = {}
        self._everybody_tried = asyncio.Event()
        self._said: dict[str, None] = {}  # in order
        self._ever_up = False
        self._restarts = 0
        self._announced = False
        self._stop = asyncio.Event()
        self._signals = SignalCount()
        self._told_by: signal.Signals | None = None
        self._stand_in: StandIn | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def run(
        self, tls: Certificates | None, on_running: Callable[[Callable[[], object]], None]
    ) -> signal.Signals | None:
        loop = asyncio.get_running_loop()
        for name in ENDING:
            # Not in a thread other than the main one: whoever started it there ends it in another way.
            with contextlib.suppress(ValueError, RuntimeError):
                loop.add_signal_handler(name, self._on_signal, name)
        if tls is not None:
            self._look(tls)
            for name in filter(is_free, RELOAD):
                with contextlib.suppress(ValueError, RuntimeError):
                    loop.add_signal_handler(name, self._reload, tls)
        sockets = {
            self._listener: tls.context if tls is not None else None,
            **({self._side: None} if self._side else {}),
        }
        # No keys are known here: where they are asked for, metrics are on no public address meanwhile.
        public = None if self._settings.api_key_file else self._listener
        self._stand_in = StandIn(sockets, self._counters, self._side or public)
        try:
            on_running(self._begin_to_end)
            with cut_at_exit(self._cut):
                await asyncio.gather(*(self._keep(slot) for slot in range(self._wanted)))
        finally:
            self._stand_in.answer(False)
            for process in self._processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if not self._ever_up and not self._stop.is_set():
            raise NoWorker("no worker could start: " + "; ".join(self._said))
        if self._announced:
            self._events.stopped()
        return None if self._ever_up else self._told_by

    def _look(self, tls: Certificates) -> None:
        tls.look()
        asyncio.get_running_loop().call_later(LOOK_S, self._look, tls)

    def _reload(self, tls: Certificates) -> None:
        tls.reload()
        # Their signals are their own: a terminal's or a service manager's reach this process alone.
        for name in RELOAD:
            self._send(name)

    # --- one slot, through the lives of its workers ---

    async def _keep(self, slot: int) -> None:
        loop = asyncio.get_running_loop()
        pause = _PAUSE_MIN_S
        worker: _Worker | None = None
        while not self._stop.is_set():
            if worker is None:
                worker = await self._start()
                self._take_note(slot, worker is not None and await self._comes_up(worker))
            began = loop.time()
            if worker is not None:
                worker = await self._watch(worker)
                if worker is not None:
                    continue
            await self._everybody_tried.wait()
            if self._stop.is_set() or not self._ever_up:
                break
            pause = _PAUSE_MIN_S if loop.time() - began > _PROVEN_S else min(pause * 2, _PAUSE_MAX_S)
            log.warning("worker %d is started again in %.1f s", slot, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            self._restarts += 1
        if worker is not None:
            await self._end(worker)

    async def _start(self) -> _Worker | None:
        """A new process; None if the machine has none to give just now."""
        side = self._side.fileno() if self._side is not None else -1
        grpc = self._grpc.fileno() if self._grpc is not None else -1
        heard, said = os.pipe()
        row = self._free_rows.pop()
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAIT_AT_START)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "graphpipe.server.life.worker"),
                *map(str, (self._listener.fileno(), side, grpc, self._counters_fd, row, said)),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[self._listener.fileno(), self._counters_fd, said, *(fd for fd in (side, grpc) if fd >= 0)],
                # Ctrl-C in a terminal reaches a whole group; what concerns the workers is passed on to them.
                process_group=0,
            )
        except OSError as error:
            log.error("no worker can be started: %s", error.strerror or error)
            self._free_rows.append(row)
            os.close(heard)
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAIT_AT_START)
            os.close(said)
        self._processes[process.pid] = process
        worker = _Worker(process, row)
        self._spawn(worker.listen(heard, self._loaded, self._up, self._failed, self._begin_to_end))
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it is dead already: its status says so
            process.stdin.write(len(self._what).to_bytes(8, "little") + self._what)
            await process.stdin.drain()
        return worker

    async def _comes_up(self, worker: _Worker) -> bool:
        """Whether a worker that was started gets ready; one that takes for ever is killed."""
        patience = self._settings.start_timeout_s or None
        stop = asyncio.create_task(self._stop.wait())
        either: list[asyncio.Future[Any]] = [worker.ready, stop]
        done, _ = await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not done:
            worker.said_why = True
            self._failed(f"a worker did not come up within {patience:g} s (--start-timeout-s) and is ended")
            worker.process.kill()
            await worker.process.wait()
        return worker.ready.done() and worker.ready.result()

    async def _watch(self, worker: _Worker) -> _Worker | None:
        """Until the worker ends (None), all shall end (the worker itself), or it has a successor that is up."""
        ended = asyncio.create_task(worker.process.wait())
        wishes = asyncio.create_task(worker.recycle.wait())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ended, wishes, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in (wishes, stop):
            task.cancel()
        if self._stop.is_set():
            ended.cancel()
            return worker
        if ended.done():
            self._gone(worker)
            if not worker.said_why:
                log.warning("worker process %d ended (%s)", worker.process.pid, _how(ended.result()))
            return None
        ended.cancel()
        async with self._one_replacement:
            log.warning("worker process %d is over --memory-limit-bytes; another takes its place", worker.process.pid)
            successor = None if self._stop.is_set() else await self._start()
            if successor is None or not await self._comes_up(successor):
                if successor is not None:
                    with contextlib.suppress(ProcessLookupError):
                        successor.process.kill()
                    await successor.process.wait()
                    self._gone(successor)
                worker.recycle.clear()  # it will ask again
                return worker
            self._restarts += 1
            await self._end(worker)
            return successor

    async def _end(self, worker: _Worker) -> None:
        """Have it drain, and make sure that it goes."""
        with contextlib.suppress(ProcessLookupError):
            worker.process.terminate()
        patience = self._settings.drain_grace_s + self._settings.drain_timeout_s + 5
        try:
            await asyncio.wait_for(worker.process.wait(), patience)
        except TimeoutError:
            log.error("worker process %d did not end within %.0f s and is killed", worker.process.pid, patience)
            worker.process.kill()
            await worker.process.wait()
        self._gone(worker)

    # --- how they are ---

    def _loaded(self, said: str) -> None:
        self._events.loaded(Loaded.from_json(said))

    def _up(self, worker: _Worker) -> None:
        self._live.add(worker.process.pid)
        self._ever_up = True
        self._publish()

    def _gone(self, worker: _Worker) -> None:
        self._live.discard(worker.process.pid)
        self._processes.pop(worker.process.pid, None)
        self._counters.forget_gauges_of(worker.row)
        self._free_rows.append(worker.row)
        self._publish()

    def _failed(self, reason: str) -> None:
        # All of them fail for the same reason, mostly: it is said once.
        if reason not in self._said:
            self._said[reason] = None
            if self._on_failure is not None:
                self._on_failure(reason)
            elif self._everybody_tried.is_set():
                log.error("%s", reason)

    def _publish(self) -> None:
        self._counters.supervise(len(self._live), self._wanted, self._restarts)
        assert self._stand_in is not None
        self._stand_in.answer(self._ever_up and not self._live and not self._stop.is_set())

    def _take_note(self, slot: int, up: bool) -> None:
        """Announce the address once everybody had a first try and somebody is up."""
        if slot in self._first_results:
            return
        self._first_results[slot] = up
        if len(self._first_results) < self._wanted:
            return
        self._everybody_tried.set()
        if any(self._first_results.values()) and not self._stop.is_set():
            if self._on_failure is None:
                for reason in self._said:
                    log.error("%s", reason)
            self._announced = True
            self._on_ready(url_of(self._listener, tls=bool(self._settings.tls_cert)))

    def _begin_to_end(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        self._everybody_tried.set()
        if self._announced:
            # As they told it last, which is twice a second.
            self._events.draining(int(self._counters.total("graphpipe_in_flight_requests")), self._told_by)
        # All at once, also those that wait for the end of one that is being replaced.
        self._send(signal.SIGTERM)
        # As long as one process has it open, callers queue up there: this one lets go when the workers do.
        asyncio.get_running_loop().call_later(self._settings.drain_grace_s, self._let_go)

    def _on_signal(self, name: signal.Signals) -> None:
        self._told_by = self._told_by or name
        if not self._signals.is_new():
            return
        if self._signals.times == 1:
            self._begin_to_end()
        elif self._signals.times == 2:
            log.warning("ending %s at once: told to end a second time", counted(len(self._processes), "worker"))
            self._cut()
        else:
            self._send(signal.SIGKILL)

    def _cut(self) -> None:
        self._begin_to_end()
        self._send(signal.SIGQUIT)
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._send, signal.SIGKILL)

    def _send(self, name: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(name)

    def _let_go(self) -> None:
        assert self._stand_in is not None
        self._stand_in.answer(False)
        self._listener.close()
        if self._grpc is not None:
            self._grpc.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class _Worker:
    """A worker process and what it said."""

    def __init__(self, process: asyncio.subprocess.Process, row: int) -> None:
        self.process = process
        self.row = row
        self.said_why = False  # it ended, or had to be ended
        self.recycle = asyncio.Event()
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def listen(
        self,
        heard: int,
        on_loaded: Callable[[str], None],
        on_ready: Callable[[_Worker], None],
        on_failure: Callable[[str], None],
        on_shutdown: Callable[[], None],
    ) -> None:
        """Hear what it says until it ends."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(heard, "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        # Not only until the pipe ends: a process that the model has started may hold it open.
        ended = asyncio.create_task(self.process.wait())
        ended.add_done_callback(lambda _: reader.feed_eof())
        while line := await reader.readline():
            if line == b"ready\n" and not self.ready.done():
                on_ready(self)
                self.ready.set_result(True)
            elif line.startswith(b"loaded "):
                on_loaded(line[len(b"loaded ") :].decode())
            elif line.startswith(b"failed "):
                self.said_why = True
                on_failure(line[len(b"failed ") :].decode(errors="replace").strip())
            elif line == b"recycle\n":
                self.recycle.set()
            elif line == b"shutdown\n":
                on_shutdown()
        transport.close()
        await ended
        if not self.ready.done():
            self.ready.set_result(False)


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
