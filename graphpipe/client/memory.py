"""Tensors that a client shows to a server on the same host, instead of sending their bytes; and outputs that come back
that way. No sockets here.

What is shown lies in segments: memory behind descriptors, which go along with the request. An array that lies in one
already stays where it is, others are copied into one. They are ours, and used again: so nothing of one is written to
while the server may look at it. What the server says that it keeps, or what it was shown when no answer came, is *spent*: it
goes when nobody here holds it any more, and holds nothing else before. docs/wire.md is the normative text.
"""

from __future__ import annotations

import math
import re
import socket
import weakref
from collections.abc import Sequence
from itertools import pairwise
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from graphpipe.arrays import array_of
from graphpipe.buffers import POOLED_FROM, BufferPool
from graphpipe.client.address import Address
from graphpipe.client.calls import Array, Reply
from graphpipe.errors import NoAnswer
from graphpipe.memory.places import Place, place_of
from graphpipe.memory.segment import Segment as SharedSegment
from graphpipe.memory.segment import available
from graphpipe.wire import Segment, Type, encode_request
from graphpipe.wire.dtypes import type_of
from graphpipe.words import quoted

__all__ = [
    "ASKING_S",
    "LARGE_FROM",
    "PROTOCOL",
    "Loan",
    "Memory",
    "Tensors",
    "asking_head",
    "is_possible",
    "refused",
    "tensors_of",
]

PROTOCOL = "graphpipe-memory/1"
# A server that says nothing when it is asked is not waited for any longer.
ASKING_S = 5.0

# Calls with less go as bytes: to look at memory costs both sides about what copying so much does (benchmarks/sharing.py).
LARGE_FROM = 256 * 1024
# Of others, tensors of less stay in the message, which goes anyway.
_SHOWN_FROM = POOLED_FROM
# What one request shows, at most: its head must stay small, and the kernel passes no more descriptors than some.
_TENSORS_MAX = 64
_FDS_MAX = 16
_ALIGNMENT = 64
_IDLE_BYTES_MAX = 256 << 20
# Each segment costs a descriptor, of which a process may have 1024: who keeps more answers than this has them in
# ordinary memory.
_OUT_MAX = 128
# Of so many kinds of calls something is remembered.
_KINDS_MAX = 256
# A server that cannot is asked again after so long: it may be another one by then.
_ASKED_AGAIN_S = 60.0

_ENTRY = re.compile(r"(0|[1-9][0-9]{0,3})=(0|[1-9][0-9]{0,17})\+([1-9][0-9]{0,17})")
_FIELD_MAX = 8192


def is_possible(address: Address) -> bool:
    """Whether memory can be shown at all: over a Unix socket, on a system that has such memory."""
    return bool(address.unix_path) and hasattr(socket, "send_fds") and available()


def asking_head(host: str) -> bytes:
    """The request that asks a server to look at memory from now on."""
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode()


def refused(reply: Reply) -> bool:
    """Whether a server says that it could not look at what it was shown. Nothing has run."""
    return reply.head.memory == "refused" and reply.head.status != 200


class Tensors:
    """The inputs of a call that are many bytes. They go as bytes, or are shown."""

    __slots__ = ("arrays", "asked", "config", "kind", "names")

    def __init__(self, arrays: Sequence[Array], names: tuple[str, ...], asked: tuple[str, ...], config: str) -> None:
        self.arrays = arrays
        self.names = names
        self.asked = asked
        self.config = config
        # Calls of one kind have answers of one size, mostly.
        self.kind = config, names, asked, tuple([(array.dtype, array.shape) for array in arrays])

    @property
    def bytes_to_copy(self) -> int:
        """About how many bytes are copied when they are shown."""
        return sum([array.nbytes for array in self.arrays if place_of(array) is None])

    def as_bytes(self) -> list[Segment]:
        """The request with everything in it."""
        return encode_request(self.arrays, self.names, self.asked, self.config)


