"""``--pad``: inputs that are shorter than a model's fixed size are filled up to it.

A trace keeps the sizes that it was made with: a text encoder traced with 128 tokens takes 128 tokens. With
``input_ids:1:0`` callers send as many tokens as they have, and the rest of axis 1 is filled with 0. Where the model's
signature does not say the size, a fourth part does: ``input_ids:1:0:128``. Outputs are given as the model makes them,
of the full size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Dim, Signature

if TYPE_CHECKING:
    from graphpipe.backends.model import Model

__all__ = ["Padded", "padded"]

Array = NDArray[Any]


class _Padding(NamedTuple):
    axis: int
    value: float
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
            self._paddings.setdefault(name, []).append(padding)
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
    match = re.fullmatch(r"(.+?):(\d+):([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf)(?::(\d+))?", text)
    if match is None:
        raise LoadError(f"--pad {text}: expected NAME:AXIS:VALUE, input_ids:1:0 say, or NAME:AXIS:VALUE:SIZE")
    spec = next((spec for spec in signature.inputs if spec.name in (match[1], f"{match[1]}:0")), None)
    if spec is None:
        names = ", ".join(repr(each.name) for each in signature.inputs)
        raise LoadError(f"--pad {text}: there is no input {match[1]!r}; there are {names}")
    axis = int(match[2])
    if spec.shape is not None and axis >= len(spec.shape):
        raise LoadError(f"--pad {text}: {spec} has no axis {axis}")
    known = spec.shape[axis] if spec.shape is not None else None
    size = int(match[4]) if match[4] else known
    if not isinstance(size, int):
        raise LoadError(f"--pad {text}: nothing says what size axis {axis} of {spec} has; say it: {text}:SIZE")
    return spec.name, _Padding(axis, float(match[3]), size)


def _relaxed(signature: Signature, paddings: Mapping[str, Sequence[_Padding]]) -> Signature:
    specs = []
    for spec in signature.inputs:
        found = paddings.get(spec.name, ())
        if found:
            notes = [f"axis {p.axis} filled up to {p.size} with {p.value:g}" for p in found]
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
    for (axis, value, _), width in zip(paddings, [widths[p.axis] for p in paddings], strict=True):
        if width[1]:
            each = [(0, 0)] * array.ndim
            each[axis] = width
            array = np.pad(array, each, constant_values=array.dtype.type(value))
    return array
