"""Data to calls: which arrays are inputs and which are what is expected, and how many rows of them one call has.

A model's inputs say how. Where the first axis is open, rows are along it, so many to a call; where it is a number, a call
has that many. An array with one axis more than the input has (``[100, 480, 640, 3]`` for a picture ``[480, 640, 3]``) is
one call for each of its rows. What has no rows (a scalar, a threshold) is part of every call, whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.comparison.columns import Column
from graphpipe.signature import Signature, TensorSpec
from graphpipe.words import counted, listed, nearest, quoted

__all__ = ["Call", "Cut", "rows_named", "split"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What every model is asked once: ``inputs`` and ``truth`` (what is expected, and whatever else is known) by name.

    ``name`` says which it is, for people. ``first_row`` is the number of its first row among all; None if it has no rows.
    """

    name: str
    inputs: Mapping[str, Array]
    truth: Mapping[str, Array]
    rows: int = 1
    first_row: int | None = None


def rows_named(first: int, count: int) -> str:
    """What a call of so many rows is called."""
    return f"row {first}" if count == 1 else f"rows {first} to {first + count - 1}"


def split(
    names: Sequence[str], signature: Signature, truth: Sequence[str], where: str
) -> tuple[dict[str, str], list[str]]:
    """The inputs among the names of some data, each with its name there, and the names of what is expected.

    ``truth`` are those that somebody calls so; without it they are all that is no input. Raises ValueError for an input
    that is missing, and a name that nobody knows.
    """
    specs = _wanted(signature)
    if unknown := [name for name in truth if name not in names]:
        raise ValueError(f"{where} has no {quoted(unknown[0])}{nearest(unknown[0], names)}; it has {listed(names)}")
    if not specs or any(spec.repeated for spec in specs):  # it takes anything
        return {name: name for name in names if name not in truth}, list(truth)
    by_key = {_key(name): name for name in names if name not in truth}
    inputs = {spec.name: by_key[_key(spec.name)] for spec in signature.inputs if _key(spec.name) in by_key}
    rest = [name for name in names if name not in inputs.values() and name not in truth]
    if missing := [spec.name for spec in specs if spec.name not in inputs]:
        raise ValueError(
            f"{where} has no {listed(missing)}, which the problem takes; it has {listed(names)}{nearest(missing[0], rest)}"
        )
    if truth and rest:
        raise ValueError(
            f"{where} has {listed(rest)}, which is no input and not among what is expected: {listed(truth)}"
        )
    return inputs, [*truth, *rest]


class Cut:
    """Columns by name, cut into calls of ``batch`` rows, or of as many as the inputs want.

    Raises ValueError for columns that do not go together.
    """

    def __init__(
        self, columns: Mapping[str, Column], signature: Signature, batch: int, truth: Sequence[str], where: str
    ) -> None:
        names, truth_names = split(list(columns), signature, truth, where)
        self.where = where
        self._inputs = {name: columns[there] for name, there in names.items()}
        self._truth = {name: columns[name] for name in truth_names}
        specs = {spec.name: spec for spec in signature.inputs}
        known = {name: specs.get(name, TensorSpec(name)) for name in self._inputs}
        stacked = [
            n for n, c in self._inputs.items() if (s := known[n].shape) is not None and len(c.shape) == len(s) + 1
        ]
        if stacked and batch > 1:
            raise ValueError(
                f"{where}: {quoted(stacked[0])} {list(self._inputs[stacked[0]].shape)} is one call for each row, since "
                f"the problem takes {known[stacked[0]]}; leave the batch out"
            )
        self._stacked = bool(stacked)
        self._in_rows = stacked or self._with_rows(known)
        fixed = [] if stacked else self._fixed(known)
        self.step = fixed[0] if fixed else 1 if stacked else batch
        self.rows = self._counted()
        if fixed and self.rows % self.step:
            raise ValueError(
                f"{where}: each call takes {counted(self.step, 'row')}, and {self.rows:,} are not a multiple of that"
            )
        self.calls = -(-self.rows // self.step)

    def __iter__(self) -> Iterator[Call]:
        if not self._in_rows:
            inputs = {name: column.whole() for name, column in self._inputs.items()}
            yield Call(self.where, inputs, {name: column.whole() for name, column in self._truth.items()})
            return
        with ExitStack() as stack:
            moving = {n: stack.enter_context(self._inputs[n].reading()) for n in self._in_rows}
            still = {n: column.whole() for n, column in self._inputs.items() if n not in moving}
            also = [name for name, column in self._truth.items() if column.shape[:1] == (self.rows,)]
            expected = {n: stack.enter_context(self._truth[n].reading()) for n in also}
            fixed = {n: column.whole() for n, column in self._truth.items() if n not in expected}
            for at in range(0, self.rows, self.step):
                count = min(self.step, self.rows - at)
                given = {n: self._piece(read(count)) for n, read in moving.items()}
                inputs = {n: given[n] if n in given else still[n] for n in self._inputs}
                truth = {n: self._piece(read(count)) for n, read in expected.items()} | fixed
                yield Call(rows_named(at, count), inputs, truth, count, None if self._stacked else at)

    def _piece(self, rows: Array) -> Array:
        # Of an array of text the one element is a str, and no array.
        return np.asarray(rows[0], rows.dtype) if self._stacked else rows

    def _with_rows(self, known: Mapping[str, TensorSpec]) -> list[str]:
        """The inputs that are cut along their first axis."""
        found = []
        for name, column in self._inputs.items():
            shape = known[name].shape
            first = shape[0] if shape else None
            if column.shape and shape != () and not (isinstance(first, int) and column.shape[0] == first):
                found.append(name)
        return found

    def _fixed(self, known: Mapping[str, TensorSpec]) -> list[int]:
        """The number of rows that the inputs themselves say a call has; empty where they leave it open."""
        firsts = [shape[0] for name in self._in_rows if (shape := known[name].shape)]
        numbers = sorted({first for first in firsts if isinstance(first, int)})
        if len(numbers) > 1:
            raise ValueError(
                f"{self.where}: the inputs take {numbers[0]} and {numbers[1]} rows in one call; write a folder that has an "
                ".npz file for each call"
            )
        return numbers

    def _counted(self) -> int:
        lengths = {name: self._inputs[name].shape[0] for name in self._in_rows}
        if len(set(lengths.values())) > 1:
            words = ", ".join(f"{quoted(name)} {count:,}" for name, count in lengths.items())
            raise ValueError(
                f"{self.where}: the inputs have different numbers of rows ({words}); for calls that take arrays whole, "
                "write a folder that has an .npz file for each call"
            )
        rows = next(iter(lengths.values()), 1)
        if not rows:
            raise ValueError(f"{self.where}: there are no rows in it")
        return rows


def _wanted(signature: Signature) -> list[TensorSpec]:
    by_name = {spec.name: spec for spec in signature.inputs}
    return [by_name.get(name, TensorSpec(name)) for name in signature.input_names]


def _key(name: str) -> str:
    """``x`` and ``x:0`` are the same tensor to TensorFlow's callers."""
    return name.removesuffix(":0")
