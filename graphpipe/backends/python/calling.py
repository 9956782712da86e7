"""A Python function as a model: how it is called, and what it gave as arrays by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of, has_own_type
from graphpipe.errors import InvalidRequest
from graphpipe.signature import Signature, TensorSpec, fitted
from graphpipe.wire.dtypes import Type, type_of
from graphpipe.words import counted, listed, quoted

__all__ = ["FunctionModel", "Takes"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Takes:
    """How a function is called."""

    positional: bool
    config: bool
    timeout_s: bool


class FunctionModel:
    """A Python function as a model. As safe in threads as the function is."""

    kind = "Python function"

    def __init__(self, function: Callable[..., Any], signature: Signature, takes: Takes, description: str = "") -> None:
        self.function = function
        self._called = _called(function)
        self._signature = signature
        self.takes = takes
        self._specs = {spec.name: spec for spec in signature.outputs}
        self.description = description

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Call the function."""
        takes = self.takes
        more: dict[str, Any] = {}
        if takes.config:
            more["config"] = config
        if takes.timeout_s:
            more["timeout_s"] = timeout_s
        if takes.positional:
            # Callers name their inputs in any order.
            order = inputs if self._signature.variadic else [s.name for s in self._signature.inputs if s.name in inputs]
            result = self._called(*(inputs[name] for name in order), **more)
        else:
            result = self._called(**inputs, **more)
        return self._named(result, outputs)

    def _named(self, result: Any, outputs: Sequence[str] | None) -> dict[str, Array]:
        values = _by_name(result, list(self._specs))
        wanted = outputs or self._signature.output_names or tuple(values)
        for name in wanted:
            if name not in values:
                if self._signature.open_outputs:
                    raise InvalidRequest(f"there is no output {quoted(name)}; the function gave {listed(list(values))}")
                raise ValueError(f"the function gave {', '.join(map(repr, values))}, but not {name!r}")
        return {name: _array(values[name], name, self._specs.get(name)) for name in wanted}

    def close(self) -> None:
        """Close what the function belongs to, if it can be closed."""
        owner = getattr(self.function, "__self__", self.function)
        close = getattr(owner, "close", None)
        if callable(close) and not inspect.isclass(owner):
            close()


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """What of a stage's class (``graphpipe.stage``) computes, without what looks whether it is being traced."""
    own = getattr(type(function).__call__, "__graphpipe_called__", None)
    called: Callable[..., Any] = function if own is None else own.__get__(function)
    return called


def _by_name(result: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """What a function gave, by name: its own names, else the declared ones in order, else output_0, output_1, ...

    A tuple is several outputs. A list is one, with a row for each element, unless several are declared.
    """
    if isinstance(result, np.ndarray):
        values: Sequence[Any] = [result]
    elif isinstance(result, Mapping):
        # Frameworks have keys for what they did not make.
        return result if names else {name: value for name, value in result.items() if value is not None}
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        return dict(zip(result._fields, result, strict=True))
    elif is_dataclass(result) and not has_own_type(result):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    else:
        result = list(result) if isinstance(result, Iterator | ValuesView) else result
        several = isinstance(result, tuple) or (isinstance(result, list) and len(names) > 1)
        values = result if several else [result]
    if not names:
        names = [f"output_{i}" for i in range(len(values))]
    if len(values) != len(names):
        raise ValueError(
            f"the function gave {counted(len(values), 'output')}, but declares {len(names)}: {', '.join(names)}"
        )
    return dict(zip(names, values, strict=True))


def _array(value: Any, name: str, spec: TensorSpec | None) -> Array:
    what = f"output {name!r}"
    own = type(value) is np.ndarray and value.dtype.kind != "T"
    array: Array = value if own else _made_array(value, what, spec)
    if spec is None or spec.dtype is None:
        if type_of(array.dtype) is Type.NULL:
            raise ValueError(f"{what} is {array.dtype}, which has no type on the wire; leave it out, or convert it")
        return array
    if array.dtype == spec.dtype or (spec.dtype == object and array.dtype.kind in "OSU"):
        return array
    # Arithmetic widens types on its own, float32 to float64 say; what was declared is what callers get.
    if array.dtype.kind not in "OSU" and spec.dtype != object and np.can_cast(array.dtype, spec.dtype, "same_kind"):
        return array.astype(spec.dtype)
    raise ValueError(f"{what} is {array.dtype}, but was declared as {spec}")


def _made_array(value: Any, what: str, spec: TensorSpec | None) -> Array:
    """What a function gave in place of an array as one: a tensor, a column, a number, a list of any of them.

    Raises ValueError.
    """
    try:
        if not isinstance(value, list | tuple | Iterator):
            array = array_of(value, what)
        else:
            items = _plain(value, what)
            if not items and spec is not None and spec.dtype is not None:
                rest = [dim if isinstance(dim, int) else 0 for dim in (spec.shape or ())[1:]]
                return np.empty((0, *rest), spec.dtype)
            try:
                array = array_of(items, what)
            except InvalidRequest:
                shapes = sorted({np.shape(item) for item in items})
                if len(shapes) < 2:
                    raise
                shown = " and ".join(str(list(shape)) for shape in shapes[:2])
                raise ValueError(
                    f"{what} is a list whose elements have different shapes, {shown}; an array has rows of one shape, "
                    "and several outputs are a tuple"
                ) from None
            if spec is not None and spec.dtype is not None and {spec.dtype.kind, array.dtype.kind} <= set("iu"):
                array = fitted(items, spec.dtype, False, what)  # Python's numbers have no type of their own
    except InvalidRequest as error:
        raise ValueError(error.message) from error
    if array.dtype == object:
        strange = [item for item in array.reshape(-1) if not isinstance(item, str | bytes)]
        if strange:
            raise ValueError(f"{what} has an element of type {type(strange[0]).__name__}; numbers and text travel")
    return array


def _plain(values: Iterable[Any], what: str) -> list[Any]:
    """The elements, which may be lists or tensors of any framework, as what numpy can put together."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple | Iterator):
            found.append(_plain(value, what))
        elif isinstance(value, str | bytes | int | float | np.generic):
            found.append(value)
        else:
            array = array_of(value, what)
            found.append(value if array.dtype == object and not array.ndim else array)
    return found
