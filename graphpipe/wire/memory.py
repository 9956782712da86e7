"""Layouts of messages seen before.

Messages of one caller to one model differ only in their tensors' bytes: where every table lies before the first tensor
byte (as in our own writer's messages), everything that the reader looks at is one short run of bytes, the *head*, plus
the length words between the tensors. A message of the same size with the same head and the same words would be read in
exactly the same way, so the reading is remembered and compared instead of done again: 2 us instead of 12. Messages of
other writers, whose tables and data are mixed, are read anew each time. benchmarks/codec.py measures both ways, and
tests/wire/test_memory.py proves that both give the same.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from graphpipe.wire.dtypes import Type

__all__ = ["LayoutMemory", "ReadTensor", "Reading"]

T = TypeVar("T")

_u32 = struct.Struct("<I").unpack_from

# A stranger must not fill our memory: 256 layouts of at most 4 KiB and 64 tensors.
_LAYOUTS_MAX = 256
_HEAD_BYTES_MAX = 4096
_TENSORS_MAX = 64
# Messages of one size whose heads end at different places. More than a few of them are an accident.
_HEAD_LENGTHS_MAX = 4


class ReadTensor(NamedTuple):
    """A tensor whose place in the message has been checked: ``length`` bytes from ``start``, or these ``strings``."""

    type: Type
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    length: int
    strings: list[bytes] | None
    is_bool: bool


class Reading(NamedTuple, Generic[T]):
    """What a message said: the tensors, and ``rest``, which is everything else."""

    rest: T
    tensors: tuple[ReadTensor, ...]
    length_words: tuple[tuple[int, int], ...]  # position and value, of all tensors but the first


class LayoutMemory(Generic[T]):
    """Readings of messages of one kind, by the bytes that determined them.

    Safe in threads: every step is one dict operation, and a reading that is lost is only made again.
    """

    def __init__(self) -> None:
        self._head_lengths: dict[int, tuple[int, ...]] = {}  # by the message's size, the latest first
        self._readings: dict[tuple[int, bytes], Reading[T]] = {}

    def __len__(self) -> int:
        return len(self._readings)

    def find(self, message: memoryview | bytes) -> Reading[T] | None:
        """The reading of this message, if one that is read in the same way was read before."""
        size = len(message)
        for head_length in self._head_lengths.get(size, ()):
            known = self._readings.get((size, bytes(message[:head_length])))
            if known is not None:
                for at, value in known.length_words:
                    if _u32(message, at)[0] != value:
                        break
                else:
                    return known
        return None

    def keep(self, message: memoryview, end: int, unspent: int, rest: T, tensors: list[ReadTensor]) -> bool:
        """Remember a reading whose structures end at byte ``end``, where nothing but lengths lies among the tensors.

        ``unspent`` counts the bytes of the message that its vectors and strings did not claim. Gives whether it was
        fit to be kept.
        """
        if not 0 < len(tensors) <= _TENSORS_MAX:
            return False
        starts = [t.start for t in tensors]
        # Where data is absent start is 0, and so it is for strings: both are before the end of any structure.
        head_length = min(starts)
        if not end <= head_length <= _HEAD_BYTES_MAX:
            return False
        # Entries that share their bytes can say much more than they take. Such heads are legal, but not kept.
        if len(message) - unspent - sum(t.length for t in tensors) > head_length:
            return False
        first = starts.index(head_length)
        words = tuple([(t.start - 4, t.length) for i, t in enumerate(tensors) if i != first])
        if len(self._readings) >= _LAYOUTS_MAX:
            self._readings.clear()
            self._head_lengths.clear()
        size = len(message)
        others = [n for n in self._head_lengths.get(size, ()) if n != head_length]
        self._head_lengths[size] = (head_length, *others[: _HEAD_LENGTHS_MAX - 1])
        self._readings[size, message[:head_length].tobytes()] = Reading(rest, tuple(tensors), words)
        return True
