"""What a problem promises of outputs, held against what came: each is there, of its type and shape, with equal symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import a_kind
from graphpipe.arrays import array_of
from graphpipe.errors import ServiceError
from graphpipe.signature import TensorSpec
from graphpipe.wire.dtypes import dtype_name, to_bytes
from graphpipe.words import listed, quoted

__all__ = ["BrokenPromise", "Promise", "bound", "is_of", "shown"]

Array = NDArray[Any]
_Where = dict[str, tuple[int, str]]

# Callers repeat themselves; whoever does not is looked at anew each time.
_REMEMBERED_MAX = 1024
_TEXTS = frozenset((bytes, str))


class BrokenPromise(Exception):
    """An output is not what was promised, in words."""


class Promise:
    """The outputs that a problem promises for inputs that fit it. Safe to use from several threads at once."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._inputs = tuple(inputs)
        self._outputs = {spec.name: spec for spec in outputs}
        self._kept: set[tuple[Any, ...]] = set()

    def held(
        self,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Any],
        wanted: Sequence[str],
        known_as: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """The wanted outputs as arrays by name; ``known_as`` are their names among the outputs, where those are others.

        Raises BrokenPromise.
        """
        if type(outputs) is not dict and not isinstance(outputs, Mapping):
            raise BrokenPromise(f"arrays by name were promised, and it gave {a_kind(outputs)}")
        answer: dict[str, Array] = {}
        # Which input is which depends on the order alone, and so does which output was wanted.
        seen: list[Any] = [*inputs, *wanted]
        for each in inputs.values():
            seen.append(each.shape)
        texts = False
        for name, known in zip(wanted, known_as or wanted, strict=True):
            array: Any = outputs.get(known)
            if type(array) is not np.ndarray:
                array = _array(outputs, name, known)
            answer[name] = array
            dtype = array.dtype
            if dtype.char in "OSUT":
                texts = True
            seen.append(dtype)
            seen.append(array.shape)
        key = tuple(seen)
        if key not in self._kept:
            self._check(inputs, answer)
            if len(self._kept) >= _REMEMBERED_MAX:
                self._kept = set()
            self._kept.add(key)
        return _in_bytes(answer) if texts else answer

    def _check(self, inputs: Mapping[str, Array], answer: Mapping[str, Array]) -> None:
        symbols = bound(self._inputs, inputs)
        for name, array in answer.items():
            spec = self._outputs[name]
            if spec.dtype is not None and not is_of(array.dtype, spec.dtype):
                raise BrokenPromise(_words(spec, array))
            if spec.shape is None:
                continue
            if len(spec.shape) != array.ndim:
                raise BrokenPromise(_words(spec, array))
            for got, want in zip(array.shape, spec.shape, strict=True):
                if isinstance(want, int) and got != want:
                    raise BrokenPromise(_words(spec, array))
                if isinstance(want, str):
                    first, where = symbols.setdefault(want, (got, name))
                    if got != first:
                        raise BrokenPromise(f"{_words(spec, array)}, where {want} is {first} in {where!r}")


def bound(specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> _Where:
    """The values that symbols have in these arrays, each with the name of the one that has it first."""
    symbols: _Where = {}
    for spec in specs:
        array = arrays.get(spec.name)
        if array is None or spec.shape is None:
            continue
        for dim, size in zip(spec.shape, array.shape, strict=False):
            if isinstance(dim, str):
                symbols.setdefault(dim, (size, spec.name))
    return symbols


def shown(array: Array) -> str:
    """An array's type and shape, as a spec has them: ``float64[3, 5]``."""
    return f"{dtype_name(array.dtype)}[{', '.join(map(str, array.shape))}]"


def _array(outputs: Mapping[str, Any], name: str, known: str) -> Array:
    if known not in outputs:
        came = listed([str(each) for each in outputs]) or "nothing"
        raise BrokenPromise(f"output {name!r} is missing; it gave {came}")
    try:
        return np.asarray(array_of(outputs[known], f"output {name!r}"))
    except ServiceError as error:
        raise BrokenPromise(error.message) from None


def is_of(dtype: np.dtype[Any], want: np.dtype[Any]) -> bool:
    """Whether an array of ``dtype`` is what somebody wants who wants the other: texts are, however numpy keeps them."""
    if dtype == want:
        return True
    if want.kind == "O":
        return dtype.kind in "SUT"
    return dtype.newbyteorder("=") == want  # it travels in the one order anyway


def _words(spec: TensorSpec, array: Array) -> str:
    return f"output {quoted(spec.name)} is {shown(array)}, and {spec.text} was promised"


def _in_bytes(answer: dict[str, Array]) -> dict[str, Array]:
    """Texts as they come from a server, bytes: models of one problem may be here or there, and of any framework."""
    return {name: _texts(name, array) if array.dtype.kind in "OSUT" else array for name, array in answer.items()}


def _texts(name: str, array: Array) -> Array:
    items = array.ravel().tolist()
    kinds = set(map(type, items))
    if not _TEXTS.issuperset(kinds):
        other = next(kind for kind in kinds if kind not in _TEXTS)
        raise BrokenPromise(f"output {quoted(name)} is text, and an element of it is {_article(other)}")
    if array.dtype.hasobject and str not in kinds:
        return array
    texts = np.empty(array.size, object)
    try:
        texts[:] = [to_bytes(item, f"output {quoted(name)}") for item in items]
    except ServiceError as error:  # half of a pair of surrogates, say
        raise BrokenPromise(error.message) from None
    return texts.reshape(array.shape)


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[:1] in 'aeiouAEIOU' else 'a'} {kind.__name__}"