def tensors_of(inputs: Sequence[object], names: tuple[str, ...], asked: tuple[str, ...], config: str) -> Tensors:
    """The inputs of a call as tensors. Raises InvalidRequest for what is none."""
    called = dict(enumerate(names))
    arrays = [array_of(value, quoted(called[i]) if called.get(i) else f"input {i}") for i, value in enumerate(inputs)]
    return Tensors(arrays, names, asked, config)


def _bytes_of(value: object) -> int:
    """Of how many bytes the numbers in a tensor are."""
    size = getattr(value, "nbytes", 0)
    if type(size) is not int or (type(value) is np.ndarray and value.dtype.hasobject):
        return 0
    return size


class Memory:
    """The segments of one client, what answers took of them, and whether the server takes any. Safe in threads."""

    def __init__(self, answer_bytes_max: int) -> None:
        self._answer_bytes_max = answer_bytes_max
        self._pool = _pool()
        # A server is shown nothing that others have seen, or may see: its memory is told by nobody but us.
        self._ours: weakref.WeakSet[SharedSegment] = weakref.WeakSet()
        self._kinds: dict[object, _Kind] = {}
        self._out: set[object] = set()  # of each segment that a caller may keep: finalizers must need no lock
        self._has_large_answers = False
        self._refused_until = 0.0

    # --- whether ---

    @property
    def is_taken(self) -> bool:
        """Whether the server takes memory, as far as anybody knows."""
        return monotonic() >= self._refused_until

    def is_not_taken(self) -> None:
        """Take note that it does not."""
        self._refused_until = monotonic() + _ASKED_AGAIN_S

    def may_be_taken(self) -> None:
        """Take note that it may be another server by now."""
        self._refused_until = 0.0

    # --- what ---

    def tensors(
        self, inputs: Sequence[object], names: tuple[str, ...], asked: tuple[str, ...], config: str
    ) -> Tensors | None:
        """The inputs of a call if they are many bytes, or if its answer was, the last time; else None.

        Raises InvalidRequest for what is no tensor.
        """
        is_large = sum(map(_bytes_of, inputs)) >= LARGE_FROM
        if not is_large and not self._has_large_answers:
            return None
        tensors = tensors_of(inputs, names, asked, config)
        if is_large or ((kind := self._kinds.get(tensors.kind)) is not None and kind.room >= LARGE_FROM):
            return tensors
        return None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array that a call can show as it is, where there is such memory; its elements are anything."""
        size = math.prod(shape) * dtype.itemsize
        if size >= POOLED_FROM and not dtype.hasobject and min(shape, default=0) >= 0:
            lease = self._lease_out(size)
            if lease is not None:
                return np.ndarray(shape, dtype, lease.view)
        return np.empty(shape, dtype)

    def lend(self, tensors: Tensors) -> Loan | None:
        """A request that shows what it can of ``tensors``, and has the rest in it; None if there is nothing to show."""
        arrays, shown = list(tensors.arrays), _Shown()
        copied: list[int] = []
        size = 0
        for i, array in enumerate(arrays):
            if array.nbytes < _SHOWN_FROM or type_of(array.dtype) in (Type.NULL, Type.STRING):
                continue
            if len(shown.places) + len(copied) == _TENSORS_MAX:
                break
            place = _place_of(array)
            if place is None or place.segment not in self._ours or not shown.add(i, place):
                copied.append(i)
                size += _aligned(array.nbytes)
        copies = self._lease(size) if size >= POOLED_FROM else None
        if copies is not None:
            number, at = shown.number(copies), 0
            for i in copied:
                arrays[i] = target = np.ndarray(arrays[i].shape, arrays[i].dtype.newbyteorder("<"), copies.view, at)
                _copy(tensors.arrays[i], target)
                shown.places[i] = number, copies.place.offset + at, target.nbytes
                at += _aligned(target.nbytes)
        kind = self._kind(tensors)
        area = self._lease_out(kind.room) if kind.room else None
        if not shown.places and area is None:
            return None
        message = kind.message
        if message is None or len(shown.places) < len(arrays):
            elsewhere = frozenset(shown.places)
            message = encode_request(arrays, tensors.names, tensors.asked, tensors.config, elsewhere=elsewhere)
            if len(elsewhere) == len(arrays) > 0:  # it has none of their bytes, and is the same the next time
                kind.message = message
        return Loan(shown, message, copies, area, self._answer_bytes_max)

    def learn(self, tensors: Tensors, outputs: Sequence[Array]) -> None:
        """Take note of what such a call is answered with: the next one brings room for it."""
        room = sum(
            [_aligned(array.nbytes) for array in outputs if array.nbytes >= POOLED_FROM and not array.dtype.hasobject]
        )
        if room > self._answer_bytes_max:
            room = 0
        self._kind(tensors).room = room
        if room >= LARGE_FROM:
            self._has_large_answers = True

    def _kind(self, tensors: Tensors) -> _Kind:
        kind = self._kinds.get(tensors.kind)
        if kind is None:
            if len(self._kinds) >= _KINDS_MAX:
                self._kinds.clear()
            kind = self._kinds[tensors.kind] = _Kind()
        return kind

    def close(self) -> None:
        """Let go of the segments that nobody looks at."""
        self._pool = _pool()

    def _lease(self, size: int) -> _Lease | None:
        try:
            view = self._pool.lease(size)
        except (OSError, MemoryError, OverflowError, ValueError):  # no memory; bytes need none
            return None
        place = None if view is None else place_of(np.frombuffer(view, np.uint8))
        if view is None or place is None:  # where no descriptor was left, it is memory of our own
            return None
        self._ours.add(place.segment)
        return _Lease(view, place)

    def _lease_out(self, size: int) -> _Lease | None:
        """Memory that a caller may keep for as long as he likes."""
        if len(self._out) >= _OUT_MAX:
            return None
        lease = self._lease(size)
        if lease is not None:
            token = object()
            self._out.add(token)
            weakref.finalize(lease.view.obj, self._out.discard, token).atexit = False
        return lease


class _Kind:
    """What is known of calls of one kind: the ``room`` that their last answer took, and their ``message`` if all tensors are
    shown.
    """

    __slots__ = ("message", "room")

    def __init__(self) -> None:
        self.message: list[Segment] | None = None
        self.room = 0


class _Lease(NamedTuple):
    """Memory that nobody else gets while anybody holds ``view``, and where it lies."""

    view: memoryview
    place: Place


class Loan:
    """One request that shows memory: ``message``, the header lines ``fields``, and the ``fds`` that go with them."""

    __slots__ = ("_answer_bytes_max", "_area", "_copies", "_shown", "fds", "fields", "message")

    def __init__(
        self,
        shown: _Shown,
        message: list[Segment],
        copies: _Lease | None,
        area: _Lease | None,
        answer_bytes_max: int,
    ) -> None:
        self._shown = shown
        self._copies = copies  # nobody else gets that memory before this is gone
        self._answer_bytes_max = answer_bytes_max
        self.message = message
        entries = ", ".join(f"{i}={number}:{at}+{length}" for i, (number, at, length) in shown.places.items())
        self.fields = f"GraphPipe-Memory: {entries}\r\n".encode() if entries else b""
        self._area = None if area is None else area.view
        if area is not None:
            number = shown.number(area)
            self.fields += f"GraphPipe-Memory-Answer: {number}:{area.place.offset}+{area.place.length}\r\n".encode()
        self.fds = [segment.fd for segment in shown.segments]

    def lose(self) -> None:
        """Nobody knows whether the server still looks at it: no segment of it is used again."""
        for segment in self._shown.segments:
            segment.spent = True

    def answered(self, reply: Reply, url: str) -> Reply:
        """The answer with what lies in the memory that was lent for it.

        Raises NoAnswer for one that says what cannot be.
        """
        try:
            self._leave(reply.head.kept)
            if reply.head.memory:
                elsewhere = self._outputs(reply.head.memory)
                if len(reply.body) + sum(map(len, elsewhere.values())) > self._answer_bytes_max:
                    raise _Wrong(f"more than {self._answer_bytes_max} bytes, in memory and in the message")
                return Reply(reply.head, reply.body, elsewhere)
        except _Wrong as wrong:
            self.lose()
            raise NoAnswer(f"{url} answered with {wrong}") from None
        return reply

    def _leave(self, kept: str) -> None:
        """The server still looks at these segments."""
        if not kept:
            return
        numbers = [text.strip() for text in kept.split(",")] if len(kept) <= _FIELD_MAX else []
        known = {str(i): segment for i, segment in enumerate(self._shown.segments)}
        if not numbers or not known.keys() >= set(numbers):
            raise _Wrong(f"GraphPipe-Memory-Kept: {kept[:60]!r}; the request had {len(known)} descriptors")
        for number in numbers:
            known[number].spent = True

    def _outputs(self, field: str) -> dict[int, memoryview]:
        """The outputs that the server has written to the area."""
        words = f"GraphPipe-Memory: {field[:60]!r}"
        if self._area is None:
            raise _Wrong(f"{words}, but was lent no memory for outputs")
        found: dict[int, memoryview] = {}
        ranges: list[tuple[int, int]] = []
        for text in field.split(",") if len(field) <= _FIELD_MAX else [""]:
            entry = _ENTRY.fullmatch(text.strip())
            if entry is None:
                raise _Wrong(f"{words}, which does not have the form 0=0+4096, 1=4096+640")
            i, at, length = map(int, entry.groups())
            if at % _ALIGNMENT or at + length > len(self._area):
                raise _Wrong(
                    f"{words}, which leaves the {len(self._area)} bytes that were lent, or does not begin at a multiple of "
                    f"{_ALIGNMENT}"
                )
            if i in found:
                raise _Wrong(f"{words}, which has output {i} twice")
            found[i] = self._area[at : at + length]
            ranges.append((at, at + length))
        ranges.sort()
        if any(end > start for (_, end), (start, _) in pairwise(ranges)):
            raise _Wrong(f"{words}, where outputs lie on top of each other")
        return found


class _Wrong(Exception):
    """What an answer says of memory cannot be."""


class _Shown:
    """What a request shows: segments in the order of their descriptors, and where in them each tensor is."""

    __slots__ = ("_numbers", "places", "segments")

    def __init__(self) -> None:
        self.segments: list[SharedSegment] = []
        self.places: dict[int, tuple[int, int, int]] = {}  # by tensor: descriptor, offset, length
        self._numbers: dict[tuple[int, int], int] = {}

    def add(self, i: int, place: Place) -> bool:
        """Show tensor ``i`` where it lies; False if that would be too many descriptors."""
        # One is left for copies, and one for the answer.
        if place.key not in self._numbers and len(self.segments) >= _FDS_MAX - 2:
            return False
        self.places[i] = self._number(place), place.offset, place.length
        return True

    def number(self, lease: _Lease) -> int:
        """The number of the descriptor of what was leased."""
        return self._number(lease.place)

    def _number(self, place: Place) -> int:
        number = self._numbers.setdefault(place.key, len(self.segments))
        if number == len(self.segments):
            self.segments.append(place.segment)
        return number


def _pool() -> BufferPool:
    return BufferPool(1 << 62, _IDLE_BYTES_MAX, shared=True)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _place_of(array: Array) -> Place | None:
    """Where an array lies that can be shown as it is."""
    if (place := place_of(array)) is None or place.offset % _ALIGNMENT or not array.dtype.isnative:
        return None
    # True is any byte but 0 to those who made it; it travels as 1.
    return None if array.dtype == np.bool_ and array.view(np.uint8).max() > 1 else place


def _copy(array: Array, target: Array) -> None:
    if array.dtype == np.bool_:
        np.not_equal(array.view(np.uint8), 0, out=target)
    else:
        np.copyto(target, array)
