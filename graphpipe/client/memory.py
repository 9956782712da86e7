"""Tensors that a client shows to a server on the same host, instead of sending their bytes; and outputs that come back
that way. No sockets here.

What is shown lies in segments: memory behind descriptors, which go along with the request. An array that lies in one
already stays where it is, others are copied into one. They are ours, and used again: so nothing of one is written to
while the server may look at it. What the server says that it keeps, or what it was shown when no answer came, is *spent*: it
goes when nobody here holds it any more, and holds nothing else before. docs/wire.md is the normative text.
"""

from __future__ import annotations

import math
import socket
import weakref
from collections.abc import Sequence
from time import monotonic
from typing import Any

import numpy as np

from graphpipe.arrays import array_of
from graphpipe.buffers import POOLED_FROM, BufferPool
from graphpipe.client.address import Address
from graphpipe.client.calls import Array, Reply
from graphpipe.client.loan import ALIGNMENT, Lease, Loan, Shown
from graphpipe.memory.copying import copy
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
LARGE_FROM = 512 * 1024
# Of others, tensors of less stay in the message, which goes anyway.
_SHOWN_FROM = POOLED_FROM
# What one request shows, at most: its head must stay small.
_TENSORS_MAX = 64
_IDLE_BYTES_MAX = 256 << 20
# Each segment costs a descriptor, of which a process may have 1024: who keeps more answers than this has them in
# ordinary memory.
_OUT_MAX = 128
# Of so many kinds of calls something is remembered.
_KINDS_MAX = 256
_WORDS_MAX = 4096
# A server that cannot is asked again after so long: it may be another one by then.
_ASKED_AGAIN_S = 60.0


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

    @property
    def is_wordy(self) -> bool:
        """Whether names and config, or the tensors, are more than is worth remembering."""
        text = len(self.config) + sum(map(len, self.names)) + sum(map(len, self.asked))
        return text > _WORDS_MAX or len(self.arrays) > _TENSORS_MAX

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
        arrays, shown = list(tensors.arrays), Shown()
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
                copy(tensors.arrays[i], target)
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
            if tensors.is_wordy:
                return _Kind()
            if len(self._kinds) >= _KINDS_MAX:
                self._kinds.clear()
            kind = self._kinds[tensors.kind] = _Kind()
        return kind

    def close(self) -> None:
        """Let go of the segments that nobody looks at."""
        self._pool = _pool()

    def _lease(self, size: int) -> Lease | None:
        try:
            view = self._pool.lease(size)
        except (OSError, MemoryError, OverflowError, ValueError):  # no memory; bytes need none
            return None
        place = None if view is None else place_of(np.frombuffer(view, np.uint8))
        if view is None or place is None:  # where no descriptor was left, it is memory of our own
            return None
        self._ours.add(place.segment)
        return Lease(view, place)

    def _lease_out(self, size: int) -> Lease | None:
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


def _pool() -> BufferPool:
    return BufferPool(1 << 62, _IDLE_BYTES_MAX, shared=True)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place_of(array: Array) -> Place | None:
    """Where an array lies that can be shown as it is."""
    if (place := place_of(array)) is None or place.offset % ALIGNMENT or not array.dtype.isnative:
        return None
    # True is any byte but 0 to those who made it; it travels as 1.
    return None if array.dtype == np.bool_ and array.view(np.uint8).max() > 1 else place
