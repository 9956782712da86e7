"""Memory that a caller on the same host shows beside his message, in place of tensors' bytes, and for outputs.

He can go on writing to it. So what is checked has to be what is used: whole numbers are copied in, since frameworks check
them as indices and lengths before they use them. What a stage compares or keeps is copied too, or a row cache would be
poisoned by whoever changes a row while it is computed; and so is all that is another user's, since what a framework does
with numbers that change under its hands is nobody's promise. The rest the model reads where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.protocols.protocol import Fields
from graphpipe.wire import RequestHead, Segment, encode_infer_response

__all__ = ["Beside", "copy", "encode", "to_copy"]

Array = NDArray[Any]

_CHECKED = frozenset(map(np.dtype, ("bool", "int32", "int64", "uint32", "uint64")))


class Beside(Protocol):
    """The memory of one request. ``tensors`` are bytes of tensors, by their number, ``size`` says how many they are.

    ``is_foreign``: it is another user's.
    """

    tensors: dict[int, memoryview]
    is_foreign: bool
    size: int

    def settle(self, arrays: list[Array], copied: Set[int]) -> list[tuple[Array, Array]]:
        """Put arrays of our own in the places of these, which lie in the memory, and give what is to be copied, to and
        from. The others stay where they are.
        """
        ...

    def places(self, arrays: Sequence[Array]) -> Mapping[int, int]:
        """Which outputs can go to the caller's memory, by their number, and where in it."""
        ...

    def put(self, array: Array, at: int) -> Array:
        """Write one of them there, and give what was written."""
        ...


def to_copy(beside: Beside, arrays: Sequence[Array], head: RequestHead, *, all_of_it: bool) -> set[int]:
    """Which tensors must not change any more, by their number."""
    every = all_of_it or beside.is_foreign
    return {i for i in beside.tensors if every or arrays[i].dtype in _CHECKED or i in head.bools}


def copy(pairs: list[tuple[Array, Array]]) -> None:
    """Copy to and from. The list is empty afterwards: who has called may be known for longer by the thread that did it."""
    for ours, theirs in pairs:
        np.copyto(ours, theirs)
    pairs.clear()


def encode(beside: Beside, outputs: list[Array], places: Mapping[int, int], shown: list[Array]) -> list[Segment]:
    """An answer's bytes. Outputs that have a place are written there, and those that lie in what was ``shown`` are copied:
    their caller need not wait with his next request until they are sent. Both lists are empty afterwards.
    """
    for i, array in enumerate(outputs):
        if i in places:
            outputs[i] = beside.put(array, places[i])
        elif any(np.may_share_memory(array, each) for each in shown):
            outputs[i] = array.copy()
    segments = encode_infer_response(outputs, elsewhere=frozenset(places))
    outputs.clear()
    shown.clear()
    return segments


def places_field(places: Mapping[int, int], outputs: Sequence[Array]) -> Fields:
    """What the head of an answer says of outputs that are elsewhere."""
    return (("GraphPipe-Memory", ", ".join([f"{i}={at}+{outputs[i].nbytes}" for i, at in places.items()])),)
