"""What is asked: the same few requests over and over, made once. From what the model says it takes, or from given values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.signature import TensorSpec, fitted
from graphpipe.wire.dtypes import dtype_name
from graphpipe.wire.messages import encode_request
from graphpipe.words import listed, nearest, quoted, visible

__all__ = ["Request", "given", "shape_of", "synthetic"]

Array = NDArray[Any]

# What a model of any rank is sent: with one row and float32 a kilobyte.
_COLUMNS = 256
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", "S1")
_STRING_LETTERS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """Arrays under names ("" is the model's default at its place), and which outputs are asked for (none: the defaults)."""

    names: tuple[str, ...]
    arrays: tuple[Array, ...]
    outputs: tuple[str, ...] = ()
    config: str = ""
    rows: int = 1

    def body(self) -> bytes:
        """The request as it travels. Raises InvalidRequest or TooLarge for what does not."""
        return b"".join(encode_request(self.arrays, self.names, self.outputs, self.config))

    def __str__(self) -> str:
        parts = [
            f"{visible(name or 'input')} {dtype_name(array.dtype)} {list(array.shape)}"
            for name, array in zip(self.names, self.arrays, strict=True)
        ]
        return ", ".join(parts) or "no inputs"


def synthetic(
    specs: Sequence[TensorSpec],
    batch: int,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    outputs: Sequence[str] = (),
    config: str = "",
) -> Request:
    """A request of random values for the inputs ``specs``: equal seeds give equal ones.

    An open first axis has ``batch`` rows; what else is open has to be said in ``shapes``, by name. Floats are 0 to 1, bytes
    (uint8) 0 to 255, other whole numbers 0 and 1, which are few models' wrong index; strings are of 16 letters.

    Raises ValueError for a shape that is not known, or not the model's.
    """
    unknown = [name for name in shapes if name not in {spec.name for spec in specs}]
    if unknown:
        names = [spec.name for spec in specs]
        raise ValueError(
            f"--shape: there is no input {quoted(unknown[0])}{nearest(unknown[0], names)}; there are {listed(names)}"
        )
    chance = np.random.default_rng(seed)
    arrays = tuple(_values(chance, spec.dtype, shape_of(spec, batch, shapes.get(spec.name))) for spec in specs)
    names = ["" if spec.repeated else spec.name for spec in specs]
    return Request(tuple(names), arrays, tuple(outputs), config, _rows(arrays, specs))


def given(
    values: Sequence[tuple[str, object]],
    specs: Sequence[TensorSpec],
    cast: bool,
    outputs: Sequence[str] = (),
    config: str = "",
) -> Request:
    """A request of given values, by name ("" where only the place is known), in the types of ``specs`` where that loses
    nothing.

    Raises InvalidRequest for a value that does not fit.
    """
    by_name = {spec.name: spec for spec in specs}
    arrays, found = [], []
    for place, (name, value) in enumerate(values):
        at_place = specs[place] if place < len(specs) else TensorSpec(name)
        spec = by_name.get(name, TensorSpec(name)) if name else at_place
        found.append(spec)
        arrays.append(fitted(value, spec.dtype, cast, name or str(place)))
    names = tuple(name for name, _ in values)
    return Request(names, tuple(arrays), tuple(outputs), config, _rows(arrays, found))


def shape_of(spec: TensorSpec, batch: int, said: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The shape to send for an input. Raises ValueError where it is open, or where what was said is not the model's."""
    if said is None:
        if spec.shape is None:
            return (batch, _COLUMNS)
        first = spec.shape[0] if spec.shape else None
        # A symbol is the same number wherever it occurs.
        dims = [
            batch if not isinstance(dim, int) and (axis == 0 or (dim is not None and dim == first)) else dim
            for axis, dim in enumerate(spec.shape)
        ]
        if not all(isinstance(dim, int) for dim in dims):
            example = ",".join(str(dim) if isinstance(dim, int) else "N" for dim in dims)
            raise ValueError(
                f"the model takes {visible(str(spec))}; say how large what it leaves open is: "
                f"--shape {visible(spec.name)}={example}"
            )
        return tuple(int(dim) for dim in dims if isinstance(dim, int))
    if spec.shape is not None and (
        len(said) != len(spec.shape)
        or any(isinstance(dim, int) and dim != size for dim, size in zip(spec.shape, said, strict=True))
    ):
        raise ValueError(
            f"--shape {visible(spec.name)}={','.join(map(str, said))}: the model takes {visible(str(spec))}"
        )
    return said


def _values(chance: np.random.Generator, dtype: np.dtype[Any] | None, shape: tuple[int, ...]) -> Array:
    kind = "f" if dtype is None else dtype.kind
    if kind == "O":
        letters = _LETTERS[chance.integers(0, len(_LETTERS), (*shape, _STRING_LETTERS))]
        return np.ascontiguousarray(letters).view(f"S{_STRING_LETTERS}")[..., 0].astype(object)
    if kind == "f":
        return chance.random(shape, np.float32).astype(dtype or np.float32, copy=False)
    most = 255 if dtype == np.uint8 else 1
    return chance.integers(0, most, shape, endpoint=True).astype(dtype)


def _rows(arrays: Sequence[Array], specs: Sequence[TensorSpec]) -> int:
    """How many rows a request has: the first axis of its first input, unless that is one row by itself."""
    if not arrays or not arrays[0].ndim:
        return 1
    shape = specs[0].shape
    open_first = shape is None or not shape or not isinstance(shape[0], int)
    return arrays[0].shape[0] if open_first or arrays[0].ndim > 1 else 1
