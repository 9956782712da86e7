"""How a batch is run, and its answer split: one call for the rows of several members, and what is done where that fails.

When a joined call fails its members are run alone, so that only the owner of the bad row gets the error. Where an output
turns out not to follow the rows, nothing is joined any more.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import (
    DeadlineExceeded,
    Forbidden,
    NotFound,
    NotReady,
    Overloaded,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
    let_go,
)
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.stages.batching.gain import BatchGain
from graphpipe.server.stages.batching.limits import BatchCounts, BatchLimits
from graphpipe.server.stages.rows import Against, RowEvidence, join
from graphpipe.server.stages.stage import Outputs, Request, Stage

__all__ = ["BatchRunner", "Member"]

log = logging.getLogger("graphpipe.batcher")

# Joining this many bytes on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024

# So many joined calls in a row may fail whose members succeed alone.
_FAILURES_MAX = 3
# Of what the callers in a batch call their requests, so many characters are told.
_IDS_MAX = 256

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


class Member:
    """A request in a batch, and the future that its caller waits for."""

    __slots__ = ("future", "request", "rows")

    def __init__(self, request: Request, rows: int) -> None:
        self.request = request
        self.rows = rows
        self.future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

    def deliver(self, outputs: Outputs) -> None:
        """Hand out the answer, if anybody waits for it."""
        if not self.future.done():
            self.future.set_result(outputs)

    def fail(self, error: Exception) -> None:
        """Hand out a failure, if anybody waits."""
        if not self.future.done():
            self.future.set_exception(let_go(error))
            self.future.exception()  # a caller who leaves just now will not look at it, and nobody need be told


class BatchRunner:
    """Runs batches of members on the next stage. ``refusal`` says why nothing is joined any more; empty: it is."""

    def __init__(
        self,
        limits: BatchLimits,
        following: Stage,
        evidence: RowEvidence,
        name: str,
        counts: BatchCounts,
        gain: BatchGain | None,
        meter: Meter | None,
    ) -> None:
        self.refusal = ""
        self._limits = limits
        self._next = following
        self._evidence = evidence
        self._name = name
        self._counts = counts
        self._gain = gain
        self._meter = meter
        self._failures = 0

    async def answer(self, members: Sequence[Member]) -> None:
        """Answer all of them, together if they are several and that is possible."""
        if len(members) > 1 and not self.refusal and await self._together(members):
            return
        for member in members:
            if not member.future.done():
                await self._alone(member)

    async def _together(self, members: Sequence[Member]) -> bool:
        """Answer all of them with one call. False if that gave nothing that can be handed out."""
        ragged = self._limits.ragged
        try:
            outputs = await self._call([member.request for member in members], sum(member.rows for member in members))
            start = 0
            for member in members:
                end = start + member.rows
                part = {name: array[start:end] for name, array in outputs.items()}
                member.deliver(part if ragged is None else ragged.cut(part, member.request.inputs))
                start = end
        except _NotByRows as found:
            self._refuse(self._not_by_rows(found.against))
            return False
        except _EVERYBODYS as error:
            for member in members:
                member.fail(copy.copy(error))
        except Exception as error:
            self._counts.retried_alone += len(members)
            await self._one_by_one(members, error)
            return True
        self._failures = 0
        return True

    async def _one_by_one(self, members: Sequence[Member], error: Exception) -> None:
        """Find the member that made the joined call fail; if there is none, it was the joining."""
        failed = False
        for member in members:
            if not member.future.done():
                await self._alone(member)
            failed = failed or member.future.cancelled() or member.future.exception() is not None
        self._failures = 0 if failed else self._failures + 1
        # Its words are for callers: they may quote what was sent.
        if self._failures >= _FAILURES_MAX:
            self._refuse(
                f"model {self._name!r} fails on joined rows and not on the same rows alone ({type(error).__name__})"
            )

    async def _alone(self, member: Member) -> None:
        try:
            member.deliver(await self._plain(member.request, member.rows))
        except Exception as error:
            member.fail(error)

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
            ids = ",".join([request.request_id for request in requests if request.request_id])[:_IDS_MAX]
            inputs = await self._join(requests, size)
            request = Request(inputs, first.outputs, first.config, latest, request_id=ids)
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
            asked = replace(request, inputs=join([one.inputs], other), run_s=0.0)
            against = self._evidence.add(asked, await self._next.infer(asked), other)
            if against is not None:
                raise _NotByRows(against)

    async def _join(self, requests: Sequence[Request], size: int) -> dict[str, NDArray[Any]]:
        ragged = self._limits.ragged
        parts = [request.inputs for request in requests]

        def work() -> dict[str, NDArray[Any]]:
            return join(parts if ragged is None else ragged.pad(parts), size)

        if sum(array.nbytes for part in parts for array in part.values()) < _OFF_LOOP_FROM:
            return work()
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def _count(self, rows: int, requests: int, padding_rows: int) -> None:
        counts = self._counts
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
    return replace(request, inputs=inputs, run_s=0.0)
