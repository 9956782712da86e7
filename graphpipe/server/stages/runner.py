"""The model on its worker threads; the last stage.

Runtimes release the GIL, so threads are enough. A job waits in one queue; a thread that finds many short jobs there
runs several before it hands their answers back to the loop in one call, because waking the loop costs more than a
small model's whole run (25,000 a second that way, 15,000 with a hand-back each).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from queue import Empty
from time import perf_counter

import numpy as np

from graphpipe.backends.failure import refusal
from graphpipe.backends.model import Model, named_arrays, owned
from graphpipe.errors import DeadlineExceeded, ModelFailed, Overloaded, ServiceError
from graphpipe.server.numbers.counters import Meter
from graphpipe.server.numbers.places import places
from graphpipe.server.stages.causes import cause
from graphpipe.server.stages.stage import Outputs, Request
from graphpipe.server.stages.turns import PEER, Turns
from graphpipe.wire.dtypes import DTYPES, NDIM_MAX, to_bytes, to_sendable

__all__ = ["ModelRunner"]

log = logging.getLogger("graphpipe.model")

# A thread gathers answers for about this long before it hands them back.
_GATHER_S = 0.0005
_GATHER_MAX = 64
# When answers cannot be handed to the loop, it is tried again after so long.
_AGAIN_S = 0.05
# A call that still runs when all is over is not waited for longer than this.
_CLOSE_S = 1.0
_PLAIN = frozenset((np.dtype(bool), *(dtype for dtype in DTYPES if dtype is not None and dtype.kind != "O")))


class _Job:
    __slots__ = ("began", "ended", "error", "future", "loop", "outputs", "peer", "queued", "request")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.request: Request | None = request  # None: the caller has left
        self.peer = PEER.get()
        self.queued = perf_counter()
        self.began = self.ended = 0.0
        self.loop = loop
        self.future: asyncio.Future[Outputs] = loop.create_future()
        self.outputs: Outputs | None = None
        self.error: ServiceError | None = None


class ModelRunner:
    """Runs one model on ``threads`` threads; a ``quick`` model right on the loop.

    At most ``queue_requests_max`` requests wait for a thread, by turns of their peers. When as many wait, a peer that has
    less than its share gets a place all the same: that of the last request of the peer that has most.
    """

    def __init__(
        self, model: Model, name: str, threads: int, *, queue_requests_max: int = 1024, meter: Meter | None = None
    ) -> None:
        self._queue_requests_max = queue_requests_max
        self._overload = (
            f"{queue_requests_max} requests wait for model {name!r} already (--queue-requests-max); try again"
        )
        self._meter = meter
        self._model = model
        self._infer = owned(model, inputs_are_ours=True)
        self._name = name
        self.quick = bool(getattr(model, "quick", False))
        self._jobs: Turns[_Job] = Turns()
        self._began = [0.0] * (0 if self.quick else threads)  # when each thread's run under way began; 0: none is
        self._left = 0  # jobs in the queue whose callers have left, at most
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"{name}-{i}", daemon=True)
            for i in range(len(self._began))
        ]
        for thread in self._threads:
            thread.start()
        if meter is not None:
            meter.follow(lambda: {"graphpipe_longest_run_seconds": self._longest_run_s()})

    async def infer(self, request: Request) -> Outputs:
        """The model's outputs, or ModelFailed; what the model itself refuses passes through."""
        if self.quick:
            return self.at_once(request)
        if self._jobs.qsize() >= self._queue_requests_max:
            self.admit()
            self._turn_one_away()
        job = _Job(request, asyncio.get_running_loop())
        self._jobs.put(job)
        try:
            outputs = await job.future
            request.run_s = job.ended - job.began
            return outputs
        finally:
            if job.future.cancelled():
                # It waits on until a thread comes to it, but the memory of its inputs need not.
                job.request = None
                self._left += 1
            # A failure remembers this frame, and the future the failure: a ring that would hold the request's memory.
            del job

    def at_once(self, request: Request) -> Outputs:
        """The same here and now; for a ``quick`` model."""
        began = perf_counter()
        outputs = self._run(request, 0.0 if request.deadline is None else asyncio.get_running_loop().time())
        if self._meter is not None:
            self._meter.ran(0.0, perf_counter() - began)
        return outputs

    def admit(self) -> None:
        """Raise Overloaded if no more requests may wait now."""
        if not self.quick and self._jobs.qsize() >= self._queue_requests_max:
            self._forget_those_who_left()
            if self._jobs.qsize() >= self._queue_requests_max and self._jobs.has_more_than_his_share(
                PEER.get(), self._queue_requests_max
            ):
                raise Overloaded(self._overload)

    def _turn_one_away(self) -> None:
        """Whoever has most waiting makes room for one who has less than his share."""
        last = self._jobs.make_room() if self._jobs.qsize() >= self._queue_requests_max else None
        if last is not None and not last.future.done():
            last.future.set_exception(Overloaded(self._overload))

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return self._jobs.qsize()

    def _longest_run_s(self) -> float:
        began = min((began for began in self._began if began), default=0.0)
        return perf_counter() - began if began else 0.0

    def close(self) -> None:
        """End the threads after the jobs that wait, and close the model, unless a call does not come to an end."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            try:
                self._model.close()
            except BaseException as error:
                log.error("model %r failed as it was closed\n%s", self._name, places(error))

    def _forget_those_who_left(self) -> None:
        """Behind a slow model, callers that have left must not keep others out."""
        if self._left:
            self._left = 0
            self._jobs.sift(lambda job: job.request is not None)

    def _run(self, request: Request, now: float) -> Outputs:
        left_s = None if request.deadline is None else request.deadline - now
        failed: ServiceError | None
        try:
            outputs = self._infer(request.inputs, request.outputs or None, request.config, left_s)
            outputs = named_arrays(outputs, request.outputs)
            if not self.quick:
                _check_that_they_travel(outputs, request.outputs)
            return outputs
        except _Stays as error:
            failed = ModelFailed(f"model {self._name!r} gave an answer that cannot travel: {error}")
        except BaseException as error:
            # No signal is delivered in here: whatever it is, it is the model's.
            failed = refusal(error)
            if failed is None:
                log.error("model %r failed on a request\n%s", self._name, cause(error, request))
                failed = ModelFailed(f"model {self._name!r} failed on this input; the server's log has the cause")
        try:
            raise failed
        finally:
            del failed  # it remembers this frame

    def _work(self, number: int) -> None:
        goes_on = True
        while goes_on:
            # In here alone: no name may keep the last request's memory alive while this thread waits for the next.
            done: list[_Job] = []
            try:
                goes_on = self._gather(number, done)
            except BaseException as error:  # raised into this thread from another, as some libraries' timeouts are
                self._began[number] = 0.0
                log.error("a thread of model %r was interrupted\n%s", self._name, places(error))
            if done:
                self._hand_back(done)
            del done

    def _gather(self, number: int, done: list[_Job]) -> bool:
        """Run what waits, for a moment. False if nothing more is to come."""
        jobs = self._jobs
        job = jobs.get()
        until = perf_counter() + _GATHER_S
        while job is not None:
            done.append(job)
            self._do(job, number)
            if len(done) >= _GATHER_MAX or perf_counter() > until or jobs.empty():
                return True
            try:
                job = jobs.get_nowait()
            except Empty:  # another thread was quicker
                return True
            if job is not None and job.loop is not done[0].loop:
                jobs.put(job)  # what is handed back together goes to one loop
                return True
        return False

    def _hand_back(self, done: list[_Job]) -> None:
        loop = done[0].loop
        while not loop.is_closed():  # else nobody waits any more
            try:
                loop.call_soon_threadsafe(self._deliver, done)
                return
            except BaseException:  # out of memory, say: they wait for nobody but this thread
                time.sleep(_AGAIN_S)

    def _do(self, job: _Job, number: int) -> None:
        request = job.request
        if request is None or job.future.cancelled():
            job.request = None
            return
        deadline = request.deadline
        if deadline is not None and job.loop.time() >= deadline:
            job.error = DeadlineExceeded("the caller's deadline passed while the request waited; it was not run")
            return
        job.began = self._began[number] = perf_counter()
        try:
            job.outputs = self._run(request, job.loop.time())
        except ServiceError as error:
            # Without its frames, which would hold the request's memory until the next garbage collection.
            error.__traceback__ = error.__context__ = None
            job.error = error
        except BaseException as error:  # out of memory while it said why: the thread lives on
            job.error = ModelFailed(f"model {self._name!r} failed on this input ({type(error).__name__})")
        job.ended = perf_counter()
        job.request = None  # its memory is free for others now, whatever still knows the job
        self._began[number] = 0.0

    def _deliver(self, done: list[_Job]) -> None:
        for job in done:
            if not job.future.done():
                if job.outputs is not None:
                    job.future.set_result(job.outputs)
                else:
                    job.future.set_exception(job.error or ModelFailed(f"model {self._name!r} was not run"))
            job.outputs = job.error = None
            if self._meter is not None and job.ended:
                self._meter.ran(job.began - job.queued, job.ended - job.began)


class _Stays(Exception):
    """An output is nothing that can be sent."""


def _check_that_they_travel(outputs: Outputs, asked: tuple[str, ...]) -> None:
    """Raise _Stays if an output does not. Found here it is the failure of one call, which the stages can deal with."""
    for name in asked or outputs:
        array = outputs[name]
        if array.dtype in _PLAIN and array.ndim <= NDIM_MAX:
            continue
        what = f"output {name!r}"
        if array.ndim > NDIM_MAX:
            raise _Stays(f"{what} has {array.ndim} axes; at most {NDIM_MAX} travel")
        try:
            if array.dtype.kind != "O":
                to_sendable(array[:0] if array.ndim else array, what)
            elif any(type(item) is not bytes for item in array.flat):
                for item in array.flat:
                    to_bytes(item, what)
        except ServiceError as error:
            raise _Stays(error.message) from None
