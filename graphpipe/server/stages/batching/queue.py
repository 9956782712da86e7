"""Rows of several callers in one call of the model: who waits together, and for how long.

A batch closes when it is full, or when some time has passed since its first member came; and while the model is busy it
goes on growing, since it could not run anyway. Members are requests of one kind (rows.py); other kinds form batches
beside it, and whoever has waited longest is served first; peers have turns where more wait than fit. All of this happens
on the event loop, driven by arrivals, one timer for each kind and the ends of calls: nothing polls.

A caller may leave at any time, so nobody's coroutine does the work of others: each waits for a future of its own, and a
task runs the batch (run.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Hashable
from functools import partial

from graphpipe.errors import DeadlineExceeded, ModelFailed, Overloaded
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.stages.batching.gain import BatchGain
from graphpipe.server.stages.batching.limits import BatchCounts, BatchLimits
from graphpipe.server.stages.batching.run import BatchRunner, Member
from graphpipe.server.stages.rows import Likeness, RowEvidence, likeness_of, row_count
from graphpipe.server.stages.stage import Outputs, Request, Stage
from graphpipe.server.stages.turns import PEER, by_turns
from graphpipe.words import counted

__all__ = ["Batcher"]

log = logging.getLogger("graphpipe.batcher")


class _Waiting:
    """A member's place in the queue: since when it waits, until when it may, and where it has got to."""

    __slots__ = ("came", "due", "group", "member", "number", "peer", "run")

    def __init__(self, number: int, member: Member, came: float, due: float) -> None:
        self.number = number
        self.member = member
        self.peer = PEER.get()
        self.came = came
        self.due = due
        self.group: _Group | None = None
        self.run: _Run | None = None


class _Group:
    """The requests of one kind that wait, oldest first. It is ready when its batch has closed."""

    __slots__ = ("due", "key", "members", "ready", "rows", "timer")

    def __init__(self, key: object) -> None:
        self.key = key
        self.members: OrderedDict[int, _Waiting] = OrderedDict()
        self.rows = 0
        self.ready = False
        self.due = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def oldest(self) -> _Waiting:
        """The member that came first."""
        return next(iter(self.members.values()))


