"""``--pad``: inputs that are shorter than a model's fixed size are filled up to it.

A trace keeps the sizes that it was made with: a text encoder traced with 128 tokens takes 128 tokens. With
``input_ids:1:0`` callers send as many tokens as they have, and the rest of axis 1 is filled with 0. Where the model's
signature does not say the size, a fourth part does: ``input_ids:1:0:128``. Outputs are given as the model makes them,
of the full size.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Dim, Signature, TensorSpec
from graphpipe.wire.dtypes import dtype_name

if TYPE_CHECKING:
    from graphpipe.backends.model import Model

__all__ = ["Padded", "padded"]

Array = NDArray[Any]

_AXIS = re.compile(r"-?\d{1,3}")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf")


class _Padding(NamedTuple):
    axis: int
    value: Any
    size: int


def padded(model: Model, pads: Sequence[str]) -> Model:
    """The model behind its paddings; itself if there are none. Raises LoadError for one that makes no sense."""
    return Padded(model, pads) if pads else model


class Padded:
    """A model whose inputs may be shorter along some axes than it wants them."""

    def __init__(self, model: Model, pads: Sequence[str]) -> None:
        from graphpipe.backends.model import timed

        self._model = model
        self._run = timed(model)
        self._paddings: dict[str, list[_Padding]] = {}
        for text in pads:
            name, padding = _read(text, model.signature)
            already = self._paddings.setdefault(name, [])
            if any(padding.axis == other.axis for other in already):
                raise LoadError(f"--pad {text}: axis {padding.axis} of {name!r} is filled up already; say it once")
            already.append(padding)
        self._signature = _relaxed(model.signature, self._paddings)

    @property
    def signature(self) -> Signature:
        """The model's, with the padded axes open."""
        return self._signature

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Fill up, and run the model."""
        full = {
            name: _fill(array, name, self._paddings[name]) if name in self._paddings else array
            for name, array in inputs.items()
        }
        return self._run(full, outputs, config, timeout_s)

    def close(self) -> None:
        """Close the model."""
        self._model.close()

    def __getattr__(self, name: str) -> Any:
        # version, description and whatever else a model may have.
        return getattr(self._model, name)


def _read(text: str, signature: Signature) -> tuple[str, _Padding]:
    spec, rest = _input(text, signature)
    axis_text, value, *size_text = rest
    axis = int(axis_text)
    if spec.shape is not None and not -len(spec.shape) <= axis < len(spec.shape):
        raise LoadError(f"--pad {text}: {spec} has no axis {axis}")
    if axis < 0:
        if spec.shape is None:
            raise LoadError(f"--pad {text}: {spec} does not say how many axes it has: count them from 0")
        axis += len(spec.shape)
    known = spec.shape[axis] if spec.shape is not None else None
    size = int(size_text[0]) if size_text else known
    if not isinstance(size, int):
        raise LoadError(f"--pad {text}: nothing says what size axis {axis} of {spec} has; say it: {text}:SIZE")
    if isinstance(known, int) and size != known:
        raise LoadError(f"--pad {text}: axis {axis} of {spec} has size {known}, not {size}")
    return spec.name, _Padding(axis, _value(text, value, spec), size)


def _input(text: str, signature: Signature) -> tuple[TensorSpec, list[str]]:
    """The input that is meant, and what is said of it. A name may hold colons (TensorFlow's x:0), the rest may not, so
    the longest name that there is counts.
    """
    parts = text.split(":")
    readings = [(":".join(parts[:-n]), parts[-n:]) for n in (2, 3) if len(parts) > n and _AXIS.fullmatch(parts[-n])]
    readings = [(name, rest) for name, rest in readings if len(rest) == 2 or rest[2].isdecimal()]
    if not readings or not any(_NUMBER.fullmatch(rest[1]) for _, rest in readings):
        raise LoadError(f"--pad {text}: expected NAME:AXIS:VALUE, input_ids:1:0 say, or NAME:AXIS:VALUE:SIZE")
    by_name = {spec.name: spec for spec in signature.inputs}
    # `x` and `x:0` are one name, but a name as it stands comes first.
    for end in ("", ":0"):
        for name, rest in readings:
            if f"{name}{end}" in by_name:
                return by_name[f"{name}{end}"], rest
    for name, rest in readings:
        if name.endswith(":0") and name[:-2] in by_name:
            return by_name[name[:-2]], rest
    name = readings[-1][0]
    near = difflib.get_close_matches(name, [each.removesuffix(":0") for each in by_name], 1)
    names = ", ".join(map(repr, by_name))
    raise LoadError(
        f"--pad {text}: there is no input {name!r}; there are {names}{f'; did you mean {near[0]!r}?' if near else ''}"
    )


def _value(text: str, value: str, spec: TensorSpec) -> Any:
    """The value in the input's own type, which may be open. Raises LoadError if that cannot hold it."""
    dtype = spec.dtype
    if dtype is not None and dtype.kind in "OSU":
        raise LoadError(f"--pad {text}: {spec} is text, which is not filled up with numbers")
    try:
        number = _exactly(value)
        if dtype is None:
            return number
        if dtype.kind == "b" and number not in (0, 1):
            raise ValueError
        if dtype.kind == "f":
            with np.errstate(over="raise"):
                return dtype.type(number)
        return _held(number, dtype)
    except (ValueError, OverflowError, FloatingPointError):
        raise LoadError(f"--pad {text}: {value!r} is not a value of {spec}") from None


def _exactly(value: str) -> int | float:
    return int(value) if re.fullmatch(r"[-+]?\d+", value) else float(value)


def _held(number: float, dtype: np.dtype[Any]) -> Any:
    """A whole number in a type that can hold it. Raises ValueError or OverflowError for what it cannot."""
    value = np.array([int(number)], dtype)[0]  # through Python's own numbers: numpy 2 refuses what does not fit
    if int(value) != number:  # and numpy 1 turns it into another
        raise ValueError
    return value


def _relaxed(signature: Signature, paddings: Mapping[str, Sequence[_Padding]]) -> Signature:
    specs = []
    for spec in signature.inputs:
        found = paddings.get(spec.name, ())
        if found:
            notes = [f"axis {p.axis} filled up to {p.size} with {p.value}" for p in found]
            shape = spec.shape
            if shape is not None:
                dims: list[Dim] = list(shape)
                for padding in found:
                    dims[padding.axis] = None
                shape = tuple(dims)
            spec = replace(spec, shape=shape, description="; ".join([*filter(None, [spec.description]), *notes]))
        specs.append(spec)
    return replace(signature, inputs=tuple(specs))


def _fill(array: Array, name: str, paddings: Sequence[_Padding]) -> Array:
    widths = [(0, 0)] * array.ndim
    for axis, _, size in paddings:
        if axis >= array.ndim:
            raise InvalidRequest(f"input {name!r} has shape {list(array.shape)}, but it is filled up along axis {axis}")
        if array.shape[axis] > size:
            raise InvalidRequest(
                f"input {name!r} has {array.shape[axis]} along axis {axis}, but the model takes at most {size} there"
            )
        widths[axis] = (0, size - array.shape[axis])
    for axis, value, _ in paddings:
        if widths[axis][1]:
            each = [(0, 0)] * array.ndim
            each[axis] = widths[axis]
            array = np.pad(array, each, constant_values=_fitting(value, array, name))
    return array


def _fitting(value: Any, array: Array, name: str) -> Any:
    """The value for an input whose type is open, once that has come. Raises InvalidRequest if it cannot hold it."""
    if isinstance(value, np.generic):
        return value
    try:
        if array.dtype.kind not in "biuf":
            raise ValueError
        if array.dtype.kind == "f":
            return array.dtype.type(value)
        return _held(value, array.dtype)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"input {name!r} is {dtype_name(array.dtype)}, but it is filled up with {value}, which that cannot hold"
        ) from None
