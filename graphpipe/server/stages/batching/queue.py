"""Rows of several callers in one call of the model.

A batch closes when it is full, or when some time has passed since its first member came; and while the model is busy it
goes on growing, since it could not run anyway. Members are requests of one kind (rows.py); other kinds form batches
beside it, and whoever has waited longest is served first; peers have turns where more wait than fit. All of this happens
on the event loop, driven by arrivals, one timer for each kind and the ends of calls: nothing polls.

A caller may leave at any time, so nobody's coroutine does the work of others: each waits for a future of its own, and a
task runs the batch. When a joined call fails its members are run alone, so that only the owner of the bad row gets the
error.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import (
    DeadlineExceeded,
    Forbidden,
    ModelFailed,
    NotFound,
    NotReady,
    Overloaded,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
)
from graphpipe.server.numbers.counters import Meter
from graphpipe.server.numbers.places import places
from graphpipe.server.stages.batching.gain import BatchGain
from graphpipe.server.stages.batching.padding import Padding
from graphpipe.server.stages.rows import Against, Kind, RowEvidence, join, kind_of, row_count
from graphpipe.server.stages.stage import Outputs, Request, Stage
from graphpipe.server.stages.turns import PEER, by_turns

__all__ = ["BatchCounts", "BatchLimits", "Batcher"]

log = logging.getLogger("graphpipe.batcher")

# Joining this many bytes on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024

# So many joined calls in a row may fail whose members succeed alone.
_FAILURES_MAX = 3

# These say nothing about the rows: every member would fail in the same way, and asking again for each makes it worse.
_EVERYBODYS = (
    DeadlineExceeded,
    Forbidden,
    NotFound,
    NotReady,
    Overloaded,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How batches are formed.

    ``rows_max`` rows close a batch, and so do ``wait_s`` seconds after its first member; 0 means that a batch is what
    came while the model was busy. ``sizes`` are the only numbers of rows that the model is called with (empty: any);
    ``padding`` makes ragged inputs equally long. ``queue_rows_max`` rows may wait, further ones are refused.
    ``at_once`` is how many calls the next stage can run at the same time.
    """

    rows_max: int
    wait_s: float = 0.0
    sizes: tuple[int, ...] = ()
    padding: Padding | None = None
    queue_rows_max: int = 1024
    at_once: int = 1


@dataclass(slots=True)
class BatchCounts:
    """What has happened so far."""

    calls: int = 0
    rows: int = 0
    padding_rows: int = 0
    requests: int = 0
    refused: int = 0
    retried_alone: int = 0
    wait_s: float = 0.0


class _Member:
    """A request that waits, or runs."""

    __slots__ = ("came", "due", "future", "group", "number", "peer", "request", "rows", "run")

    def __init__(self, number: int, request: Request, rows: int, came: float, due: float) -> None:
        self.number = number
        self.peer = PEER.get()
        self.request = request
        self.rows = rows
        self.came = came
        self.due = due
        self.future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self.group: _Group | None = None
        self.run: _Run | None = None


class _Group:
    """The requests of one kind that wait, oldest first. It is ready when its batch has closed."""

    __slots__ = ("due", "key", "members", "ready", "rows", "timer")

    def __init__(self, key: object) -> None:
        self.key = key
        self.members: OrderedDict[int, _Member] = OrderedDict()
        self.rows = 0
        self.ready = False
        self.due = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def oldest(self) -> _Member:
        """The member that came first."""
        return next(iter(self.members.values()))


class _Run:
    """A batch that is being answered, and how many of its members still wait for that."""

    __slots__ = ("members", "task", "waiting")

    def __init__(self, members: list[_Member]) -> None:
        self.members = members
        self.waiting = len(members)
        self.task: asyncio.Task[None] | None = None


