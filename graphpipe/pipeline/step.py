"""One stage's turn in a request: its inputs are looked up and checked, its model is called, its failures are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.failure import StageFailed, ends_the_program, refusal
from graphpipe.backends.loaded import as_it_would_arrive
from graphpipe.backends.model import named_arrays, owned
from graphpipe.errors import InvalidRequest, ModelFailed, ServiceError
from graphpipe.pipeline.part import Part
from graphpipe.pipeline.wiring import Wire
from graphpipe.signature import Plan, Signature
from graphpipe.words import listed, quoted

__all__ = ["Step"]

Array = NDArray[Any]
_PlanKey = tuple[tuple[str, ...], tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]]

_PLANS_MAX = 256


class Step:
    """One stage of a pipeline as it is run."""

    def __init__(self, part: Part, wire: Wire) -> None:
        self.name = part.name
        self._model = part.model
        self._wire = wire
        # A function that declares nothing takes any name that it does not give for its caller's mistake.
        self._is_read = bool(part.returns)
        self._cast = bool(part.settings.get("cast"))
        # Nobody writes to what a stage gave, nor is its memory used again: it may be passed on as it is.
        self._call = owned(part.model, inputs_are_ours=True)
        self._takes = tuple(wire.takes.items())
        self._may_take = tuple(wire.may_take.items())
        self._renames = {own: name for own, name in {**wire.gives, **wire.renames}.items() if own != name}
        self._plans: tuple[Signature, dict[_PlanKey, Plan]] = (part.model.signature, {})

    def run(
        self,
        values: Mapping[str, Array],
        before: Mapping[str, Array],
        asked: Sequence[str] | None,
        config: str,
        left_s: float | None,
    ) -> dict[str, Array]:
        """Call the model on its share of the ``values`` that there are; ``before`` is what the stage before it gave.

        Gives its outputs under the pipeline's names. Raises StageFailed, or the refusal that the model said, with the
        stage's name.
        """
        inputs = self.inputs(values, before)
        failed: BaseException
        try:
            return self.given(named_arrays(self._call(inputs, self.asked(asked), config, left_s), asked or ()))
        except BaseException as error:
            if ends_the_program(error):
                raise
            said = refusal(error)
            failed = StageFailed(self.name, "failed") if said is None else self.named(said)
            failed.__cause__ = error
        try:
            raise failed
        finally:
            del failed  # it remembers this frame

    def asked(self, asked: Sequence[str] | None) -> Sequence[str] | None:
        """Which of its outputs the model is told to give."""
        return None if self._is_read else asked

    def given(self, outputs: dict[str, Array]) -> dict[str, Array]:
        """What the model gave, under the pipeline's names, as the next one is to have it: contiguous, and text as bytes."""
        try:
            for name, array in outputs.items():
                if as_it_would_arrive(array, name) is not array:
                    outputs = {name: as_it_would_arrive(array, name) for name, array in outputs.items()}
                    break
        except ServiceError as error:  # it is not the caller's
            words = error.message
        else:
            if not self._renames:
                return outputs
            given = {self._renames.get(own, own): array for own, array in outputs.items()}
            if len(given) == len(outputs):
                return given
            words = f"{listed(list(outputs))} are {len(given)} names of the pipeline"
        raise ModelFailed(f"it gave what cannot be passed on: {words}")

    def named(self, error: ServiceError) -> ServiceError:
        """The same error with the stage's name before its words."""
        error.message = f"stage {self.name!r}: {error.message}"
        error.args = (error.message,)
        return error

    def inputs(self, values: Mapping[str, Array], before: Mapping[str, Array]) -> dict[str, Array]:
        """What the model takes of the values, checked. Raises InvalidRequest for a mistake of the caller's, ModelFailed for
        one of the stages before.
        """
        if self._wire.takes_all:
            return dict(before)
        try:
            given = {own: values[name] for own, name in self._takes}
        except KeyError as error:
            missing = error.args[0]
            said = (
                f"stage {self.name!r} takes {quoted(missing)}, which neither a stage before it gave nor the caller sent; "
                f"there are {listed(list(values)) or 'none'}"
            )
            raise (InvalidRequest if missing in self._wire.sent else ModelFailed)(said) from None
        for own, name in self._may_take:
            if name in values:
                given[own] = values[name]
        arrays = list(given.values())
        return self._plan(tuple(given), arrays).inputs(arrays)

    def _plan(self, names: tuple[str, ...], arrays: Sequence[Array]) -> Plan:
        signature, plans = self._plans
        if self._model.signature is not signature:  # what a remote model is may change
            signature, plans = self._plans = self._model.signature, {}
        # A check depends on nothing else, and requests are alike.
        key = (names, tuple([(array.dtype, array.shape) for array in arrays]))
        plan = plans.get(key)
        if plan is None:
            try:
                plan = signature.plan([a.dtype for a in arrays], [a.shape for a in arrays], names, cast=self._cast)
            except InvalidRequest as error:
                # What stages give one another is none of the caller's mistakes.
                said = self.named(error) if self._wire.sent else ModelFailed(f"stage {self.name!r}: {error}")
                raise said from None
            if len(plans) >= _PLANS_MAX:
                plans.clear()
            plans[key] = plan
        return plan
