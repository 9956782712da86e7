"""What a row is: index i along the first axis of every input, and of every output.

Batching and caching both rest on this. Neither can see whether a model treats its rows independently: that is what a
user says by asking for them. What can be seen is checked here: that a request has rows at all, that the outputs follow
them, and which requests are alike enough for their rows to stand in one array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.stages.stage import Outputs, Request
from graphpipe.signature import Signature, TensorSpec
from graphpipe.words import counted

__all__ = [
    "TEXT_REMEMBERED_MAX",
    "Against",
    "Layout",
    "Likeness",
    "RowEvidence",
    "join",
    "layout_of",
    "likeness_of",
    "not_by_rows",
    "row_count",
    "text_of_names",
    "why_inputs_have_no_rows",
    "why_not_by_rows",
]

Array = NDArray[Any]

# Callers may ask in endless many ways.
_MANNERS_MAX = 1024
_MANNER_TEXT_MAX = 256

# So many characters of what a caller calls things are remembered, and no more.
TEXT_REMEMBERED_MAX = 4096

# Name, element type and row shape of each input; None stands for an axis that may be padded.
Layout = tuple[tuple[str, str, tuple[int | None, ...]], ...]

# Requests of one kind differ in their rows alone: their layout, the outputs asked for, and the config.
Likeness = tuple[Layout, tuple[str, ...], str]


def row_count(inputs: Mapping[str, Array]) -> int:
    """How many rows a request has; 0 if it has none: no inputs, a scalar among them, unequal or empty ones."""
    count = -1
    for array in inputs.values():
        shape = array.shape
        if not shape or (count >= 0 and shape[0] != count):
            return 0
        count = shape[0]
    return max(count, 0)


def layout_of(inputs: Mapping[str, Array]) -> Layout:
    """What the rows of two requests must have in common to stand in one array.

    The order of the inputs counts: a model that takes any inputs may tell them by their place.
    """
    return tuple([(name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()])


def likeness_of(request: Request) -> Likeness:
    """What two requests must have in common to share one call of the model."""
    return layout_of(request.inputs), request.outputs, request.config


def text_of_names(request: Request) -> int:
    """How many characters the names of a request's inputs and outputs have."""
    return sum(map(len, request.inputs)) + sum(map(len, request.outputs))


def join(parts: Sequence[Mapping[str, Array]], rows: int = 0) -> dict[str, Array]:
    """The rows of several requests below each other, filled up to ``rows`` by repeating the last one."""
    missing = rows - sum(row_count(part) for part in parts)
    joined = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if missing > 0:
            arrays.append(np.repeat(arrays[-1][-1:], missing, axis=0))
        joined[name] = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return joined


def not_by_rows(outputs: Outputs, rows: int) -> Against | None:
    """An output that does not have ``rows`` rows."""
    for name, array in outputs.items():
        shape = array.shape
        if not shape or shape[0] != rows:
            return Against(name, "does not have a row for each row that goes in")
    return None


def why_not_by_rows(signature: Signature) -> str | None:
    """Why a model cannot be asked for any number of rows, by what it declares; None if nothing speaks against it."""
    specs = {spec.name: spec for spec in signature.inputs}
    for spec in (specs[name] for name in signature.input_names if name in specs):
        if spec.shape is None:
            continue
        if not spec.shape:
            return f"input {spec.name!r} is a scalar, which has no rows"
        if isinstance(spec.shape[0], int):
            fixed = spec.shape[0]
            return f"input {spec.name!r} takes exactly {fixed} {'row' if fixed == 1 else 'rows'}: {spec}"
    outputs = {spec.name: spec for spec in signature.outputs}
    asked = [outputs[name] for name in signature.output_names if name in outputs]
    return why_inputs_have_no_rows(signature) or next(filter(None, (_why_not(spec, signature) for spec in asked)), None)


def why_inputs_have_no_rows(signature: Signature) -> str | None:
    """Why no output of a model can be had row by row, by what it declares of its inputs.

    Index i along the first axis is one row only if nothing else is as long as there are rows, and if all inputs have
    equally many.
    """
    rows = _row_symbols(signature)
    for spec in signature.inputs:
        for dim in (spec.shape or ())[1:]:
            if dim in rows:
                return f"input {spec.name!r} has the number of rows, {dim!r}, as the length of another axis too: {spec}"
    # Foreign names alone on the other side say nothing: some exporters name every axis anew.
    foreign = [s for s in signature.outputs if s.shape and isinstance(s.shape[0], str) and s.shape[0] not in rows]
    if len(rows) > 1 and len(foreign) < len(signature.outputs):
        (one, first), (other, second) = list(rows.items())[:2]
        return f"inputs {first!r} and {second!r} need not have equally many rows: {one!r} and {other!r}"
    return None


def _row_symbols(signature: Signature) -> dict[object, str]:
    """What the first axes of the inputs are called, each with an input that has it."""
    return {spec.shape[0]: spec.name for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)}


def _why_not(output: TensorSpec, signature: Signature) -> str | None:
    """Why an output has no rows, by what is declared of it."""
    if output.shape and isinstance(output.shape[0], int):
        return f"output {output.name!r} always has {counted(output.shape[0], 'row')}, however many come in: {output}"
    return _why_dependent(output, signature)


