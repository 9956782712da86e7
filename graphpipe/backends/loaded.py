"""A model in this process, with the promises of a client."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from graphpipe.arguments import flag, named_tensors, names, one_input, one_tensor, seconds, some_outputs, tensors, text
from graphpipe.arrays import OutputsAs, array_of, has_own_type
from graphpipe.backends.called import Callee, Form, called, form_of
from graphpipe.backends.failure import StageFailed, ends_the_program, refusal
from graphpipe.backends.model import Model, named_arrays, owned
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.sealed import Sealed
from graphpipe.backends.waiting import BoundedRuns
from graphpipe.errors import DeadlineExceeded, GraphPipeError, InvalidRequest, ModelFailed, TimedOut
from graphpipe.forms import in_form
from graphpipe.frames import Frame, inputs_of, is_frame, tensor_of_one
from graphpipe.signature import Plan, Signature, fitted
from graphpipe.wire.describe import metadata_of
from graphpipe.wire.dtypes import to_bytes, to_sendable
from graphpipe.wire.messages import MetadataResponse

__all__ = ["LoadedModel", "as_it_would_arrive"]

Array = NDArray[Any]
_PlanKey = tuple[tuple[str, ...], tuple[str, ...], bool, tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]]
_PLANS_MAX = 256
_PLAN_TEXT_MAX = 4096


def as_it_would_arrive(array: Array, name: str) -> Array:
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

    The same calls and promises as a client's, without a socket between: any arrays in, checked before the model sees
    them, the same errors out. Only silence is different: NoAnswer is no more than a ``timeout`` that passed.
    """

    def __init__(
        self, model: Model, name: str, source: str = "", options: LoadOptions | None = None, backend: str = ""
    ) -> None:
        self.model = model
        self.name = name
        # How it was loaded, for whoever keeps its answers.
        self.source, self.options, self.backend = source, options, backend
        self.closed = False
        self._bounded = BoundedRuns()
        self._keeps_deadlines = bool(getattr(model, "keeps_deadlines", False))
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

    # --- arrays that have their way behind them ---

    def empty(self, name: str, shape: Sequence[int], dtype: DTypeLike | None = None) -> Array:
        """An array for an input, of no particular content, where the model takes it from: to one that is isolated it goes
        without a copy. ``dtype`` is the input's own, unless it has none or another is said.

        Raises InvalidRequest if nobody says the type, ValueError or TypeError for what is no shape.
        """
        said = next((spec.dtype for spec in self.signature.inputs if spec.name == name), None)
        kind = said if dtype is None else np.dtype(dtype)
        if kind is None:
            raise InvalidRequest(f"nothing says the type of input {name!r}; say it: empty({name!r}, shape, 'float32')")
        dims = tuple(operator.index(dim) for dim in shape)
        if min(dims, default=0) < 0:
            raise ValueError(f"shape {list(dims)} has a dimension below 0")
        own = getattr(self.model, "empty", None)
        return np.empty(dims, kind) if own is None else own(dims, kind)

    def seal(self, name: str, value: object) -> Array | Sealed:
        """An input that is on its way from now on, for ``infer`` to take in place of the value, once or several times. The
        value must not change before that call; to a model in this process it goes as it is.

        Raises InvalidRequest if it is no array.
        """
        array = self._fitted(name, value)
        own = getattr(self.model, "empty", None)
        return array if own is None or array.dtype.kind not in "biuf" else Sealed(array, own(array.shape, array.dtype))

    # --- called like a function ---

    def __call__(self, /, *inputs: Any, **named: Any) -> Any:
        """Run the model on its inputs in their order, or by name: the output where it declares one, else a dict of them by
        name. In a function that ``graphpipe.trace`` runs this is a stage of its pipeline.

        Raises what ``infer`` raises, TypeError for inputs that the model does not have.
        """
        return called(Callee(self, self.name, self.signature, self._called), inputs, named)

    def _called(self, inputs: dict[str, Any]) -> tuple[dict[str, Array], Form]:
        return self.infer(inputs), form_of(self.signature)

    # --- calls: those of a client ---

    @overload
    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: str | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Array | Any: ...

    @overload
    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: list[str] | tuple[str, ...] = ...,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[Array]: ...

    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: str | list[str] | tuple[str, ...] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Array | list[Array]:
        """Run the model on one input: an array if there is one output, else a list of them.

        ``output_name`` may be a list of names: the answer is then a list, in their order. ``value`` is an array, lists
        and numbers, which take the model's element type, or a frame, whose columns become one tensor ``[n, columns]``.
        The rest is as in ``infer``.
        """
        name, asked = one_input(input_name), some_outputs(output_name)
        config, cast = text(config, "config"), flag(cast, "cast")
        if is_frame(value):
            value, cast = tensor_of_one(value, self.signature, name, cast), False
        outputs = self._execute([one_tensor(value)], name, asked, config, cast, self._call_s(timeout, headers))
        several = output_name is not None and not isinstance(output_name, str)
        return outputs if several or len(outputs) != 1 else outputs[0]

    def execute_multi(
        self,
        inputs: Sequence[object],
        input_names: Sequence[str | None] | None = None,
        output_names: Sequence[str | None] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[Array]:
        """Run the model on several inputs: the outputs in the order asked for, repeats included.

        Without names the inputs are the model's default inputs, in order, and its default outputs are answered.
        """
        asked = names(output_names, "output_names")
        return self._execute(
            tensors(inputs), names(input_names, "input_names"), asked, text(config, "config"), flag(cast, "cast"),
            self._call_s(timeout, headers),
        )  # fmt: skip

    @overload
    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        outputs_as: Literal["numpy"] = "numpy",
        as_frame: Literal[False] = False,
    ) -> dict[str, Array]: ...

    @overload
    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        outputs_as: OutputsAs = "numpy",
        as_frame: bool = False,
    ) -> Any: ...

    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        outputs_as: OutputsAs = "numpy",
        as_frame: bool = False,
    ) -> Any:
        """Run the model once and give the ``outputs`` asked for (None: the defaults) by name.

        ``inputs`` are arrays, tensors of any framework, columns, buffers (looked at where they lie, if they can be), or
        lists and numbers, which take the model's element type. ``cast`` allows conversion between other numbers too. A
        frame's columns are inputs by their names; for a model of one input they are one tensor ``[n, columns]``.
        ``outputs_as="torch"`` gives tensors, ``as_frame=True`` a frame with the index of the one that came.

        ``timeout`` is in seconds, None for no end. It is told to models that can make use of it; the others cannot be
        stopped: the call ends with TimedOut, and the model goes on, on a thread of its own, with the inputs that it was
        given. ``headers`` are looked at and go nowhere: there is no request that they could be in.

        Raises InvalidRequest if they do not fit the signature, ModelFailed if the model raised (the cause is attached).
        """
        config, cast = text(config, "config"), flag(cast, "cast")
        asked, answered = names(outputs, "outputs", gaps=False), in_form(outputs_as, as_frame, inputs)
        if type(inputs) is not dict and is_frame(inputs):
            named: Mapping[str, Any] = inputs_of(inputs, self.signature, cast)
            cast = False
        else:
            known = () if isinstance(inputs, Mapping) else self.signature.input_names
            named = named_tensors(inputs, known=known)
        timeout_s = self._call_s(timeout, headers)
        plan, arrays = self._planned(list(named.values()), tuple(named), asked, cast)
        results = self._results(plan, arrays, config, timeout_s)
        if asked:  # for `y`, given as `y`, even if the model calls it `y:0`
            results = dict(zip(asked, map(results.__getitem__, plan.outputs), strict=True))
        return answered(results)

    def metadata(self, *, timeout: float | None = None, headers: Mapping[str, str] | None = None) -> MetadataResponse:
        """What the model takes and gives, as a server that has it would say; nobody is asked, so nothing takes time."""
        self._call_s(timeout, headers)
        return metadata_of(self.name, self.signature, version=self.version, description=self.description)

    def _call_s(self, timeout: float | None, headers: Mapping[str, str] | None) -> float | None:
        """The seconds that a call may take, None for any. Raises ValueError or InvalidRequest for what cannot be one,
        GraphPipeError after ``close``.
        """
        if self.closed:
            raise GraphPipeError(f"model {self.name!r} is closed; graphpipe.load() loads another")
        if headers is not None:
            from graphpipe.client.headers import own_headers  # the client's own words, and rarely needed

            own_headers(headers)
        return None if timeout is None else seconds(timeout)

    def _execute(
        self,
        inputs: Sequence[object],
        given: tuple[str, ...],
        asked: tuple[str, ...],
        config: str,
        cast: bool,
        timeout_s: float | None,
    ) -> list[Array]:
        """Tensors under names, where "" is the default at its place; everything has been checked."""
        plan, arrays = self._planned(inputs, given, asked, cast)
        results = self._results(plan, arrays, config, timeout_s)
        return [results[name] for name in plan.outputs] if plan.outputs else list(results.values())

    def _planned(
        self, inputs: Sequence[object], given: tuple[str, ...], asked: tuple[str, ...], cast: bool
    ) -> tuple[Plan, list[Array]]:
        arrays = []
        for place, value in enumerate(inputs):
            name = (given[place] if place < len(given) else "") or self._name_at(place)
            arrays.append(as_it_would_arrive(self._fitted(name, value), name))
        return self._plan(given, arrays, asked, cast), arrays

    def _name_at(self, place: int) -> str:
        defaults = self.signature.input_names
        return defaults[place] if place < len(defaults) else str(place)

    def _results(self, plan: Plan, arrays: list[Array], config: str, timeout_s: float | None) -> dict[str, Array]:
        def work() -> dict[str, Array]:
            return named_arrays(self._run(plan.inputs(arrays), plan.outputs or None, config, timeout_s), plan.outputs)

        run = None if timeout_s is None or self._keeps_deadlines else self._bounded.begin(work)
        late = f"model {self.name!r} gave no answer in {timeout_s} s"
        if run is not None and not run.over.wait(timeout_s):
            run.leave()
            raise TimedOut(f"{late}; it goes on, since a model in this process cannot be stopped")
        try:
            return work() if run is None else run.result()
        except BaseException as cause:
            if timeout_s is not None and issubclass(type(cause), DeadlineExceeded):
                raise TimedOut(late) from cause
            if refusal(cause) is not None or ends_the_program(cause):
                raise
            where = f": {cause}" if type(cause) is StageFailed else ""
            raise ModelFailed(f"model {self.name!r} failed on this input{where}") from cause

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
        if type(value) is Sealed:
            return value.array()
        if has_own_type(value):
            return array_of(value, repr(name))
        dtype = next((spec.dtype for spec in self.signature.inputs if spec.name == name), None)
        return fitted(value, dtype, False, name)

    def self_test(self) -> None:
        """Run the tests that the model brings along, those of its package or its problem; nothing where there are none.

        Raises TestFailed with what is different.
        """
        own = getattr(self.model, "self_test", None)
        if own is not None:
            own()

    def close(self) -> None:
        """Give back what the model holds: now, or when the calls that nobody waits for any more have ended.

        A call afterwards is an error.
        """
        self.closed = True
        self._bounded.at_end(self.model.close)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.signature}>"

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