class _Run:
    """A batch that is being answered, and how many of its members still wait for that."""

    __slots__ = ("members", "task", "waiting")

    def __init__(self, members: list[Member]) -> None:
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
        self._limits = limits
        self._rows_max = min(limits.rows_max, max(limits.sizes)) if limits.sizes else limits.rows_max
        self._next = following
        self._evidence = evidence
        # Where only some sizes are allowed, they were chosen by somebody who knows.
        self._gain = None if limits.sizes else BatchGain(self._rows_max)
        self._runner = BatchRunner(limits, following, evidence, name, self.counts, self._gain, meter)
        self._name = name
        self._groups: dict[object, _Group] = {}
        self._running: set[_Run] = set()
        self._numbers = 0
        self._awake = False

    @property
    def refusal(self) -> str:
        """Why nothing is batched any more; empty while it is."""
        return self._runner.refusal

    async def infer(self, request: Request) -> Outputs:
        """What the next stage gives for these rows, asked together with others. Raises Overloaded if too many wait."""
        if self.refusal:
            return await self._next.infer(request)
        rows = row_count(request.inputs)
        if self.queue_rows and self.queue_rows + rows > self._limits.queue_rows_max:
            if self._has_more_than_his_share(rows):
                raise self._overloaded()
            self._make_room(rows)
        waiting = self._enter(request, rows)
        try:
            return await waiting.member.future
        finally:
            if waiting.member.future.cancel() or waiting.member.future.cancelled():  # the caller is gone
                self._leave(waiting)
            # A failure remembers this frame, and the future the failure: a ring that would hold the request's memory.
            del waiting

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
                (each for group in self._groups.values() for each in group.members.values() if each.peer == most),
                key=lambda waiting: waiting.number,
            )
            self._remove(last)
            last.member.fail(self._overloaded())

    def _overloaded(self) -> Overloaded:
        self.counts.refused += 1
        return Overloaded(
            f"the queue of model {self._name!r} holds {counted(self.queue_rows, 'row')} of {self._limits.queue_rows_max} "
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
        if self._meter is not None:
            self._meter.leave(self.numbers)

    # --- waiting ---

    def _enter(self, request: Request, rows: int) -> _Waiting:
        now = asyncio.get_running_loop().time()
        due = now + self._limits.wait_s
        if request.deadline is not None:
            # A caller in a hurry closes the batch when half of its time is gone.
            due = min(due, now + max(0.0, request.deadline - now) / 2)
        self._numbers += 1
        waiting = _Waiting(self._numbers, Member(request, rows), now, due)
        # What cannot be joined waits for its turn as a batch of its own.
        alone = not 0 < rows <= self._rows_max or self._evidence.rules_out(request)
        key: object = waiting.number if alone else self._likeness(request)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key)
        waiting.group = group
        group.members[waiting.number] = waiting
        group.rows += rows
        self.queue_rows += max(rows, 1)
        self._rows_of[waiting.peer] += max(rows, 1)
        if alone or due <= now or group.rows >= self._rows_worth:
            group.ready = True
        elif not group.ready:
            self._close_at(group, due)
        if group.ready:
            self._wake()
        return waiting

    @property
    def _rows_worth(self) -> int:
        return self._rows_max if self._gain is None else self._gain.rows_worth

    @property
    def _at_once(self) -> int:
        """How many batches may be with the model. One more for each thread where waiting makes no row cheaper."""
        return self._limits.at_once * (1 if self._rows_worth == self._rows_max else 2)

    def _likeness(self, request: Request) -> Likeness:
        likeness = likeness_of(request)
        ragged = self._limits.ragged
        return likeness if ragged is None else (ragged.loosen(likeness[0]), likeness[1], likeness[2])

    def _leave(self, waiting: _Waiting) -> None:
        run = waiting.run
        if waiting.group is not None:
            self._remove(waiting)
        elif run is not None:
            run.waiting -= 1
            if not run.waiting and run.task is not None:
                run.task.cancel()

    def _remove(self, waiting: _Waiting) -> None:
        """Take a member out of its group, and the group away when it was the last."""
        group, waiting.group = waiting.group, None
        assert group is not None
        rows = waiting.member.rows
        del group.members[waiting.number]
        group.rows -= rows
        self.queue_rows -= max(rows, 1)
        self._rows_of[waiting.peer] -= max(rows, 1)
        if not self._rows_of[waiting.peer]:
            del self._rows_of[waiting.peer]
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
            taken = self._take(min(ready, key=lambda group: group.oldest.number), loop.time())
            if taken:
                run = _Run([waiting.member for waiting in taken])
                for waiting in taken:
                    waiting.run = run
                self._running.add(run)
                run.task = loop.create_task(self._runner.answer(run.members))
                # Not in the task itself: one that is cancelled before its first step does not come to its `finally`.
                run.task.add_done_callback(partial(self._on_end, run))

    def _take(self, group: _Group, now: float) -> list[_Waiting]:
        """A group's oldest members that fit into one batch, by turns of their peers, without those whose time is over."""
        taken: list[_Waiting] = []
        rows, rows_max = 0, self._rows_max if self._gain is None else self._gain.rows_for_next()
        in_turn = list(group.members.values())
        if group.rows > rows_max and len(self._rows_of) > 1:
            in_turn = by_turns(in_turn, lambda waiting: waiting.peer)
        for waiting in in_turn:
            member = waiting.member
            deadline = member.request.deadline
            if deadline is not None and now > deadline:
                self._remove(waiting)
                member.fail(DeadlineExceeded("the caller's deadline passed while the request waited; it was not run"))
                continue
            if taken and rows + member.rows > rows_max:
                break
            self._remove(waiting)
            taken.append(waiting)
            rows += member.rows
            self.counts.wait_s += now - waiting.came
            if self._meter is not None:
                self._meter.waited_for_batch(now - waiting.came)
        if group.members:
            # The time of those who stay goes on; it does not begin anew.
            if group.timer is not None:
                group.timer.cancel()
                group.timer = None
            due = min(waiting.due for waiting in group.members.values())
            group.ready = due <= now or group.rows >= self._rows_worth
            if not group.ready:
                self._close_at(group, due)
        return taken

    def _on_end(self, run: _Run, task: asyncio.Task[None]) -> None:
        self._running.discard(run)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            FAILURES.tell(log, "a batch of model %r came to no end", self._name, error=error)
        for member in run.members:
            # However it ended, nobody waits for it for ever.
            member.fail(ModelFailed(f"the batch of model {self._name!r} that held this request came to no end"))
        self._wake()
