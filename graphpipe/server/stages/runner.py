"""The model on its worker threads; the last stage.

Runtimes release the GIL, so threads are enough. A job waits in one queue; a thread that finds many short jobs there
runs several before it hands their answers back to the loop in one call, because waking the loop costs more than a
small model's whole run (25,000 a second that way, 15,000 with a hand-back each).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import SimpleQueue
from time import perf_counter

from graphpipe.backends.model import Model, timed
from graphpipe.errors import DeadlineExceeded, GraphPipeError, ModelFailed, Overloaded
from graphpipe.server.counters import Meter
from graphpipe.server.stages.stage import Outputs, Request

__all__ = ["ModelRunner"]

log = logging.getLogger("graphpipe.model")

# A thread gathers answers for about this long before it hands them back.
_GATHER_S = 0.0005
_GATHER_MAX = 64


class _Job:
    __slots__ = ("began", "ended", "error", "future", "loop", "outputs", "queued", "request")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.queued = perf_counter()
        self.began = self.ended = 0.0
        self.loop = loop
        self.future: asyncio.Future[Outputs] = loop.create_future()
        self.outputs: Outputs | None = None
        self.error: BaseException | None = None


class ModelRunner:
    """Runs one model on ``threads`` threads; a ``quick`` model right on the loop.

    At most ``queue_requests_max`` requests wait for a thread. Who has one connection has at most one request here, so
    taking them in order of arrival is fair.
    """

    def __init__(
        self, model: Model, name: str, threads: int, *, queue_requests_max: int = 1024, meter: Meter | None = None
    ) -> None:
        self._queue_requests_max = queue_requests_max
        self._meter = meter
        self._model = model
        self._infer = timed(model)
        self._name = name
        self._quick = bool(getattr(model, "quick", False))
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(0 if self._quick else threads)
        ]
        for thread in self._threads:
            thread.start()

    async def infer(self, request: Request) -> Outputs:
        """The model's outputs, or ModelFailed; what the model itself refuses passes through."""
        if self._quick:
            began = perf_counter()
            outputs = self._run(request, asyncio.get_running_loop())
            if self._meter is not None:
                self._meter.ran(0.0, perf_counter() - began)
            return outputs
        if self._jobs.qsize() >= self._queue_requests_max:
            raise Overloaded(
                f"{self._queue_requests_max} requests wait for model {self._name!r} already (--queue-requests-max); "
                "try again"
            )
        job = _Job(request, asyncio.get_running_loop())
        self._jobs.put(job)
        return await job.future

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return self._jobs.qsize()

    def close(self) -> None:
        """End the threads after the jobs that wait, and close the model."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout=5)
        if not any(thread.is_alive() for thread in self._threads):
            self._model.close()

    def _run(self, request: Request, loop: asyncio.AbstractEventLoop) -> Outputs:
        left_s = None if request.deadline is None else request.deadline - loop.time()
        try:
            outputs = self._infer(request.inputs, request.outputs or None, request.config, left_s)
            for name in request.outputs:
                if name not in outputs:
                    raise ValueError(f"the model gave {sorted(outputs)}, but not {name!r}")
            return outputs
        except GraphPipeError:
            raise
        except Exception:
            log.exception("model %r failed", self._name)
            raise ModelFailed(f"model {self._name!r} failed on this input; the server's log has the cause") from None

    def _work(self) -> None:
        jobs = self._jobs
        while True:
            job = jobs.get()
            if job is None:
                return
            done: list[_Job] = []
            until = perf_counter() + _GATHER_S
            while True:
                self._do(job)
                done.append(job)
                if len(done) >= _GATHER_MAX or perf_counter() > until or jobs.empty():
                    break
                try:
                    following = jobs.get_nowait()
                except Exception:  # another thread was quicker
                    break
                if following is None:
                    jobs.put(None)
                    break
                job = following
            # No name here may keep the last request's memory alive while this thread waits for the next.
            loop = job.loop
            del job
            try:
                loop.call_soon_threadsafe(self._deliver, done)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del done

    def _do(self, job: _Job) -> None:
        if job.future.cancelled():
            return
        deadline = job.request.deadline
        if deadline is not None and job.loop.time() >= deadline:
            job.error = DeadlineExceeded("the caller's deadline passed while the request waited; it was not run")
            return
        job.began = perf_counter()
        try:
            job.outputs = self._run(job.request, job.loop)
        except BaseException as error:
            job.error = error
        job.ended = perf_counter()

    def _deliver(self, done: list[_Job]) -> None:
        for job in done:
            if self._meter is not None and job.ended:
                self._meter.ran(job.began - job.queued, job.ended - job.began)
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            elif job.outputs is not None:
                job.future.set_result(job.outputs)
            job.outputs = None
