"""The tests of a problem, fitted to it, and run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import came
from graphpipe.errors import GraphPipeError, InvalidRequest, ProblemError
from graphpipe.problem.case import Case, Difference, difference, named_cases
from graphpipe.problem.posed import Answers
from graphpipe.problem.promise import BrokenPromise, Promise, is_of, shown
from graphpipe.problem.specs import encoded
from graphpipe.signature import Signature, TensorSpec, fitted
from graphpipe.wire.dtypes import to_bytes, to_sendable
from graphpipe.words import first_line, listed, nearest, quoted

__all__ = ["differences", "fitted_cases"]

Array = NDArray[Any]


def fitted_cases(tests: Sequence[Any], signature: Signature) -> tuple[Case, ...]:
    """The tests with their values as arrays that fit the problem. Raises ProblemError for what does not."""
    promise = Promise(signature.inputs, signature.outputs)
    made = []
    for place, case in enumerate(tests):
        where = f"tests[{place}]"
        if not isinstance(case, Case):
            raise ProblemError(f"{where}: expected a graphpipe.Case; {came(case)}")
        tolerances: dict[str, Any] = {"rtol": case.rtol, "atol": case.atol}
        for what, value in tolerances.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ProblemError(f"{where}.{what}: a tolerance is a number, 0 or more; {came(value)}")
        if not isinstance(case.name, str):
            raise ProblemError(f"{where}.name: a name is text; {came(case.name)}")
        encoded(f"{where}.name", case.name)
        inputs = _arrays(case.inputs, signature.inputs, f"{where}.inputs", all_of_them=True)
        outputs = _arrays(case.outputs, signature.outputs, f"{where}.outputs", all_of_them=False)
        arrays = list(inputs.values())
        try:
            signature.plan([a.dtype for a in arrays], [a.shape for a in arrays], list(inputs))
            promise.held(inputs, outputs, tuple(outputs))
        except InvalidRequest as error:
            raise ProblemError(f"{where}.inputs: {error.message}") from None
        except BrokenPromise as error:
            raise ProblemError(f"{where}.outputs: {error}") from None
        made.append(replace(case, inputs=inputs, outputs=outputs, rtol=float(case.rtol), atol=float(case.atol)))
    return tuple(made)


def differences(
    tests: Sequence[Case], model: Answers, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> list[Difference]:
    """What of a model's answers is not as the tests expect it. Its names are the problem's."""
    promise = Promise(inputs, outputs)
    names = [spec.name for spec in outputs]
    found: list[Difference] = []
    for test, case in named_cases(tuple(tests)):
        try:
            # Its own: a model may write into what it is given.
            given = {name: array.copy() for name, array in case.inputs.items()}
            answer = promise.held(case.inputs, model.infer(given, names), names)
        except BrokenPromise as error:
            found.append(Difference(test, "", str(error)))
            continue
        except BaseException as error:  # sys.exit is one, and so is a panic of an extension in Rust
            if isinstance(error, KeyboardInterrupt):
                raise
            found.append(Difference(test, "", f"there was no answer: {_why(error)}"))
            continue
        for name, expected in case.outputs.items():
            apart = difference(test, name, expected, answer[name], case.rtol, case.atol)
            if apart is not None:
                found.append(apart)
    return found


def _why(error: BaseException) -> str:
    """Its words, with those of its cause: whoever tests a model is to mend it."""
    words = first_line(error) if isinstance(error, GraphPipeError) else f"{type(error).__name__}: {first_line(error)}"
    cause = error.__cause__
    return words if cause is None else f"{words}: {type(cause).__name__}: {first_line(cause)}"


def _arrays(values: object, specs: Sequence[TensorSpec], where: str, *, all_of_them: bool) -> dict[str, Array]:
    if not isinstance(values, Mapping):
        raise ProblemError(f"{where}: expected values by name; {came(values)}")
    by_name = {spec.name: spec for spec in specs}
    for name in values:
        if name not in by_name:
            known = list(by_name)
            near = nearest(name, known) if isinstance(name, str) else ""
            name = quoted(name) if isinstance(name, str) else repr(name)[:100]
            raise ProblemError(f"{where}: the problem has no {name}{near or f'; it has {listed(known)}'}")
    missing = [name for name in by_name if name not in values]
    if missing and all_of_them:
        raise ProblemError(f"{where}: {listed(missing)} missing; a test has a value for each input")
    return {name: _array(values[name], spec, where) for name, spec in by_name.items() if name in values}


def _array(value: object, spec: TensorSpec, where: str) -> Array:
    try:
        array = fitted(value, spec.dtype, False, spec.name)
        if isinstance(value, list | tuple) and not array.size and spec.shape is not None:
            array = _empty(array, spec)
        _, array = to_sendable(array, repr(spec.name))
        if array.dtype.hasobject:
            texts = np.empty(array.size, object)
            texts[:] = [to_bytes(item, repr(spec.name)) for item in array.ravel().tolist()]
            array = texts.reshape(array.shape)
        elif array.base is not None or array is value:
            array = array.copy()  # the caller's may change
    except InvalidRequest as error:
        raise ProblemError(f"{where}.{spec.name}: {error.message}") from None
    if spec.dtype is not None and not is_of(array.dtype, spec.dtype):
        raise ProblemError(f"{where}.{spec.name}: it is {shown(array)}, and the problem has {spec.text}")
    array.flags.writeable = False
    return array


def _empty(array: Array, spec: TensorSpec) -> Array:
    """``[]`` for float32[found, 4] has no place to say the 4."""
    rest = [dim if isinstance(dim, int) else 0 for dim in (spec.shape or ())[array.ndim :]]
    if not rest:
        return array
    return array.reshape((*array.shape, *rest)) if not array.size else array
