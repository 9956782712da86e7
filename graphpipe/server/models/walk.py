"""One request on its way through the services that are a pipeline's stages, one after another.

What follows a stage is short more often than not, and to wake the event loop and another thread for it would take longer
than it does: the thread that ran the one stage goes on with the next where that keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from graphpipe.backends.failure import refusal
from graphpipe.errors import ModelFailed, ServiceError, let_go
from graphpipe.pipeline.flow import Turn
from graphpipe.pipeline.step import Step
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.stages import Request
from graphpipe.server.stages.aside import aside

__all__ = ["Walk", "of_stage", "question"]

Array = NDArray[Any]

log = logging.getLogger("graphpipe.model")


class Walk:
    """``values`` has what there is so far, ``last`` what the stage before the next one gave; ``at`` is the next one."""

    def __init__(
        self, steps: Sequence[Step], parts: Sequence[Service], turns: Sequence[Turn], request: Request
    ) -> None:
        self.values: dict[str, Array] = dict(request.inputs)
        self.last: Mapping[str, Array] = request.inputs
        self.at = 0
        self._steps, self._parts, self._turns = steps, parts, turns
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self._failed: ServiceError | None = None
        # What ran as another's guest, which its meter is to be told of on the loop.
        self._ran: list[tuple[Service, float]] = []

    async def go_on(self) -> None:
        """Ask the next stage, and maybe some that follow it. Raises ServiceError, which names the stage."""
        i = self.at
        step, part = self._steps[i], self._parts[i]
        failed: ServiceError
        try:
            inner = question(step, self._turns[i], step.inputs(self.values, self.last), self._request)
            if part.at_once is not None:
                self._took(step.given(part.at_once(inner)))
                return
            if part.as_guest is not None and i + 1 < len(self._parts) and self._parts[i + 1].as_guest is not None:
                inner.then = self._then
            outputs = await part.stage.infer(inner)
            if self._failed is None and self.at == i:
                self._took(await aside(step.given, outputs))
        except ServiceError as error:
            failed = of_stage(step, error)
        else:
            if self._failed is None:
                return
            failed, self._failed = self._failed, None
        try:
            raise failed
        finally:
            del failed  # it remembers this frame

    def _then(self, outputs: dict[str, Array]) -> None:
        """Go on in the thread of the stage that gave these outputs."""
        step = self._steps[self.at]
        try:
            if self._is_over:
                return
            self._took(step.given(outputs))
            while self.at < len(self._parts) and not self._is_over:
                step, part = self._steps[self.at], self._parts[self.at]
                if part.as_guest is None:
                    return
                inner = question(step, self._turns[self.at], step.inputs(self.values, self.last), self._request)
                found = part.as_guest(inner, self._loop.time(), partial(self._note, part))
                if found is None:
                    return
                self._took(step.given(found))
        except ServiceError as error:
            self._failed = let_go(of_stage(step, error))
        except BaseException as error:  # out of memory, say; the thread is another model's
            FAILURES.tell(log, "stage %r of a pipeline failed", step.name, error=error)
            let_go(error)
            self._failed = ModelFailed(f"stage {step.name!r} failed on this input ({type(error).__name__})")
        finally:
            if self._is_over and self._ran:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                    self._loop.call_soon_threadsafe(self._tell_meters)

    def _note(self, part: Service, seconds: float) -> None:
        self._ran.append((part, seconds))

    def _took(self, given: dict[str, Array]) -> None:
        self.last = given
        self.values.update(given)
        for name in self._turns[self.at].done:
            self.values.pop(name, None)
        self.at += 1

    def end(self) -> None:
        """No stage is begun any more. The meters hear of those that were run as guests."""
        self._is_over = True
        self._tell_meters()

    def _tell_meters(self) -> None:
        while self._ran:
            part, seconds = self._ran.pop(0)
            part.meter.ran(0.0, seconds)


def question(step: Step, turn: Turn, inputs: dict[str, Array], request: Request) -> Request:
    """What a request is to the service of one stage."""
    asked = tuple(step.asked(turn.asked) or ())
    return Request(inputs, asked, request.config, request.deadline, 0.0, request.request_id)


def of_stage(step: Step, error: ServiceError) -> ServiceError:
    """The same error, as one of this request's own: others of a batch may have got this one too."""
    return step.named(refusal(error) or error)
