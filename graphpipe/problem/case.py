"""A test of a problem: inputs, and the outputs that they should give; and how an answer differs from them, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.problem.promise import is_of, shown
from graphpipe.wire.dtypes import to_bytes
from graphpipe.words import counted, quoted

__all__ = ["Case", "Difference", "difference"]

Array = NDArray[Any]

_TEXT_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Inputs by name, and the outputs that are expected; what is not expected may be anything that the problem promises.

    A float fits if it is within ``atol + rtol * abs(expected)``, and NaN fits NaN. An integer fits if it is within ``atol``,
    which is less than one unless said; text and booleans have to be equal. As a part of a problem its values are arrays of
    the problem's types.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    rtol: float = 1e-5
    atol: float = 1e-6
    name: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Case):
            return NotImplemented
        return (self.rtol, self.atol, self.name) == (other.rtol, other.atol, other.name) and all(
            mine.keys() == others.keys() and all(_same(mine[name], others[name]) for name in mine)
            for mine, others in ((self.inputs, other.inputs), (self.outputs, other.outputs))
        )

    def __hash__(self) -> int:
        return hash((self.rtol, self.atol, self.name, tuple(sorted(self.inputs)), tuple(sorted(self.outputs))))


@dataclass(frozen=True, slots=True)
class Difference:
    """What of an answer is not as a test expects it. ``str()`` of it is a sentence.

    ``output`` is empty where there was no answer. ``differing`` of ``size`` elements are beyond the tolerance, and
    ``largest`` is the largest difference among them, at ``index``; where type or shape differ, they are 0 and empty.
    """

    test: str
    output: str
    words: str
    largest: float = 0.0
    index: tuple[int, ...] = ()
    differing: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"test {self.test}: {self.words}"


def difference(test: str, name: str, expected: Array, came: Array, rtol: float, atol: float) -> Difference | None:
    """What of an output is not as expected; None if nothing is."""
    what = f"output {quoted(name)}"
    if came.shape != expected.shape or not is_of(came.dtype, expected.dtype):
        return Difference(test, name, f"{what} is {shown(came)}, and {shown(expected)} was expected")
    if expected.dtype.kind == "O":
        return _of_text(test, name, what, _bytes_of(expected), _bytes_of(came))
    return _of_numbers(test, name, what, expected, came, rtol, atol)


def _of_text(test: str, name: str, what: str, expected: Array, came: Array) -> Difference | None:
    wrong = np.asarray(expected != came, bool)
    if not wrong.any():
        return None
    index = _at(int(np.argmax(wrong)), wrong.shape)
    number = int(wrong.sum())
    words = f"{what} is {_text(came[index])} where {_text(expected[index])} was expected{_place(index)}"
    return Difference(test, name, words + _share(number, wrong.size), 0.0, index, number, wrong.size)


def _of_numbers(
    test: str, name: str, what: str, expected: Array, came: Array, rtol: float, atol: float
) -> Difference | None:
    if np.array_equal(expected, came):
        return None
    apart, room = _apart(expected, came), _room(expected, rtol, atol)
    wrong = apart > room
    if not wrong.any():
        return None
    apart = np.where(wrong, apart, -1)
    index = _at(int(np.argmax(apart)), wrong.shape)
    largest, number = float(apart[index]), int(wrong.sum())
    came_here, expected_here = came[index].item(), expected[index].item()
    words = f"{what} is {came_here!r} where {expected_here!r} was expected{_place(index)}"
    if math.isfinite(largest):
        words += f": {largest:.3g} apart, and {float(room[index] if room.ndim else room):.3g} is allowed"
    return Difference(test, name, words + _share(number, wrong.size), largest, index, number, wrong.size)


def _apart(expected: Array, came: Array) -> Array:
    """How far each element is from the other; infinite where one of them alone is NaN or infinite."""
    if expected.dtype.kind in "iu" and expected.dtype.itemsize == 8:
        # Not all of them are a float64.
        high, low = np.maximum(expected, came), np.minimum(expected, came)
        return (high.view(np.uint64) - low.view(np.uint64)).astype(np.float64)
    a, b = expected.astype(np.float64), came.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _room(expected: Array, rtol: float, atol: float) -> Array:
    if expected.dtype.kind != "f":
        # A share of a class's number, or of a token's, means nothing.
        return np.asarray(0.0 if expected.dtype.kind == "b" else atol)
    with np.errstate(over="ignore", invalid="ignore"):
        room = atol + rtol * np.abs(expected.astype(np.float64))
    return np.where(np.isfinite(room), room, atol)


def _bytes_of(array: Array) -> Array:
    made = np.empty(array.size, object)
    made[:] = [to_bytes(item, "text") for item in array.ravel().tolist()]
    return made.reshape(array.shape)


def _at(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(each) for each in np.unravel_index(flat, shape))


def _place(index: tuple[int, ...]) -> str:
    return f" at {list(index)}" if index else ""


def _share(number: int, size: int) -> str:
    return "" if size == 1 else f"; {number:,} of {counted(size, 'element')} differ" + ("s" if number == 1 else "")


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace")
    return repr(text) if len(text) <= _TEXT_SHOWN_MAX else f"{text[:_TEXT_SHOWN_MAX]!r}..."


def _same(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.hasobject:
        return bool(a.tolist() == b.tolist())
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def named_cases(tests: tuple[Case, ...]) -> Iterator[tuple[str, Case]]:
    """Each test with what it is called: its name in quotes, or its place from 1 on."""
    for place, case in enumerate(tests, 1):
        yield (quoted(case.name) if case.name else str(place)), case
