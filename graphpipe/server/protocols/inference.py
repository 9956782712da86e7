"""A service asked with arrays: what the protocols have in common that say names, types and shapes with every request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, ModelFailed
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.stages import Outputs, Request
from graphpipe.signature import Plan, Signature

__all__ = ["Inference", "Named", "rows_of"]

log = logging.getLogger("graphpipe.service")

# The outputs that were asked for, in order, each by the name that it was asked by.
Named = list[tuple[str, NDArray[Any]]]
_Head = tuple[tuple[np.dtype[Any], ...], tuple[tuple[int, ...], ...], tuple[str, ...], tuple[str, ...]]

_PLANS_MAX = 256
# Heads with more names, or longer ones, are not remembered.
_NAMES_MAX = 64
_CHARACTERS_MAX = 8 * 1024
# Converting this much on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024


class Inference:
    """One service, for requests whose tensors have been read. What their heads meant is remembered."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._plans: dict[_Head, Plan] = {}
        self._signature: Signature | None = None
        self._signature = self.signature

    @property
    def signature(self) -> Signature:
        """What the model says at this moment that it takes and gives. Raises ModelFailed."""
        try:
            shown = self.service.model.signature
        except BaseException as error:
            raise self._unknown(error) from None
        if shown is not self._signature:  # the model behind a remote model was replaced by another
            self._signature = shown
            self._plans.clear()
        return shown

    def infer(
        self,
        names: Sequence[str],
        arrays: Sequence[NDArray[Any]],
        outputs: Sequence[str] = (),
        config: str = "",
        deadline: float | None = None,
        request_id: str = "",
    ) -> Named | Coroutine[Any, Any, Named]:
        """The outputs, or a coroutine that gives them where that takes waiting.

        Array i is the input ``names[i]``; no ``outputs`` means all that the model gives by default. Raises ServiceError,
        here or in the coroutine.
        """
        plan = self._plan(names, arrays, outputs)
        at_once = self.service.at_once
        if at_once is None or (not plan.plain and sum([array.nbytes for array in arrays]) >= _OFF_LOOP_FROM):
            return self._infer(plan, arrays, outputs, config, deadline, request_id)
        request = Request(plan.inputs(arrays), plan.outputs, config, deadline, 0.0, request_id)
        return self._named(at_once(request), plan, outputs)

    async def _infer(
        self,
        plan: Plan,
        arrays: Sequence[NDArray[Any]],
        outputs: Sequence[str],
        config: str,
        deadline: float | None,
        request_id: str,
    ) -> Named:
        if plan.plain or sum(array.nbytes for array in arrays) < _OFF_LOOP_FROM:
            inputs = plan.inputs(arrays)
        else:
            inputs = await asyncio.get_running_loop().run_in_executor(None, plan.inputs, arrays)
        del arrays  # the request holds them now; nobody else may
        request = Request(inputs, plan.outputs, config, deadline, 0.0, request_id)
        del inputs
        return self._named(await self.service.stage.infer(request), plan, outputs)

    def _named(self, given: Outputs, plan: Plan, asked: Sequence[str]) -> Named:
        if not plan.outputs:
            return list(given.items())
        names = asked or plan.outputs
        return [(name or known, given[known]) for name, known in zip(names, plan.outputs, strict=True)]

    def check_number(self, number: int) -> None:
        """Raise InvalidRequest if so many inputs are more than there are, before anybody takes the trouble to read them.

        Of a few more the plan says which.
        """
        if number > _NAMES_MAX and not self.service.ignore_extra_inputs:
            signature = self.signature
            known = len(signature.inputs)
            if number > known and not signature.variadic:
                raise InvalidRequest(f"{number:,} inputs came, and the model has {known:,}; send each input once")

    def _plan(self, names: Sequence[str], arrays: Sequence[NDArray[Any]], outputs: Sequence[str]) -> Plan:
        head: _Head
        if len(arrays) == 1:  # nearly always
            head = ((arrays[0].dtype,), (arrays[0].shape,), tuple(names), tuple(outputs))
        else:
            dtypes, shapes = tuple([array.dtype for array in arrays]), tuple([array.shape for array in arrays])
            head = (dtypes, shapes, tuple(names), tuple(outputs))
        signature = self.signature
        plan = self._plans.get(head)
        if plan is None:
            plan = signature.plan(
                head[0],
                head[1],
                names,
                outputs,
                cast=self.service.cast,
                ignore_extra_inputs=self.service.ignore_extra_inputs,
            )
            called = head[2] + head[3]
            if len(called) <= _NAMES_MAX and sum(map(len, called)) <= _CHARACTERS_MAX:
                if len(self._plans) >= _PLANS_MAX:
                    self._plans.clear()
                self._plans[head] = plan
        return plan

    def _unknown(self, error: BaseException) -> ModelFailed:
        name = self.service.name
        FAILURES.tell(log, "model %r failed as it was asked what it is", name, error=error)
        return ModelFailed(f"model {name!r} does not say what it takes and gives; the server's log has the cause")


def rows_of(arrays: Sequence[NDArray[Any]]) -> int:
    """How many rows a request asks for: what came first decides, as inputs of different lengths have none in common."""
    return arrays[0].shape[0] if arrays and arrays[0].ndim else 1
