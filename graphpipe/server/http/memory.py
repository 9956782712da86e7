"""Memory of callers on the same host, which they show instead of sending its bytes.

What of it is mapped costs addresses, and may cost memory that counts as ours: it has limits for each connection, and for
all of them together.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.buffers import POOLED_FROM
from graphpipe.memory.copying import copy
from graphpipe.memory.discard import discard
from graphpipe.memory.mappings import Mapped, Mappings, Refused
from graphpipe.memory.segment import seals_of
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.memory_fields import KEPT, MemoryRefused, Shown
from graphpipe.server.http.waiting import Waiting
from graphpipe.server.protocols.protocol import Fields

__all__ = ["Beside", "Sharing", "is_same_user"]

# Segments that stay mapped between two requests: of one connection, and of all.
_MAPPED_MAX = 32
_MAPPED_MAX_ALL = 4096
# Descriptors that callers have passed and whose requests are not whole, of all connections together. Where so many wait to
# be closed, no more are taken in: so twice as many may be open, and those of one more message.
_WAITING_MAX = 512
_ALIGNMENT = 64


class Sharing:
    """What the connections of a server hold of callers' memory: at most ``bytes_max`` are mapped, and each segment has at
    most ``segment_bytes_max``.
    """

    def __init__(self, segment_bytes_max: int, bytes_max: int) -> None:
        self.waiting = Waiting(_WAITING_MAX)
        self._segment_bytes_max = segment_bytes_max
        self._bytes_max = bytes_max
        self._all: set[Mappings] = set()

    def open(self) -> Mappings:
        """For one connection."""
        mappings = Mappings(self._segment_bytes_max, _MAPPED_MAX)
        self._all.add(mappings)
        return mappings

    def leave(self, mappings: Mappings) -> None:
        """The connection is gone."""
        self._all.discard(mappings)
        mappings.close()

    def fit(self) -> None:
        """Something was mapped: let go of what is over the limits, of whoever has most."""
        while sum([each.size for each in self._all]) > self._bytes_max:
            max(self._all, key=_size).forget_oldest()
        while sum(map(len, self._all)) > _MAPPED_MAX_ALL:
            max(self._all, key=len).forget_oldest()

    @property
    def mapped(self) -> tuple[int, int]:
        """How many segments are mapped, and how many bytes they have."""
        return sum(map(len, self._all)), sum(map(_size, self._all))


def _size(mappings: Mappings) -> int:
    return mappings.size


class Beside:
    """The memory that one request shows. ``tensors`` are the bytes of tensors, by their number, to be read only.

    ``is_foreign``: it is another user's, and so all of it is to be copied.
    """

    __slots__ = ("_admission", "_area", "_aside", "_mapped", "_written", "is_foreign", "size", "tensors")

    def __init__(
        self,
        shown: Shown,
        descriptors: list[int],
        sharing: Sharing,
        mappings: Mappings,
        admission: Admission,
        *,
        is_foreign: bool,
    ) -> None:
        """Takes the descriptors, and closes them. Raises MemoryRefused."""
        self._admission = admission
        self.is_foreign = is_foreign
        self.size = shown.size
        self._aside = 0
        self._mapped: list[Mapped] = []
        self._written = 0
        before = len(mappings), mappings.size
        try:
            while descriptors:
                # Only what is memory is closed here and now.
                if not _is_memory(descriptors[0]):
                    raise Refused("a descriptor is of something that is no memory; a sealed memfd is expected")
                self._mapped.append(mappings.take(descriptors.pop(0)))
            self._area = None if shown.answer is None else self._view(shown.answer, writable=True)
            self.tensors = {i: self._view(place) for i, place in shown.tensors.items()}
        except Refused as error:
            raise MemoryRefused(str(error)) from None
        finally:
            discard([*descriptors])
            if before != (len(mappings), mappings.size):
                sharing.fit()
        self._check_that_nothing_read_is_written(shown)

    def _view(self, place: tuple[int, int, int], *, writable: bool = False) -> memoryview:
        number, offset, length = place
        return self._mapped[number].view(offset, length, writable)

    def _check_that_nothing_read_is_written(self, shown: Shown) -> None:
        if shown.answer is None:
            return
        number, offset, length = shown.answer
        for i, (other, start, size) in shown.tensors.items():
            same = self._mapped[other].key == self._mapped[number].key
            if same and start < offset + length and offset < start + size:
                raise MemoryRefused(f"the place for outputs and tensor {i} share bytes")

    # --- what it counts as ---

    def hold(self) -> None:
        """It counts from now on, as a body of so many bytes does."""
        self._put_aside(self.size)

    def settle(self, arrays: list[NDArray[Any]], copied: Set[int]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Put arrays of our own in the places of these, and give what is to be copied, to and from.

        What stays the caller's counts for as long as somebody looks at it.
        """
        pairs = []
        for i in copied:
            del self.tensors[i]
            theirs, size = arrays[i], arrays[i].nbytes
            if size < POOLED_FROM:
                arrays[i] = np.empty(theirs.shape, theirs.dtype)  # counted as it is, until the request is over
            else:
                self._put_aside(-size)
                lease = self._admission.lease(size)
                lease.touch(size)
                arrays[i] = np.ndarray(theirs.shape, theirs.dtype, lease.view)
            pairs.append((arrays[i], theirs))
        for view in self.tensors.values():
            if self._admission.count(view.obj, len(view)):
                self._put_aside(-len(view))
        self.tensors = {}
        return pairs

    def _put_aside(self, size: int) -> None:
        self._aside += size
        self._admission.hold(size)

    # --- what is answered ---

    def places(self, arrays: Sequence[NDArray[Any]]) -> dict[int, int]:
        """Which outputs go to the caller's memory, and where in it: large ones, in order, as far as there is room."""
        places: dict[int, int] = {}
        at = 0
        room = 0 if self._area is None else len(self._area)
        for i, array in enumerate(arrays) if room else ():
            is_numbers = array.dtype.kind in "biuf" and array.itemsize <= 8
            if is_numbers and array.nbytes >= POOLED_FROM and at + array.nbytes <= room:
                places[i] = at
                at += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
                self._written += array.nbytes
        return places

    def put(self, array: NDArray[Any], at: int) -> NDArray[Any]:
        """Write an output there, and give what was written."""
        target = np.ndarray(array.shape, array.dtype.newbyteorder("<"), self._area, at)
        copy(array, target)
        return target

    # --- its end ---

    def release(self) -> tuple[int, Fields]:
        """The request is over: how many bytes were written for it, and what its answer's head says of the memory that
        somebody still looks at.
        """
        self.tensors, self._area = {}, None
        if self._aside:
            self._put_aside(-self._aside)
        kept = ",".join([str(number) for number, mapped in enumerate(self._mapped) if mapped.in_use])
        self._mapped = []
        return self._written, ((KEPT, kept),) if kept else ()


def _is_memory(descriptor: int) -> bool:
    try:
        seals_of(descriptor)
    except OSError:
        return False
    return True


def is_same_user(connection: socket.socket) -> bool:
    """Whether who is at the other end of a Unix socket is this process's user, on the same side of any container's wall."""
    pid, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(pid) and uid == os.geteuid()
