"""A model in this process, with the promises of a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import flag, named_tensors, names, seconds, text
from graphpipe.arrays import OutputsAs, array_of, has_own_type
from graphpipe.arrays import outputs_as as arrays_as
from graphpipe.backends.failure import ends_the_program, refusal
from graphpipe.backends.model import Model, named_arrays, owned
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import ModelFailed
from graphpipe.signature import Plan, Signature, fitted
from graphpipe.wire.dtypes import to_bytes, to_sendable

__all__ = ["LoadedModel"]

Array = NDArray[Any]
_PlanKey = tuple[tuple[str, ...], tuple[str, ...], bool, tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]]
_PLANS_MAX = 256
_PLAN_TEXT_MAX = 4096


def _as_it_would_arrive(array: Array, name: str) -> Array:
    """An input as a model sees it that is called from far: text as bytes."""
    dtype = array.dtype
    if (
        dtype.kind in "iuf"
        and dtype.isbuiltin == 1
        and dtype.isnative
        and dtype.itemsize <= 8
        and array.flags.c_contiguous
    ):
        return array
    what = repr(name)
    _, array = to_sendable(array, what)
    if array.dtype.kind != "O" or all(type(item) is bytes for item in array.flat):
        return array
    texts = np.empty(array.size, object)
    texts[:] = [to_bytes(item, what) for item in array.reshape(-1)]
    return texts.reshape(array.shape)


class LoadedModel:
    """A model at this process's edge: what ``graphpipe.load`` gives.

    The same promises as a client's ``infer`` makes, without a socket between: any arrays in, checked before the model
    sees them, the same errors out.
    """

    def __init__(
        self, model: Model, name: str, source: str = "", options: LoadOptions | None = None, backend: str = ""
    ) -> None:
        self.model = model
        self.name = name
        # How it was loaded, for whoever keeps its answers.
        self.source, self.options, self.backend = source, options, backend
        self._run = owned(model, inputs_are_ours=False)
        self._plans: tuple[Signature, dict[_PlanKey, Plan]] = (model.signature, {})

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        try:
            return self.model.signature
        except BaseException as cause:
            if ends_the_program(cause):
                raise
            raise ModelFailed(f"model {self.name!r} does not say what it takes") from cause

    @property
    def version(self) -> str:
        """A digest of what it was made from; empty where there is none."""
        return str(getattr(self.model, "version", ""))

    @property
    def description(self) -> str:
        """A sentence for people; may be empty."""
        return str(getattr(self.model, "description", ""))

    def infer(
        self,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        cast: bool = False,
        timeout_s: float | None = None,
        outputs_as: OutputsAs = "numpy",
    ) -> dict[str, Any]:
        """Run the model once and give the ``outputs`` asked for (None: the defaults) by name.

        ``inputs`` are arrays, tensors of any framework, columns, buffers (looked at where they lie, if they can be), or
        lists and numbers, which take the model's element type. ``cast`` allows conversion between other numbers too.
        ``timeout_s`` is told to models that can make use of it. ``outputs_as="torch"`` gives tensors.

        Raises InvalidRequest if they do not fit the signature, ModelFailed if the model raised (the cause is attached).
        """
        inputs, outputs = named_tensors(inputs), names(outputs, "outputs", gaps=False) if outputs is not None else ()
        config, cast = text(config, "config"), flag(cast, "cast")
        if timeout_s is not None:
            timeout_s = seconds(timeout_s, "timeout_s")
        arrays = [_as_it_would_arrive(self._fitted(name, value), name) for name, value in inputs.items()]
        plan = self._plan(tuple(inputs), arrays, outputs, cast)
        try:
            inputs = plan.inputs(arrays)
            results = named_arrays(self._run(inputs, plan.outputs or None, config, timeout_s), plan.outputs)
            # Asked for as `y`, given as `y`, even if the model calls it `y:0`.
            results = dict(zip(outputs, map(results.__getitem__, plan.outputs), strict=True)) if outputs else results
        except BaseException as cause:
            if refusal(cause) is not None or ends_the_program(cause):
                raise
            raise ModelFailed(f"model {self.name!r} failed on this input") from cause
        return arrays_as(results, outputs_as)

    def _plan(self, names: tuple[str, ...], arrays: list[Array], outputs: tuple[str, ...], cast: bool) -> Plan:
        signature, plans = self._plans
        if self.signature is not signature:  # what a remote model is may change, and other threads may be planning
            signature, plans = self._plans = self.signature, {}
        # Callers repeat themselves, and a check depends on nothing else.
        key = (names, outputs, cast, tuple([(array.dtype, array.shape) for array in arrays]))
        plan = plans.get(key)
        if plan is None:
            plan = signature.plan([a.dtype for a in arrays], [a.shape for a in arrays], names, outputs, cast=cast)
            if sum(map(len, names)) + sum(map(len, outputs)) <= _PLAN_TEXT_MAX:
                if len(plans) >= _PLANS_MAX:
                    plans.clear()
                plans[key] = plan
        return plan

    def _fitted(self, name: str, value: object) -> Array:
        if type(value) is np.ndarray:
            return value
        if has_own_type(value):
            return array_of(value, repr(name))
        dtype = next((spec.dtype for spec in self.signature.inputs if spec.name == name), None)
        return fitted(value, dtype, False, name)

    def close(self) -> None:
        """Give back what the model holds."""
        self.model.close()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.signature}>"

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
