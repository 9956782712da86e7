"""Requests like one that was read before: the same bytes but for those of the tensors, which lie in the same places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphpipe.wire.dtypes import type_of
from graphpipe.wire.memory import LayoutMemory, ReadTensor

__all__ = ["Recall"]

T = TypeVar("T")
Array = NDArray[Any]


class Recall(Generic[T]):
    """What requests of one kind said beside their tensors. Safe in threads."""

    def __init__(self) -> None:
        self._memory: LayoutMemory[T] = LayoutMemory()

    def find(self, message: memoryview) -> tuple[T, list[Array]] | None:
        """What a request like this one said, and the arrays of this one, which are views of it."""
        known = self._memory.find(message)
        if known is None:
            return None
        if len(known.tensors) == 1:  # nearly always
            tensor = known.tensors[0]
            return known.rest, [np.ndarray(tensor.shape, tensor.dtype, message, tensor.start)]
        return known.rest, [np.ndarray(t.shape, t.dtype, message, t.start) for t in known.tensors]

    def keep(self, message: memoryview, said: T, arrays: Sequence[Array]) -> None:
        """Remember what a request said, if all of its arrays are numbers as they stand in it: no others are views."""
        if not arrays or any(array.dtype.kind not in "iuf" or array.base is None for array in arrays):
            return
        first = _address(np.ndarray(len(message), np.uint8, message))
        tensors = []
        for array in arrays:
            start = _address(array) - first if array.size else 0
            if not 0 <= start <= len(message) - array.nbytes:
                return
            tensors.append(ReadTensor(type_of(array.dtype), array.dtype, array.shape, start, array.nbytes, None, False))
        self._memory.keep(message, (), 0, said, tensors)

    def forget(self) -> None:
        """What was said means something else from now on."""
        self._memory = LayoutMemory()


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
