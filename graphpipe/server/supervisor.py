"""The parent of several workers: one address, processes that are started before any framework is loaded, and watched.

The parent binds the address once and its workers inherit the socket, so none of them owns it: a worker that dies
takes only the requests along that it was answering. It is started again, after a pause that doubles while it keeps
dying. While no worker is up the parent itself answers, with 503. Whoever grows over its memory limit is replaced
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
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from graphpipe.server.counters import Counters
from graphpipe.server.listener import bind, url_of
from graphpipe.server.refusal import response_head
from graphpipe.server.settings import ModelSettings, Settings

__all__ = ["supervise"]

log = logging.getLogger("graphpipe.supervisor")

_PAUSE_MIN_S, _PAUSE_MAX_S = 0.1, 10.0
# A worker that lived so long did not die of what it was started with.
_PROVEN_S = 10.0
_NOT_UP = b"no worker is up; one is being started\n"


def supervise(
    models: Sequence[ModelSettings], settings: Settings, listener: socket.socket, on_ready: Callable[[str], None]
) -> int:
    """Run ``settings.workers`` workers until SIGTERM or SIGINT. The status is 0, or 1 if none of them could start."""
    with asyncio.Runner() as runner:
        return runner.run(_Supervisor(models, settings, listener, on_ready).run())


class _Supervisor:
    def __init__(
        self,
        models: Sequence[ModelSettings],
        settings: Settings,
        listener: socket.socket,
        on_ready: Callable[[str], None],
    ) -> None:
        names = [model.name for model in models]
        self._what = pickle.dumps((list(models), settings))
        self._settings = settings
        self._wanted = settings.workers
        self._listener = listener
        self._side = bind(settings.metrics_listen) if settings.metrics_listen else None
        self._on_ready = on_ready
        # One row more than workers, for the replacement of one that is still draining.
        self._counters_fd = Counters.memory_for(names, self._wanted + 1)
        self._counters = Counters(names, 0, self._counters_fd)
        self._free_rows = list(range(self._wanted + 1))
        self._one_replacement = asyncio.Lock()
        self._live: set[int] = set()  # process ids
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._first_results: dict[int, bool] = {}
        self._everybody_tried = asyncio.Event()
        self._said: set[str] = set()
        self._ever_up = False
        self._restarts = 0
        self._stop = asyncio.Event()
        self._signals = 0
        self._answering = False
        self._background: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._on_signal)
        self._listener.setblocking(False)
        slots = [asyncio.create_task(self._keep(slot)) for slot in range(self._wanted)]
        try:
            await asyncio.gather(*slots)
        finally:
            self._answer_for_them(False)
            for process in self._processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return 0 if self._ever_up else 1

    # --- one slot, through the lives of its workers ---

    async def _keep(self, slot: int) -> None:
        pause = _PAUSE_MIN_S
        worker: _Worker | None = None
        while not self._stop.is_set():
            if worker is None:
                worker = await self._start()
                up = await worker.ready
                self._take_note(slot, up)
            began = asyncio.get_running_loop().time()
            successor = await self._watch(worker)
            if successor is not None:
                worker = successor
                continue
            status = await worker.process.wait()
            self._gone(worker)
            worker = None
            await self._everybody_tried.wait()
            if self._stop.is_set() or not self._ever_up:
                break
            pause = (
                _PAUSE_MIN_S if asyncio.get_running_loop().time() - began > _PROVEN_S else min(pause * 2, _PAUSE_MAX_S)
            )
            log.warning("worker %d ended (%s); another starts in %.1f s", slot, _how(status), pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            self._restarts += 1
        if worker is not None:
            await self._end(worker)

    async def _start(self) -> _Worker:
        row = self._free_rows.pop()
        side = self._side.fileno() if self._side is not None else -1
        fds = [self._listener.fileno(), self._counters_fd, *([side] if side >= 0 else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "graphpipe.server.worker"),
            *map(str, (self._listener.fileno(), side, self._counters_fd, row)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=fds,
        )
        self._processes[process.pid] = process
        worker = _Worker(process, row)
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it is dead already: its status says so
            process.stdin.write(len(self._what).to_bytes(8, "little") + self._what)
            await process.stdin.drain()
        self._spawn(worker.listen(self._up, self._failed))
        return worker

    async def _watch(self, worker: _Worker) -> _Worker | None:
        """Until the worker ends (None), all shall end, or it has a successor that is up."""
        ended = asyncio.create_task(worker.process.wait())
        wishes = asyncio.create_task(worker.recycle.wait())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({ended, wishes, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await self._end(worker)
                return None
            if ended.done() or not wishes.done():
                return None
        finally:
            for task in (wishes, stop):
                task.cancel()
        async with self._one_replacement:
            log.warning("worker %d is over --memory-limit-bytes; another takes its place", worker.process.pid)
            successor = await self._start()
            if not await successor.ready:
                await successor.process.wait()
                self._gone(successor)
                worker.recycle.clear()
                return worker
            self._restarts += 1
            await self._end(worker)
            self._gone(worker)
            return successor

    async def _end(self, worker: _Worker) -> None:
        """Have it drain, and make sure that it goes."""
        with contextlib.suppress(ProcessLookupError):
            worker.process.terminate()
        patience = self._settings.drain_grace_s + self._settings.drain_timeout_s + 5
        try:
            await asyncio.wait_for(worker.process.wait(), patience)
        except TimeoutError:
            log.error("worker %d did not end within %.0f s and is killed", worker.process.pid, patience)
            worker.process.kill()
            await worker.process.wait()

    # --- how they are ---

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
            self._said.add(reason)
            print(f"graphpipe-serve: {reason}", file=sys.stderr, flush=True)

    def _publish(self) -> None:
        self._counters.supervise(len(self._live), self._wanted, self._restarts)
        self._answer_for_them(self._ever_up and not self._live and not self._stop.is_set())

    def _take_note(self, slot: int, up: bool) -> None:
        """Announce the address once everybody had a first try and somebody is up."""
        if slot in self._first_results:
            return
        self._first_results[slot] = up
        if len(self._first_results) < self._wanted:
            return
        self._everybody_tried.set()
        if any(self._first_results.values()):
            self._on_ready(url_of(self._listener, tls=bool(self._settings.tls_cert)))

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._stop.set()
            # As long as one process has it open, callers queue up there: this one lets go when the workers do.
            asyncio.get_running_loop().call_later(self._settings.drain_grace_s, self._let_go)
        if self._signals > 1:
            for process in self._processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM if self._signals == 2 else signal.SIGKILL)

    def _let_go(self) -> None:
        self._answer_for_them(False)
        self._listener.close()

    # --- answering while nobody is up ---

    def _answer_for_them(self, wanted: bool) -> None:
        if wanted == self._answering:
            return
        self._answering = wanted
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_reader(self._listener, self._accept)
        else:
            loop.remove_reader(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._spawn(_refuse(connection))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class _Worker:
    """A worker process and what it said."""

    def __init__(self, process: asyncio.subprocess.Process, row: int) -> None:
        self.process = process
        self.row = row
        self.recycle = asyncio.Event()
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def listen(self, on_ready: Callable[[_Worker], None], on_failure: Callable[[str], None]) -> None:
        """Hear what it says until it ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line == b"ready\n" and not self.ready.done():
                on_ready(self)
                self.ready.set_result(True)
            elif line.startswith(b"failed "):
                on_failure(line[len(b"failed ") :].decode().strip())
            elif line == b"recycle\n":
                self.recycle.set()
            else:  # a model that prints
                os.write(1, line)
        if not self.ready.done():
            self.ready.set_result(False)


async def _refuse(connection: socket.socket) -> None:
    """503 to a caller; its request is read first, as far as it comes at once, or closing would destroy the answer."""
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection)
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(2):
            await reader.readuntil(b"\r\n\r\n")
            head = response_head(
                503, "text/plain; charset=utf-8", len(_NOT_UP), {"Retry-After": "1", "Connection": "close"}
            )
            writer.write(head + _NOT_UP)
            await writer.drain()
            writer.write_eof()
            while await reader.read(1 << 16):
                pass
    writer.close()


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
