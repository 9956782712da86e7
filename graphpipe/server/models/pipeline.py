"""A pipeline whose stages are services of their own: each has its threads, its batcher, its cache and its numbers.

A request goes from service to service on the event loop, and waits in each one's queue as its own callers do. It holds
all of them from its beginning to its end, so that one that is replaced meanwhile answers it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from graphpipe.errors import Overloaded, ServiceError
from graphpipe.pipeline.flow import Flow, Turn
from graphpipe.pipeline.step import Step
from graphpipe.server.models.service import Service
from graphpipe.server.models.walk import Walk, of_stage, question
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.stages import Outputs, Request
from graphpipe.server.stages.aside import aside

__all__ = ["PipelineStage"]

Array = NDArray[Any]


class PipelineStage:
    """Asks the services that are a pipeline's stages, one after another, or side by side where they wait for different ones.

    The services are others' to close. Belongs to one event loop.
    """

    def __init__(self, flow: Flow, parts: Sequence[Service], name: str, meter: Meter) -> None:
        self._flow = flow
        self._parts = tuple(parts)
        self._name = name
        self._meter = meter
        self._followers = _followers(flow.sources) if flow.sources is not None else None
        self.quick = all(part.at_once is not None for part in parts)

    async def infer(self, request: Request) -> Outputs:
        """What the pipeline gives. A failure names its stage; what runs beside it is cancelled."""
        if any(part.is_gone for part in self._parts):
            raise Overloaded(f"pipeline {self._name!r} has been replaced by another one; try again")
        began = perf_counter()
        for part in self._parts:
            part.hold()
        try:
            wanted = tuple(request.outputs) or self._flow.output_names
            turns = self._flow.turns(wanted)
            if self._followers is None:
                values, last = await self._in_order(request, turns)
            else:
                values, last = await self._side_by_side(request, turns, self._followers)
            outputs = self._flow.answer(request.inputs, wanted, values, last)
        finally:
            for part in self._parts:
                part.release()
        request.run_s = perf_counter() - began
        self._meter.ran(0.0, request.run_s)
        return outputs

    def at_once(self, request: Request) -> Outputs:
        """The same here and now, where all stages are quick."""
        began = perf_counter()
        wanted = tuple(request.outputs) or self._flow.output_names
        values: dict[str, Array] = dict(request.inputs)
        last: Mapping[str, Array] = request.inputs
        for step, part, turn in zip(self._flow.steps, self._parts, self._flow.turns(wanted), strict=True):
            last = self._asked_at_once(step, part, question(step, turn, step.inputs(values, last), request))
            values.update(last)
        outputs = self._flow.answer(request.inputs, wanted, values, last)
        self._meter.ran(0.0, perf_counter() - began)
        return outputs

    async def _in_order(self, request: Request, turns: Sequence[Turn]) -> tuple[dict[str, Array], Mapping[str, Array]]:
        walk = Walk(self._flow.steps, self._parts, turns, request)
        try:
            while walk.at < len(turns):
                await walk.go_on()
            return walk.values, walk.last
        finally:
            walk.end()

    async def _side_by_side(
        self, request: Request, turns: Sequence[Turn], followers: Sequence[Sequence[int]]
    ) -> tuple[dict[str, Array], Mapping[str, Array]]:
        sources = self._flow.sources
        assert sources is not None, "these are known, or nobody knows who follows whom"
        missing = [len(set(each.values())) for each in sources]
        outputs: list[dict[str, Array]] = [{} for _ in sources]
        ready = [i for i, count in enumerate(missing) if not count]
        running: dict[asyncio.Task[dict[str, Array]], int] = {}

        def ask(i: int) -> Any:
            values: dict[str, Array] = dict(request.inputs)
            values.update({name: outputs[j][name] for name, j in sources[i].items() if name in outputs[j]})
            return self._ask(i, turns[i], values, request.inputs, request)

        def done(i: int, given: dict[str, Array]) -> None:
            outputs[i] = given
            for follower in followers[i]:
                missing[follower] -= 1
                if not missing[follower]:
                    ready.append(follower)

        try:
            while ready or running:
                if len(ready) == 1 and not running:
                    i = ready.pop()
                    done(i, await ask(i))
                    continue
                running.update({asyncio.ensure_future(ask(i)): i for i in ready})
                ready.clear()
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                # One leaves when it is heard: of two that failed at once the other is let go of below.
                for task in sorted(ended, key=running.__getitem__):
                    done(running.pop(task), task.result())
        finally:
            for task in running:
                task.cancel()
                task.add_done_callback(_hear)
            # An error that comes out of here remembers this frame.
            running.clear()
            ended = task = None  # type: ignore[assignment]
        values = dict(request.inputs)
        for each in outputs:
            values.update(each)
        return values, outputs[-1]

    async def _ask(
        self, i: int, turn: Turn, values: Mapping[str, Array], before: Mapping[str, Array], request: Request
    ) -> dict[str, Array]:
        step, part = self._flow.steps[i], self._parts[i]
        inner = question(step, turn, step.inputs(values, before), request)
        failed: ServiceError
        try:
            given = part.at_once(inner) if part.at_once is not None else await part.stage.infer(inner)
            return await aside(step.given, given)
        except ServiceError as error:
            failed = of_stage(step, error)
        try:
            raise failed
        finally:
            del failed  # it remembers this frame

    def _asked_at_once(self, step: Step, part: Service, inner: Request) -> dict[str, Array]:
        assert part.at_once is not None, "a pipeline is quick where its stages are"
        failed: ServiceError
        try:
            return step.given(part.at_once(inner))
        except ServiceError as error:
            failed = of_stage(step, error)
        try:
            raise failed
        finally:
            del failed  # it remembers this frame

    def admit(self) -> None:
        """Raise Overloaded if a stage would refuse every request now."""
        for part in self._parts:
            part.stage.admit()

    @property
    def waiting(self) -> int:
        """How many requests wait for a stage, its own callers' among them."""
        return sum([part.stage.waiting for part in self._parts])

    def close(self) -> None:
        """Nothing: the stages are services, which close themselves."""


def _followers(sources: Sequence[Mapping[str, int]]) -> list[list[int]] | None:
    """Of each stage those that wait for it; None where each one waits for all before it anyway."""
    before: list[set[int]] = []
    for each in sources:
        before.append(set(each.values()).union(*(before[j] for j in each.values())))
    if all(len(each) == i for i, each in enumerate(before)):
        return None
    followers: list[list[int]] = [[] for _ in sources]
    for i, each in enumerate(sources):
        for j in set(each.values()):
            followers[j].append(i)
    return followers


def _hear(task: asyncio.Task[Any]) -> None:
    """Of what was cancelled nobody needs to hear how it ended."""
    if not task.cancelled():
        task.exception()
