"""What a row is: index i along the first axis of every input, and of every output.

Batching and caching both rest on this. Neither can see whether a model treats its rows independently: that is what a
user says by asking for them. What can be seen is checked here: that a request has rows at all, that the outputs follow
them, and which requests are alike enough for their rows to stand in one array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.stages.stage import Outputs, Request
from graphpipe.signature import Signature

__all__ = [
    "Kind",
    "Layout",
    "RowEvidence",
    "join",
    "kind_of",
    "layout_of",
    "not_by_rows",
    "row_count",
    "why_not_by_rows",
]

Array = NDArray[Any]

# Name, element type and row shape of each input; None stands for an axis that may be padded.
Layout = tuple[tuple[str, str, tuple[int | None, ...]], ...]

# Requests of one kind differ in their rows alone: their layout, the outputs asked for, and the config.
Kind = tuple[Layout, tuple[str, ...], str]


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


def kind_of(request: Request) -> Kind:
    """What two requests must have in common to share one call of the model."""
    return layout_of(request.inputs), request.outputs, request.config


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


def not_by_rows(outputs: Outputs, rows: int) -> str | None:
    """The name of an output that does not have ``rows`` rows."""
    for name, array in outputs.items():
        shape = getattr(array, "shape", ())  # a Python function may give anything
        if not shape or shape[0] != rows:
            return name
    return None


def why_not_by_rows(signature: Signature) -> str | None:
    """Why a model cannot be asked for any number of rows, by what it declares; None if nothing speaks against it."""
    by_name = {spec.name: spec for spec in signature.inputs}
    first_symbols = set()
    for name in signature.input_names:
        spec = by_name.get(name)
        if spec is None or spec.shape is None:
            continue
        if not spec.shape:
            return f"input {name!r} is a scalar, which has no rows"
        first = spec.shape[0]
        if isinstance(first, int):
            return f"input {name!r} takes exactly {first} {'row' if first == 1 else 'rows'}: {spec}"
        if first is not None:
            first_symbols.add(first)
    for spec in signature.inputs:
        for dim in (spec.shape or ())[1:]:
            if isinstance(dim, str) and dim in first_symbols:
                return f"input {spec.name!r} has the number of rows, {dim!r}, as the length of another axis too: {spec}"
    outputs = {spec.name: spec for spec in signature.outputs}
    for name in signature.output_names:
        output = outputs.get(name)
        if output is None or output.shape is None:
            continue
        if not output.shape:
            return f"output {name!r} is a scalar, which has no rows"
        if isinstance(output.shape[0], int):
            return f"output {name!r} always has {output.shape[0]} rows, however many come in: {output}"
    return None


class RowEvidence:
    """Which outputs are known to follow the rows.

    An output does by declaration where its first axis bears the same symbol, or has the same fixed length, as that of
    every input. Otherwise it has to be seen: with one number of rows alone a fixed size might be mistaken for rows, so
    two different numbers are wanted.
    """

    def __init__(self, signature: Signature) -> None:
        firsts = {spec.shape[0] if spec.shape else None for spec in signature.inputs}
        symbol = next(iter(firsts)) if len(firsts) == 1 else None
        self._declared = {
            spec.name
            for spec in signature.outputs
            if symbol is not None and spec.shape and spec.shape[0] == symbol and not signature.variadic
        }
        # The one number of rows seen so far, or 0 for proven.
        self._seen: dict[object, int] = {}

    def holds(self, request: Request) -> bool:
        """Whether the outputs that a request asks for follow its rows, as far as anybody can know."""
        asked = request.outputs
        return (bool(asked) and self._declared.issuperset(asked)) or self._seen.get(_manner(request)) == 0

    def add(self, request: Request, outputs: Outputs, rows: int) -> str | None:
        """Learn from the answer to a request of ``rows`` rows; gives the name of an output that does not follow."""
        asked = request.outputs
        # A Python function may give more than was asked for.
        name = not_by_rows({name: outputs[name] for name in asked} if asked else outputs, rows)
        if name is None:
            manner = _manner(request)
            seen = self._seen.get(manner)
            if seen is None:
                if len(self._seen) < 1024:  # callers may ask in endless many ways
                    self._seen[manner] = rows
            elif seen != rows:
                self._seen[manner] = 0
        return name


def _manner(request: Request) -> object:
    """What may decide whether an output has rows: some do only if an optional input came, say."""
    return request.outputs, request.config, tuple([(name, array.ndim) for name, array in request.inputs.items()])