class Batcher:
    """Joins the rows of requests that wait at the same time. Belongs to one event loop."""

    def __init__(
        self,
        limits: BatchLimits,
        following: Stage,
        evidence: RowEvidence,
        name: str = "model",
        meter: Meter | None = None,
    ) -> None:
        self.counts = BatchCounts()
        self._meter = meter
        if meter is not None:
            meter.follow(self.numbers)
        self.queue_rows = 0
        self._rows_of: Counter[Hashable] = Counter()  # of each peer
        self.refusal = ""
        self._limits = limits
        self._rows_max = min(limits.rows_max, max(limits.sizes)) if limits.sizes else limits.rows_max
        self._next = following
        self._evidence = evidence
        # Where only some sizes are allowed, they were chosen by somebody who knows.
        self._gain = None if limits.sizes else BatchGain(self._rows_max)
        self._name = name
        self._groups: dict[object, _Group] = {}
        self._running: set[_Run] = set()
        self._numbers = 0
        self._awake = False
        self._failures = 0

    async def infer(self, request: Request) -> Outputs:
        """What the next stage gives for these rows, asked together with others. Raises Overloaded if too many wait."""
        if self.refusal:
            return await self._next.infer(request)
        rows = row_count(request.inputs)
        if self.queue_rows and self.queue_rows + rows > self._limits.queue_rows_max:
            if self._has_more_than_his_share(rows):
                raise self._overloaded()
            self._make_room(rows)
        member = self._enter(request, rows)
        try:
            return await member.future
        finally:
            if member.future.cancel() or member.future.cancelled():  # the caller is gone
                self._leave(member)

    def admit(self) -> None:
        """Raise Overloaded if not one more row may wait now."""
        if not self.refusal and self.queue_rows >= self._limits.queue_rows_max and self._has_more_than_his_share(1):
            raise self._overloaded()

    def _has_more_than_his_share(self, rows: int) -> bool:
        """Whether a peer would take more of the places than each peer would get."""
        peer, rows_of = PEER.get(), self._rows_of
        peers = len(rows_of) + (peer not in rows_of)
        return (rows_of[peer] + rows) * peers > self._limits.queue_rows_max

    def _make_room(self, rows: int) -> None:
        """Whoever has most waiting loses what he sent last, until so many rows have a place."""
        while self.queue_rows + rows > self._limits.queue_rows_max:
            most = max(self._rows_of, key=self._rows_of.__getitem__)
            last = max(
                (m for group in self._groups.values() for m in group.members.values() if m.peer == most),
                key=lambda member: member.number,
            )
            self._remove(last)
            _fail(last, self._overloaded())

    def _overloaded(self) -> Overloaded:
        self.counts.refused += 1
        return Overloaded(
            f"{self.queue_rows} rows wait for model {self._name!r}, of at most {self._limits.queue_rows_max} "
            "(--queue-rows-max); try again"
        )

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return self._next.waiting + sum(len(group.members) for group in self._groups.values())

    def numbers(self) -> dict[str, float]:
        """What it has counted, as metrics."""
        counts = self.counts
        return {
            "graphpipe_batch_requests": counts.requests,
            "graphpipe_batch_padding_rows": counts.padding_rows,
            "graphpipe_batch_retried": counts.retried_alone,
            "graphpipe_batch_refused": counts.refused,
            "graphpipe_batch_queue_rows": self.queue_rows,
        }

    def close(self) -> None:
        """Nothing of its own to give back."""
        self._next.close()

    # --- waiting ---

    def _enter(self, request: Request, rows: int) -> _Member:
        now = asyncio.get_running_loop().time()
        due = now + self._limits.wait_s
        if request.deadline is not None:
            # A caller in a hurry closes the batch when half of its time is gone.
            due = min(due, now + max(0.0, request.deadline - now) / 2)
        self._numbers += 1
        member = _Member(self._numbers, request, rows, now, due)
        # What cannot be joined waits for its turn as a batch of its own.
        alone = not 0 < rows <= self._rows_max or self._evidence.rules_out(request)
        key: object = member.number if alone else self._kind(request)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key)
        member.group = group
        group.members[member.number] = member
        group.rows += rows
        self.queue_rows += max(rows, 1)
        self._rows_of[member.peer] += max(rows, 1)
        if alone or due <= now or group.rows >= self._rows_worth:
            group.ready = True
        elif not group.ready:
            self._close_at(group, due)
        if group.ready:
            self._wake()
        return member

    @property
    def _rows_worth(self) -> int:
        return self._rows_max if self._gain is None else self._gain.rows_worth

    @property
    def _at_once(self) -> int:
        """How many batches may be with the model. One more for each thread where waiting makes no row cheaper."""
        return self._limits.at_once * (1 if self._rows_worth == self._rows_max else 2)

    def _kind(self, request: Request) -> Kind:
        kind = kind_of(request)
        padding = self._limits.padding
        return kind if padding is None else (padding.loosen(kind[0]), kind[1], kind[2])

    def _leave(self, member: _Member) -> None:
        if member.group is not None:
            self._remove(member)
        elif member.run is not None:
            member.run.waiting -= 1
            if not member.run.waiting and member.run.task is not None:
                member.run.task.cancel()

    def _remove(self, member: _Member) -> None:
        """Take a member out of its group, and the group away when it was the last."""
        group, member.group = member.group, None
        assert group is not None
        del group.members[member.number]
        group.rows -= member.rows
        self.queue_rows -= max(member.rows, 1)
        self._rows_of[member.peer] -= max(member.rows, 1)
        if not self._rows_of[member.peer]:
            del self._rows_of[member.peer]
        if not group.members:
            del self._groups[group.key]
            if group.timer is not None:
                group.timer.cancel()

    def _close_at(self, group: _Group, due: float) -> None:
        if group.timer is not None:
            if group.due <= due:
                return
            group.timer.cancel()
        group.due = due
        group.timer = asyncio.get_running_loop().call_at(due, self._on_time, group)

    def _on_time(self, group: _Group) -> None:
        group.timer = None
        group.ready = True
        self._wake()

    # --- closing ---

    def _wake(self) -> None:
        """Look for a batch to run, once whatever else arrives in this turn of the loop is in its group."""
        if not self._awake and self._groups and len(self._running) < self._at_once:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._awake = False
        loop = asyncio.get_running_loop()
        while len(self._running) < self._at_once:
            ready = [group for group in self._groups.values() if group.ready]
            if not ready:
                return
            members = self._take(min(ready, key=lambda group: group.oldest.number), loop.time())
            if members:
                run = _Run(members)
                for member in members:
                    member.run = run
                self._running.add(run)
                run.task = loop.create_task(self._answer(run))
                # Not in the task itself: one that is cancelled before its first step does not come to its `finally`.
                run.task.add_done_callback(partial(self._on_end, run))

    def _take(self, group: _Group, now: float) -> list[_Member]:
        """A group's oldest members that fit into one batch, by turns of their peers, without those whose time is over."""
        taken: list[_Member] = []
        rows, rows_max = 0, self._rows_max if self._gain is None else self._gain.rows_for_next()
        waiting = list(group.members.values())
        if group.rows > rows_max and len(self._rows_of) > 1:
            waiting = by_turns(waiting, lambda member: member.peer)
        for member in waiting:
            deadline = member.request.deadline
            if deadline is not None and now > deadline:
                self._remove(member)
                _fail(member, DeadlineExceeded("the caller's deadline passed while the request waited; it was not run"))
                continue
            if taken and rows + member.rows > rows_max:
                break
            self._remove(member)
            taken.append(member)
            rows += member.rows
            self.counts.wait_s += now - member.came
            if self._meter is not None:
                self._meter.waited_for_batch(now - member.came)
        if group.members:
            # The time of those who stay goes on; it does not begin anew.
            if group.timer is not None:
                group.timer.cancel()
                group.timer = None
            due = min(member.due for member in group.members.values())
            group.ready = due <= now or group.rows >= self._rows_worth
            if not group.ready:
                self._close_at(group, due)
        return taken

    # --- running ---

    async def _answer(self, run: _Run) -> None:
        if len(run.members) > 1 and not self.refusal and await self._together(run.members):
            return
        for member in run.members:
            if not member.future.done():
                await self._alone(member)

    def _on_end(self, run: _Run, task: asyncio.Task[None]) -> None:
        self._running.discard(run)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a batch of model %r came to no end\n%s", self._name, places(error))
        for member in run.members:
            # However it ended, nobody waits for it for ever.
            _fail(member, ModelFailed(f"the batch of model {self._name!r} that held this request came to no end"))
        self._wake()

    async def _together(self, members: list[_Member]) -> bool:
        """Answer all of them with one call. False if that gave nothing that can be handed out."""
        padding = self._limits.padding
        try:
            outputs = await self._call([member.request for member in members], sum(member.rows for member in members))
            start = 0
            for member in members:
                end = start + member.rows
                part = {name: array[start:end] for name, array in outputs.items()}
                _deliver(member, part if padding is None else padding.cut(part, member.request.inputs))
                start = end
        except _NotByRows as found:
            self._refuse(self._not_by_rows(found.against))
            return False
        except _EVERYBODYS as error:
            for member in members:
                _fail(member, copy.copy(error))
        except Exception as error:
            self.counts.retried_alone += len(members)
            await self._one_by_one(members, error)
            return True
        self._failures = 0
        return True

    async def _one_by_one(self, members: list[_Member], error: Exception) -> None:
        """Find the member that made the joined call fail; if there is none, it was the joining."""
        failed = False
        for member in members:
            if not member.future.done():
                await self._alone(member)
            failed = failed or member.future.cancelled() or member.future.exception() is not None
        self._failures = 0 if failed else self._failures + 1
        if self._failures >= _FAILURES_MAX:
            self._refuse(f"model {self._name!r} fails on joined rows and not on the same rows alone ({error})")

    async def _alone(self, member: _Member) -> None:
        try:
            _deliver(member, await self._plain(member.request, member.rows))
        except Exception as error:
            _fail(member, error)

    async def _plain(self, request: Request, rows: int) -> Outputs:
        """The answer to one request, in the sizes that the model needs, if it needs any."""
        sizes = self._limits.sizes
        by_rows = rows and not self._evidence.rules_out(request)
        if sizes and by_rows and not self.refusal:
            try:
                pieces = [
                    await self._call([_cut(request, start, start + sizes[-1])], min(sizes[-1], rows - start))
                    for start in range(0, rows, sizes[-1])
                ]
                return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
            except _NotByRows as found:
                self._refuse(self._not_by_rows(found.against))
        self._count(max(rows, 1), 1, 0)
        outputs = await self._timed(request, rows)
        if by_rows:
            against = self._evidence.add(request, outputs, rows)
            if against is not None:
                self._refuse(self._not_by_rows(against))
        return outputs

    async def _call(self, requests: Sequence[Request], rows: int) -> Outputs:
        """One call of the next stage for all rows of ``requests``. Raises _NotByRows if the answer cannot be split."""
        first = requests[0]
        size = next((size for size in self._limits.sizes if size >= rows), rows)
        if len(requests) == 1 and size == rows:
            request = first
        else:
            if not self._evidence.holds(first):
                await self._probe(first, size)
            deadlines = [request.deadline for request in requests]
            latest = None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
            request = Request(await self._join(requests, size), first.outputs, first.config, latest)
        self._count(rows, len(requests), size - rows)
        outputs = await self._timed(request, rows)
        against = self._evidence.add(request, outputs, size)
        if against is not None:
            raise _NotByRows(against)
        return {name: outputs[name][:rows] for name in first.outputs or outputs}

    async def _timed(self, request: Request, rows: int) -> Outputs:
        began = perf_counter()
        outputs = await self._next.infer(request)
        if self._gain is not None:
            self._gain.ran(rows, request.run_s or perf_counter() - began)
        return outputs

    async def _probe(self, request: Request, size: int) -> None:
        """Call the model with another number of rows than ``size``: one number alone may be equal by chance."""
        other = next((other for other in self._limits.sizes or (1,) if other != size), 0)
        if other:
            one = _cut(request, 0, 1)
            asked = Request(join([one.inputs], other), request.outputs, request.config, request.deadline)
            against = self._evidence.add(asked, await self._next.infer(asked), other)
            if against is not None:
                raise _NotByRows(against)

    async def _join(self, requests: Sequence[Request], size: int) -> dict[str, NDArray[Any]]:
        padding = self._limits.padding
        parts = [request.inputs for request in requests]

        def work() -> dict[str, NDArray[Any]]:
            return join(parts if padding is None else padding.pad(parts), size)

        if sum(array.nbytes for part in parts for array in part.values()) < _OFF_LOOP_FROM:
            return work()
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def _count(self, rows: int, requests: int, padding_rows: int) -> None:
        counts = self.counts
        counts.calls += 1
        counts.rows += rows
        counts.requests += requests
        counts.padding_rows += padding_rows
        if self._meter is not None:
            self._meter.batched(rows + padding_rows)

    def _not_by_rows(self, against: Against) -> str:
        return f"output {against.output!r} of model {self._name!r} {against.why}, so its answers cannot be split"

    def _refuse(self, reason: str) -> None:
        if not self.refusal:
            self.refusal = reason
            log.error("%s; batching is off for this model", reason)


class _NotByRows(Exception):
    """An output does not follow the rows that went in."""

    def __init__(self, against: Against) -> None:
        super().__init__(against)
        self.against = against


def _cut(request: Request, start: int, end: int) -> Request:
    inputs = {name: array[start:end] for name, array in request.inputs.items()}
    return Request(inputs, request.outputs, request.config, request.deadline)


def _deliver(member: _Member, outputs: Outputs) -> None:
    if not member.future.done():
        member.future.set_result(outputs)


def _fail(member: _Member, error: Exception) -> None:
    if not member.future.done():
        member.future.set_exception(error)
        member.future.exception()  # a caller who leaves just now will not look at it, and nobody need be told
