"""The model on its worker threads; the last stage.

Runtimes release the GIL, so threads are enough. A job waits in one queue, from which each thread takes the next one when
it has handed its last answer back (handback.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import cast

import numpy as np

from graphpipe.backends.failure import refusal
from graphpipe.backends.model import Model, named_arrays, owned
from graphpipe.errors import DeadlineExceeded, ModelFailed, Overloaded, ServiceError, let_go
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.stages.causes import MASKED, Causes
from graphpipe.server.stages.handback import HandBack
from graphpipe.server.stages.stage import Outputs, Request
from graphpipe.server.stages.turns import PEER, Line, Turns
from graphpipe.wire.dtypes import DTYPES, NDIM_MAX, to_bytes, to_sendable
from graphpipe.words import counted

__all__ = ["ModelRunner"]

log = logging.getLogger("graphpipe.model")

# A call that still runs when all is over is not waited for longer than this.
_CLOSE_S = 1.0
# When there is no room for answers, a call is put off for so long.
_ROOM_S = 1.0
# Answers of runs that take longer do not wait for others.
_SHORT_S = 0.0005
# How much the last run counts in what is typical of them, and how often a thread looks whether another's run is over.
_WEIGHT = 0.1
_GUEST_S = 0.0002
_TOO_LATE = "the caller's deadline passed while the request waited; it was not run"
_PLAIN = frozenset((np.dtype(bool), *(dtype for dtype in DTYPES if dtype is not None and dtype.kind != "O")))


class _Job:
    __slots__ = ("back", "began", "ended", "error", "future", "outputs", "peer", "queued", "request")

    def __init__(self, request: Request, back: HandBack[_Job]) -> None:
        self.request: Request | None = request  # None: the caller has left
        self.peer = PEER.get()
        self.queued = perf_counter()
        self.began = self.ended = 0.0
        self.back = back
        self.future: asyncio.Future[Outputs] = back.loop.create_future()
        self.outputs: Outputs | None = None
        self.error: ServiceError | None = None


class ModelRunner:
    """Runs one model on ``threads`` threads; a ``quick`` model right on the loop.

    At most ``queue_requests_max`` requests wait for a thread, by turns of their peers. When as many wait, a peer that has
    less than its share gets a place all the same: that of the last request of the peer that has most. While ``is_full``
    nothing is begun, since each answer would be held as well; what has waited for that too long is refused.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        threads: int,
        *,
        queue_requests_max: int = 1024,
        meter: Meter | None = None,
        is_full: Callable[[], bool] = lambda: False,
        causes: Causes = MASKED,
    ) -> None:
        self._is_full = is_full
        self._causes = causes
        self._queue_requests_max = queue_requests_max
        self._overload = (
            f"the queue of model {name!r} holds {counted(queue_requests_max, 'request')} already (--queue-requests-max); "
            "try again"
        )
        self._meter = meter
        self._model = model
        self._infer = owned(model, inputs_are_ours=True)
        self._name = name
        self.quick = bool(getattr(model, "quick", False))
        self._jobs: Turns[_Job] = Turns()
        self._began = [0.0] * (0 if self.quick else threads)  # when each thread's run under way began; 0: none is
        self._back: HandBack[_Job] | None = None
        self._left = 0  # jobs in the queue whose callers have left, at most
        self._guests: dict[int, float] = {}  # threads of other models that run this one, and when each run began
        self._typical_s = math.inf  # nobody knows yet
        self._is_closing = False
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"{name}-{i}", daemon=True)
            for i in range(len(self._began))
        ]
        for thread in self._threads:
            thread.start()
        if meter is not None:
            meter.follow(self.numbers)

    async def infer(self, request: Request) -> Outputs:
        """The model's outputs, or ModelFailed; what the model itself refuses passes through."""
        if self.quick:
            return self.at_once(request)
        if self._jobs.qsize() >= self._queue_requests_max:
            self.admit()
            self._turn_one_away()
        loop, back = asyncio.get_running_loop(), self._back
        if back is None or back.loop is not loop:
            back = self._back = HandBack(loop, self._deliver)
        job = _Job(request, back)
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

    def as_guest(self, request: Request, now: float, note: Callable[[float], object]) -> Outputs | None:
        """The outputs by a run in this thread, which is another model's; None where that would keep somebody waiting: if
        runs of this model are not short, or if others wait for it already. ``note`` hears how many seconds a run took.
        """
        if not self.quick and (self._typical_s > _SHORT_S or not self._jobs.empty() or self._is_full()):
            return None
        thread = threading.get_ident()
        self._guests[thread] = began = perf_counter()
        try:
            # First one says that he runs, and then he looks at the others, here and in _wait_for_guests: one of two sees it.
            if self._is_closing or (not self.quick and self._is_over()):
                return None
            if request.deadline is not None and now >= request.deadline:
                raise DeadlineExceeded(_TOO_LATE)
            try:
                return self._run(request, now)
            finally:
                seconds = perf_counter() - began
                self._took(seconds)  # slow failures keep others waiting as well
                note(seconds)
        finally:
            del self._guests[thread]

    def _is_over(self) -> bool:
        return len(self._guests) + len(self._began) - self._began.count(0.0) > len(self._began)

    def _wait_for_guests(self, job: _Job) -> None:
        """No more runs at once than there are threads. Nobody waits for a caller who has left."""
        while self._guests and self._is_over() and not job.future.cancelled():
            time.sleep(_GUEST_S)

    def _took(self, seconds: float) -> None:
        if self._typical_s == math.inf:
            self._typical_s = seconds
        else:
            self._typical_s += _WEIGHT * (seconds - self._typical_s)

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

    def numbers(self) -> dict[str, float]:
        """How it is now, as metrics."""
        began = min((began for began in (*self._began, *[*self._guests.values()]) if began), default=0.0)
        return {"graphpipe_longest_run_seconds": perf_counter() - began if began else 0.0}

    def close(self) -> None:
        """End the threads after the jobs that wait, and close the model, unless a call does not come to an end."""
        self._is_closing = True
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while self._guests and time.monotonic() < deadline:
            time.sleep(_GUEST_S)
        # One that keeps deadlines does not run in this process: what it still does ends with it.
        if not (self._guests or any(thread.is_alive() for thread in self._threads)) or getattr(
            self._model, "keeps_deadlines", False
        ):
            try:
                self._model.close()
            except BaseException as error:
                FAILURES.tell(log, "model %r failed as it was closed", self._name, error=error)
        if self._meter is not None:
            self._meter.leave(self.numbers)

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
                why = partial(self._causes.in_log, error, request)
                FAILURES.tell(
                    log,
                    "model %r failed on a request",
                    self._name,
                    error=error,
                    cause=why,
                    model=self._name,
                    request_id=request.request_id,
                )
                del why  # it holds the request
                failed = ModelFailed(f"model {self._name!r} failed on this input{self._causes.to_caller(error)}")
            let_go(error)  # who raised it may keep it
        try:
            raise failed
        finally:
            del failed  # it remembers this frame

    def _work(self, number: int) -> None:
        while True:
            with contextlib.suppress(BaseException):  # raised while it is said that something was raised
                self._run_jobs(number)
                return

    def _run_jobs(self, number: int) -> None:
        jobs = self._jobs
        job: _Job | None = None
        turn: _Job | Line[_Job] | None = None
        try:
            while True:
                # A job has its name as soon as it is taken, whatever is raised into this thread by another, as some
                # libraries' timeouts are: no call of Python's is between.
                for turn in cast("Iterator[_Job | Line[_Job]]", iter(jobs.take, None)):
                    job = turn if type(turn) is _Job else jobs.next_of(cast("Line[_Job]", turn))
                    self._do(job, number)
                    job.back.put(job, more=job.ended - job.began < _SHORT_S and not jobs.empty())
                    job = turn = None  # or they would keep its answer while this thread waits for the next
                if jobs.is_over():
                    return
        except BaseException as error:
            job = turn if job is None and type(turn) is _Job else job
            if job is not None:
                job.back.again(job)
            self._began[number] = 0.0
            FAILURES.tell(log, "a thread of model %r was interrupted", self._name, error=error)
            raise

    def _do(self, job: _Job, number: int) -> None:
        request = job.request
        if request is None or job.future.cancelled():
            job.request = None
            return
        if self._is_full() and not self._has_room():
            job.error = Overloaded(
                "answers that nobody reads take all the room that there is (--in-flight-bytes-max); try again"
            )
            return
        began = self._began[number] = perf_counter()
        if self._guests:
            self._wait_for_guests(job)
            began = perf_counter()
        now = job.back.loop.time()
        if job.future.cancelled() or (request.deadline is not None and now >= request.deadline):
            self._began[number], job.request = 0.0, None
            job.error = DeadlineExceeded(_TOO_LATE)
            return
        job.began = began
        try:
            job.outputs = self._run(request, now)
        except ServiceError as error:
            job.error = let_go(error)
        except BaseException as error:  # out of memory while it said why: the thread lives on
            job.error = ModelFailed(f"model {self._name!r} failed on this input ({type(error).__name__})")
        job.ended = perf_counter()
        self._began[number] = 0.0
        self._took(job.ended - job.began)
        if request.then is not None and job.outputs is not None:
            try:
                request.then(job.outputs)
            except BaseException as error:  # what it means to say to its caller it keeps itself
                job.error, job.outputs = ModelFailed(f"what follows model {self._name!r} failed"), None
                let_go(error)
        job.request = None  # its memory is free for others now, whatever still knows the job

    def _has_room(self) -> bool:
        """Wait until there is room for an answer. False if there is none in time."""
        until = time.monotonic() + _ROOM_S
        while self._is_full():
            if time.monotonic() > until:
                return False
            time.sleep(_ROOM_S / 100)
        return True

    def _deliver(self, jobs: list[_Job]) -> None:
        meter = self._meter
        for job in jobs:
            if not job.future.done():
                if job.outputs is not None:
                    job.future.set_result(job.outputs)
                else:
                    job.future.set_exception(job.error or ModelFailed(f"model {self._name!r} was not run"))
            job.outputs = job.error = None
            if meter is not None and job.ended:
                meter.ran(job.began - job.queued, job.ended - job.began)


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