def _why_dependent(output: TensorSpec, signature: Signature) -> str | None:
    """The same, without what some exporters note falsely: the number of rows that they were shown."""
    if output.shape is None:
        return None
    if not output.shape:
        return f"output {output.name!r} is a scalar, which has no rows"
    rows = _row_symbols(signature)
    for dim in output.shape[1:]:
        if dim in rows:
            what = f"output {output.name!r} has the number of rows, {dim!r}, as the length of another axis too"
            return f"{what}, so a row of it depends on the others: {output}"
    others = {dim: spec for spec in signature.inputs for dim in (spec.shape or ())[1:] if isinstance(dim, str)}
    first = output.shape[0]
    if first in others and first not in rows:
        return f"output {output.name!r} is as long as an axis of {others[first]} that is not that of the rows: {output}"
    return None


class Against(NamedTuple):
    """An output that was seen not to follow the rows."""

    output: str
    why: str


class _Sight(NamedTuple):
    """What one call showed: how many rows, and how long the other axes of inputs and outputs were."""

    rows: int
    inputs: tuple[tuple[int, ...], ...]
    outputs: dict[str, tuple[int, ...]]


class RowEvidence:
    """Which outputs are known to follow the rows.

    An output does by declaration where its first axis bears the same symbol, or has the same fixed length, as that of
    every input, and where the length of each other axis is a number or that of another axis of an input. Otherwise it
    has to be seen: with one number of rows alone a fixed size might be mistaken for rows, and an axis that is as long as
    there are rows for a fixed size, so two different numbers are wanted.
    """

    def __init__(self, signature: Signature) -> None:
        firsts = {spec.shape[0] if spec.shape else None for spec in signature.inputs}
        symbol = next(iter(firsts)) if len(firsts) == 1 else None
        others = {dim for spec in signature.inputs for dim in (spec.shape or ())[1:] if isinstance(dim, str)}
        # What takes any number of tensors declares nothing of those that come.
        open_ended = any(spec.repeated for spec in signature.inputs)
        self.refusal = None if open_ended else why_inputs_have_no_rows(signature)
        self._declared: set[str] = set()
        self._ruled_out: set[str] = set()
        for spec in () if open_ended else signature.outputs:
            if _why_dependent(spec, signature):
                self._ruled_out.add(spec.name)
            elif self.refusal is None and symbol is not None and spec.shape:
                first, *rest = spec.shape
                if first == symbol and all(isinstance(dim, int) or dim in others for dim in rest):
                    self._declared.add(spec.name)
        self._seen: dict[object, _Sight] = {}
        self._proven: set[object] = set()

    def rules_out(self, request: Request) -> bool:
        """Whether an output that a request asks for has no rows, as the model itself declares."""
        return bool(self._ruled_out) and not self._ruled_out.isdisjoint(request.outputs)

    def holds(self, request: Request) -> bool:
        """Whether the outputs that a request asks for follow its rows, as far as anybody can know."""
        asked = request.outputs
        return (bool(asked) and self._declared.issuperset(asked)) or _manner(request) in self._proven

    def add(self, request: Request, outputs: Outputs, rows: int) -> Against | None:
        """Learn from the answer to ``request``, which has ``rows`` rows; gives an output that does not follow them."""
        asked = request.outputs
        if asked:  # a Python function may give more
            outputs = {name: outputs[name] for name in asked}
        against = not_by_rows(outputs, rows)
        if against is not None or (asked and self._declared.issuperset(asked)):
            return against
        manner = _manner(request)
        if manner in self._proven:
            return None
        now = _Sight(
            rows,
            tuple([array.shape[1:] for array in request.inputs.values()]),
            {name: array.shape[1:] for name, array in outputs.items()},
        )
        seen = self._seen.get(manner)
        if seen is None:
            if len(self._seen) < _MANNERS_MAX:
                self._seen[manner] = now
        elif seen.rows != rows:
            grown = _grown(seen, now)
            if grown is not None:
                return Against(grown, "changes its shape with the number of rows")
            if seen.inputs == now.inputs or not _follows(seen, now):
                if len(self._proven) >= _MANNERS_MAX:
                    self._proven.clear()
                self._proven.add(manner)
                del self._seen[manner]
        return None


def _grown(one: _Sight, other: _Sight) -> str | None:
    """The name of an output whose rows are shaped otherwise where there are more of them, of the same inputs' shape."""
    if one.inputs != other.inputs:
        return None
    return next((name for name, shape in one.outputs.items() if other.outputs.get(name, shape) != shape), None)


def _follows(one: _Sight, other: _Sight) -> bool:
    """Whether an axis of an output, beside the first, is as long as there are rows, both times.

    With inputs of another shape as well that may be chance: nothing is known, and another sight is wanted.
    """
    return any(
        one.rows == before and other.rows == after
        for name, shape in one.outputs.items()
        for before, after in zip(shape, other.outputs.get(name, ()), strict=False)
    )


def _manner(request: Request) -> object:
    """What may decide whether an output has rows: some do only if an optional input came, say. Of long texts a digest."""
    manner = request.outputs, request.config, tuple([(name, array.ndim) for name, array in request.inputs.items()])
    if len(request.config) + text_of_names(request) <= _MANNER_TEXT_MAX:
        return manner
    return hashlib.sha256(repr(manner).encode("utf-8", "surrogatepass")).digest()
