"""The one idea of this package: whatever answers an inference is a Model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import flag, named_tensors, names, seconds, text
from graphpipe.arrays import OutputsAs, array_of, has_own_type
from graphpipe.arrays import outputs_as as arrays_as
from graphpipe.backends.failure import ends_the_program, refusal
from graphpipe.backends.owned import own, read_only
from graphpipe.errors import ModelFailed, ServiceError
from graphpipe.signature import Plan, Signature, fitted
from graphpipe.wire.dtypes import to_bytes, to_sendable

if TYPE_CHECKING:
    from graphpipe.backends.find import LoadOptions

__all__ = ["Backend", "LoadedModel", "Model", "named_arrays", "owned", "timed"]

Array = NDArray[Any]
Call = Callable[[Mapping[str, Array], Sequence[str] | None, str, float | None], dict[str, Array]]
_PlanKey = tuple[tuple[str, ...], tuple[str, ...], bool, tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]]
_PLANS_MAX = 256


@runtime_checkable
class Model(Protocol):
    """Named arrays in, named arrays out; safe to call from several threads at once.

    A model may also have ``version`` (a digest of what it was made from: equal versions give equal answers),
    ``description``, ``quick = True`` if it needs so little time that a server may run it on its event loop, and
    ``threads``, how many calls it makes sense to run at once where that is not the number of CPUs (it waits more than
    it works, or it allows only one). ``runtime`` is what computes its answers, with its version: "onnxruntime 1.23".

    ``shares_memory = False`` says that it writes to no input, and gives only arrays that may be written to and that
    nobody else holds; others are shown their inputs read-only, and what they give is looked at (owned.py).
    ``gives_inputs = True`` says that all it does is to give inputs back as they are.

    An ``infer`` that declares ``timeout_s`` is told how many seconds its caller will still wait (None: nobody said).
    Only a model that can pass this on, or stop in time, has a use for it.
    """

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run once and give the ``outputs`` asked for (None: the defaults) by name.

        ``inputs`` have been checked against the signature, are C-contiguous and little-endian, may be read-only and may
        start at any address; strings are object arrays of bytes. ``config`` is whatever the caller sent, opaque to all
        but the model.
        """
        ...

    def close(self) -> None:
        """Give back what it holds. It is not called again afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """How sources of one kind become models.

    ``matches`` looks at a source's name, or at the file, without importing the framework; ``open`` loads it, and raises
    LoadError with one clear line if it cannot.
    """

    name: str
    matches: Callable[[str], bool]
    open: Callable[[str, LoadOptions], Model]


def timed(model: Model) -> Call:
    """The model's ``infer`` as a call with the inputs, the outputs, the config and the seconds that are left.

    Whether the model wants to know the last is found out here, once.
    """
    infer: Any = model.infer
    try:
        parameters = inspect.signature(infer).parameters
    except (TypeError, ValueError):  # not written in Python
        parameters = {}  # type: ignore[assignment]
    if "timeout_s" in parameters:
        return lambda inputs, outputs, config, left_s: infer(inputs, outputs, config=config, timeout_s=left_s)
    return lambda inputs, outputs, config, left_s: infer(inputs, outputs, config=config)


def named_arrays(outputs: Any, wanted: Sequence[str]) -> dict[str, Array]:
    """What a model gave, as arrays by name, those that were ``wanted`` among them.

    Raises something if it is not that: whoever wrote the model may have given anything.
    """
    if type(outputs) is dict:
        # Each request passes here: 0.15 us.
        ndarray, get = np.ndarray, outputs.get
        for name in wanted:
            if type(get(name)) is not ndarray:
                break
        else:
            if wanted:
                return outputs
            for name in outputs:
                if type(name) is not str or type(get(name)) is not ndarray:
                    break
            else:
                return outputs
    if not isinstance(outputs, Mapping):
        raise TypeError(f"the model gave a {type(outputs).__name__} where arrays by name were expected")
    for name in wanted:
        if name not in outputs:
            raise ValueError(f"the model gave {', '.join(map(repr, outputs))}, but not {name!r}")
    return {name: _array(outputs[name], name) for name in wanted or outputs}


def _array(value: object, name: object) -> Array:
    if type(name) is not str:
        raise TypeError(f"the model gave an output whose name is a {type(name).__name__}")
    try:
        return np.asarray(array_of(value, f"output {name!r}"))
    except ServiceError as error:  # it is not the caller's
        raise ValueError(error.message) from None


def owned(model: Model, *, inputs_are_ours: bool) -> Call:
    """The same, and whatever the model does: inputs are left as they were, and outputs are nobody else's.

    ``inputs_are_ours`` says that nobody will write to the inputs or use their memory again.
    """
    infer = timed(model)
    if not getattr(model, "shares_memory", True) or (inputs_are_ours and getattr(model, "gives_inputs", False)):
        return infer

    def call(
        inputs: Mapping[str, Array], outputs: Sequence[str] | None, config: str, left_s: float | None
    ) -> dict[str, Array]:
        inputs = read_only(inputs)
        try:
            # Passed on right away: a name for the results would be one who holds them.
            return own(infer(inputs, outputs, config, left_s), inputs, inputs_are_ours=inputs_are_ours)
        except ValueError as error:
            if "read-only" in str(error):
                raise ValueError(
                    "the model wrote to a read-only array; inputs are read-only: have it write to a copy, x = x.copy()"
                ) from error
            raise

    return call


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
