"""Ragged inputs in one batch: made equally long along a declared axis, and the answers cut back.

Which axes of the outputs grew with the inputs is read off the signature's symbols, or declared; it is never guessed
from lengths that happen to be equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import LoadError
from graphpipe.server.stages.rows import Layout
from graphpipe.server.stages.stage import Outputs
from graphpipe.signature import Signature, TensorSpec

__all__ = ["RaggedAxes", "ragged_axes"]

Array = NDArray[Any]

_FORM = "INPUT:AXIS:VALUE, OUTPUT:AXIS:INPUT for an output that grows with it, or OUTPUT:none"


@dataclass(frozen=True, slots=True)
class RaggedAxes:
    """What to fill and what to cut.

    ``fills``: by input, the axes that may differ, and what fills them. ``follows``: by output, the axes that are as
    long as an axis of an input: (axis, input, its axis).
    """

    fills: Mapping[str, Mapping[int, Any]]
    follows: Mapping[str, tuple[tuple[int, str, int], ...]]

    def loosen(self, layout: Layout) -> Layout:
        """A layout in which lengths that padding makes equal are left open."""
        return tuple(
            (name, dtype, tuple(None if axis in self.fills[name] else d for axis, d in enumerate(shape, 1)))
            if name in self.fills
            else (name, dtype, shape)
            for name, dtype, shape in layout
        )

    def pad(self, parts: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """The same rows, every padded axis as long as the longest of them."""
        padded = [dict(part) for part in parts]
        for name, fills in self.fills.items():
            if name not in parts[0]:
                continue
            longest = np.max([part[name].shape for part in parts], axis=0)
            for part in padded:
                array = part[name]
                for axis, fill in fills.items():
                    missing = int(longest[axis]) - array.shape[axis]
                    if missing:
                        gap = [*array.shape]
                        gap[axis] = missing
                        array = np.concatenate([array, np.full(gap, fill, array.dtype)], axis)
                part[name] = array
        return padded

    def cut(self, outputs: Outputs, inputs: Mapping[str, Array]) -> Outputs:
        """One caller's rows of the outputs, as long again as that caller's ``inputs``."""
        cut = dict(outputs)
        for name, axes in self.follows.items():
            if name in cut:
                where = [slice(None)] * cut[name].ndim
                for axis, source, source_axis in axes:
                    if source in inputs and axis < len(where):
                        where[axis] = slice(0, inputs[source].shape[source_axis])
                cut[name] = cut[name][tuple(where)]
        return cut


def ragged_axes(texts: Sequence[str], signature: Signature) -> RaggedAxes | None:
    """What the texts of --batch-pad mean for a model. Raises LoadError with a line that says how to mend it."""
    if not texts:
        return None
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in signature.outputs}
    fills: dict[str, dict[int, Any]] = {}
    follows: dict[str, list[tuple[int, str, int]]] = {}
    declared: list[tuple[str, int, str]] = []
    for text in texts:
        # A name may hold colons (TensorFlow's x:0), the rest may not.
        if text.endswith(":none") and text[:-5] in outputs:
            follows[text[:-5]] = []
            continue
        name, axis, value = _split(text)
        if name in inputs:
            fills.setdefault(name, {})[axis] = _fill(text, inputs[name], axis, value)
        elif name in outputs:
            declared.append((name, axis, value))
        else:
            raise LoadError(f"--batch-pad {text}: the model has no input or output {name!r}; write {_FORM}")
    for name, axis, source in declared:
        if len(fills.get(source, ())) != 1:
            raise LoadError(f"--batch-pad {name}:{axis}:{source}: {source!r} is not an input padded along one axis")
        follows.setdefault(name, []).append((axis, source, next(iter(fills[source]))))
    if not fills:
        raise LoadError(f"--batch-pad {texts[0]} pads no input; write {_FORM}")
    for spec in outputs.values():
        if spec.name not in follows:
            follows[spec.name] = _by_symbols(spec, inputs, fills)
    return RaggedAxes(fills, {name: tuple(axes) for name, axes in follows.items() if axes})


def _split(text: str) -> tuple[str, int, str]:
    parts = text.rsplit(":", 2)
    if len(parts) == 3 and parts[0] and parts[1].isdecimal() and int(parts[1]) > 0:
        return parts[0], int(parts[1]), parts[2]
    raise LoadError(f"--batch-pad {text}: write {_FORM}; the axis is counted from 0, and 0 is that of the rows")


def _fill(text: str, spec: TensorSpec, axis: int, value: str) -> Any:
    if spec.shape is not None:
        if axis >= len(spec.shape):
            raise LoadError(f"--batch-pad {text}: there is no axis {axis} in {spec}")
        if isinstance(spec.shape[axis], int):
            raise LoadError(f"--batch-pad {text}: there is nothing to pad along axis {axis} of {spec}")
    if spec.dtype is not None and spec.dtype.kind in "OSU":
        return value.encode()
    try:
        if spec.dtype is None:
            return float(value)
        if spec.dtype.kind == "b" and value not in ("0", "1"):
            raise ValueError
        # Through Python's own numbers: numpy refuses what the type cannot hold.
        return np.array([float(value) if spec.dtype.kind == "f" else int(value)], spec.dtype)[0]
    except (ValueError, OverflowError):
        raise LoadError(f"--batch-pad {text}: {value!r} is not a value of {spec}") from None


def _by_symbols(
    output: TensorSpec, inputs: Mapping[str, TensorSpec], fills: Mapping[str, Mapping[int, Any]]
) -> list[tuple[int, str, int]]:
    padded: dict[str, tuple[str, int]] = {}
    others = set()
    for spec in inputs.values():
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str) and axis in fills.get(spec.name, ()):
                padded[dim] = (spec.name, axis)
            else:
                others.add(dim)
    if output.shape is None:
        raise LoadError(_ambiguous(output, next(iter(fills))))
    follows = []
    for axis, dim in enumerate(output.shape):
        if axis == 0 or isinstance(dim, int):
            continue
        if isinstance(dim, str) and dim in padded:
            follows.append((axis, *padded[dim]))
        elif dim is None or dim not in others:
            raise LoadError(_ambiguous(output, next(iter(fills))))
    return follows


def _ambiguous(output: TensorSpec, source: str) -> str:
    return (
        f"--batch-pad: nothing says whether {output} grows with {source!r}; declare it: "
        f"--batch-pad {output.name}:AXIS:{source}, or {output.name}:none"
    )
