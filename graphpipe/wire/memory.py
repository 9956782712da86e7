"""Layouts of messages seen before.

Messages of one caller to one model differ only in their tensors' bytes. All that the reader looks at lies outside of
those: before the first, between them, behind the last. A message of the same size with the same bytes there would be
read in exactly the same way, so the reading is remembered, and those bytes are compared instead of read again: 2 us in
place of 20. Our own writer's messages have nearly all of them in front; the official library, which writes back to
front, puts shapes and names behind the data as well. benchmarks/codec.py measures both, and tests/wire/test_memory.py
proves that both give the same.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from graphpipe.wire.dtypes import Type

__all__ = ["LayoutMemory", "ReadTensor", "Reading", "StringPlace"]

T = TypeVar("T")

# A stranger must not fill our memory: 256 readings of at most 8 KiB and 64 tensors.
_READINGS_MAX = 256
_OUTSIDE_BYTES_MAX = 8192
_TENSORS_MAX = 64
# Messages of one size whose tensors' bytes lie in different places. More than a few of them are an accident.
_OUTLINES_MAX = 4
# So many newcomers must ask for the place of a reading in use before one gets it, with no use of it in between.
_LIVES = 4


class StringPlace(NamedTuple):
    """Where the offsets of a tensor's strings stand, and how many there are."""

    start: int
    number: int


class ReadTensor(NamedTuple):
    """A tensor whose place in the message has been checked: ``length`` bytes from ``start``, or ``strings``."""

    type: Type
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    length: int
    strings: StringPlace | None
    is_bool: bool


class Reading(Generic[T]):
    """What a message said: the tensors, and ``rest``, which is everything else."""

    __slots__ = ("key", "lives", "outline", "rest", "tensors")

    def __init__(self, rest: T, tensors: tuple[ReadTensor, ...], outline: _Outline[T], key: bytes) -> None:
        self.rest = rest
        self.tensors = tensors
        self.outline = outline
        self.key = key
        self.lives = 1  # until it is used again


class _Outline(NamedTuple, Generic[T]):
    """Where the tensors' bytes are not: up to byte ``first``, and from one place to another of each pair in ``others``.

    ``readings`` has those of messages of this size and outline, by all bytes that lie there.
    """

    first: int
    others: tuple[slice, ...]
    readings: dict[bytes, Reading[T]]
    size: int


class LayoutMemory(Generic[T]):
    """Readings of messages of one kind, by the bytes that determined them.

    Who keeps sending new layouts drives none out that is in use: newcomers ask for the places of readings in turn, and each
    use of a reading gives it the lives to turn some of them away, who are not kept.

    Safe in threads: looking is dict operations alone, keeping has a lock, and a reading that is lost is only made again.
    """

    def __init__(self) -> None:
        self._outlines: dict[int, tuple[_Outline[T], ...]] = {}  # by the message's size
        self._turns: deque[Reading[T]] = deque()  # whose place is asked for next
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._turns)

    def find(self, message: memoryview | bytes) -> Reading[T] | None:
        """The reading of this message, if one that is read in the same way was read before."""
        for first, others, readings, _ in self._outlines.get(len(message), ()):
            outside = bytes(message[:first])
            for place in others:
                outside += message[place]
            known = readings.get(outside)
            if known is not None:
                known.lives = _LIVES
                return known
        return None

    def keep(
        self,
        message: memoryview,
        structures: Sequence[tuple[int, int]],
        claimed: int,
        rest: T,
        tensors: Sequence[ReadTensor],
    ) -> bool:
        """Remember the reading of a message, if it is fit to be remembered and there is room; gives whether it is.

        ``structures`` are the places, from and to, of all bytes that were looked at; ``claimed`` is what the vectors and
        strings of the message say that they hold, with the tensors' bytes.
        """
        # Where strings lie follows from their lengths, which change with every message.
        if len(tensors) > _TENSORS_MAX or any(tensor.strings is not None for tensor in tensors):
            return False
        size = len(message)
        data = _united((tensor.start, tensor.start + tensor.length) for tensor in tensors if tensor.length)
        edges = [0, *(edge for span in data for edge in span), size]
        outside = [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        if not outside or outside[0].start or sum(place.stop - place.start for place in outside) > _OUTSIDE_BYTES_MAX:
            return False
        # Entries that share their bytes can say much more than they take. Such messages are legal, but not kept.
        if claimed - sum(tensor.length for tensor in tensors) > sum(place.stop - place.start for place in outside):
            return False
        # Nor are those with a table or a name among a tensor's bytes, which may differ.
        if _overlap(structures, data):
            return False
        first, *others = outside
        key = b"".join([message[place] for place in outside])
        with self._lock:
            return self._keep(size, first.stop, tuple(others), key, rest, tuple(tensors))

    def _keep(
        self,
        size: int,
        first: int,
        others: tuple[slice, ...],
        key: bytes,
        rest: T,
        tensors: tuple[ReadTensor, ...],
    ) -> bool:
        outlines = self._outlines.get(size, ())
        outline = next((each for each in outlines if (each.first, each.others) == (first, others)), None)
        if outline is None:
            if len(outlines) >= _OUTLINES_MAX and not self._end_an_outline(outlines):
                return False
            outline = _Outline(first, others, {}, size)
        elif key in outline.readings:  # another thread was quicker
            return False
        if len(self._turns) >= _READINGS_MAX:
            oldest = self._turns.popleft()
            if oldest.lives:
                oldest.lives -= 1
                self._turns.append(oldest)
                return False
            self._forget(oldest)
        reading = outline.readings[key] = Reading(rest, tensors, outline, key)
        self._turns.append(reading)
        # Forgetting may have changed them.
        outlines = self._outlines.get(size, ())
        if all(each is not outline for each in outlines):
            self._outlines[size] = (*outlines, outline)
        return True

    def _end_an_outline(self, outlines: tuple[_Outline[T], ...]) -> bool:
        """Make room for another outline of a size, if one of them was out of use for long enough."""
        for outline in outlines:
            if not any(reading.lives for reading in outline.readings.values()):
                for reading in list(outline.readings.values()):
                    self._turns.remove(reading)
                    self._forget(reading)
                return True
        for outline in outlines:
            for reading in outline.readings.values():
                reading.lives = max(0, reading.lives - 1)
        return False

    def _forget(self, reading: Reading[T]) -> None:
        outline = reading.outline
        del outline.readings[reading.key]
        if not outline.readings:
            left = tuple(each for each in self._outlines[outline.size] if each is not outline)
            if left:
                self._outlines[outline.size] = left
            else:
                del self._outlines[outline.size]


def _united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places, in order, those that touch or overlap made one."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((start, end))
    return united


def _overlap(places: Iterable[tuple[int, int]], data: list[tuple[int, int]]) -> bool:
    """Whether one of the places, none of which is empty, has a byte of ``data``, which is in order and apart."""
    starts = [start for start, _ in data]
    for start, end in places:
        at = bisect_right(starts, end - 1) - 1  # the last that starts before the place ends
        if at >= 0 and data[at][1] > start:
            return True
    return False
