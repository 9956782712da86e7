"""What of a call goes through memory that both sides see, seen from the caller's side, which owns all of it.

A large input that lies in such memory already (the body of a request, an array of ``empty``) is only pointed at; any other
is copied into a leased segment. For the answer a segment goes along of the size that such calls needed last, and the
arrays that the caller gets are views of it. It goes back to the pool when nobody looks at them any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.isolated.frames import AREA, DESCRIPTORS_MAX, INLINE_MAX, Frame, Piece, TornFrame
from graphpipe.buffers import BufferPool
from graphpipe.machine import memory_bytes
from graphpipe.memory.places import Place, place_of
from graphpipe.wire.messages import decode_infer_response, encode_request
from graphpipe.wire.writer import ALIGNMENT, Segment

__all__ = ["Sharing", "Told"]

Array = NDArray[Any]

# Requests whose answers' sizes are remembered, and how long the bytes may be by which they are known again.
_ANSWERS_MAX = 256
_KNOWN_BYTES_MAX = 8192
_IDLE_MAX = 1 << 30
_ROOM_MAX = 1 << 40


@dataclass(eq=False)
class Told:
    """A call as it goes out. ``held`` is what has to stay as long as the other side may look at it."""

    segments: Sequence[Segment]
    pieces: Sequence[Piece] = ()
    descriptors: Sequence[int] = ()
    area: memoryview | None = None
    held: object = None


class Sharing:
    """The shared memory of one model's calls. Safe in threads.

    With ``own_alone`` it shows no segments but its own: what was seen once can be looked at for ever, and any other holds
    what other models are asked later.
    """

    def __init__(self, own_alone: bool = False) -> None:
        self._own_alone = own_alone
        room = memory_bytes()
        self.pool = BufferPool(room // 2, min(_IDLE_MAX, room // 8), shared=True)
        self._answers: dict[bytes, int] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """An array that need not be copied on its way, of no particular content; an ordinary one where it is small."""
        count = 1
        for dim in shape:
            count *= dim
        view = self.pool.lease(count * dtype.itemsize) if count * dtype.itemsize >= INLINE_MAX else None
        if view is None or dtype.hasobject:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, view)

    def tell(self, inputs: Mapping[str, Array], asked: tuple[str, ...], config: str) -> Told:
        """What to send for a call. Raises InvalidRequest or TooLarge for what does not travel."""
        arrays = list(inputs.values())
        places: dict[int, Place] = {}
        for i, array in enumerate(arrays):
            if array.nbytes >= INLINE_MAX and array.dtype.kind in "biuf":
                self._put(i, arrays, places)
                break
        segments = encode_request(arrays, tuple(inputs), asked, config, elsewhere=places.keys())
        need = self._answers.get(segments[0], 0) if type(segments[0]) is bytes else 0
        if not places and not need:
            return Told(segments, held=arrays)
        descriptors: dict[tuple[int, int], int] = {}
        fds: list[int] = []
        pieces = []
        for i, place in places.items():
            at = descriptors.setdefault(place.key, len(fds))
            if at == len(fds):
                fds.append(place.fd)
            pieces.append(Piece(i, at, place.offset, place.length))
        area = self.pool.lease(need) if need >= INLINE_MAX else None
        found = None if area is None else place_of(np.frombuffer(area, np.uint8))
        if found is None:
            area = None
        else:
            pieces.append(Piece(AREA, len(fds), found.offset, need))
            fds.append(found.fd)
        return Told(segments, pieces, fds, area, (arrays, places, found))

    def _put(self, first: int, arrays: list[Array], places: dict[int, Place]) -> None:
        """Find out where the large inputs lie, and copy those together that lie nowhere: then ``arrays`` has the copies."""
        room = DESCRIPTORS_MAX - 2  # one for the copies, one for the answer
        keys: set[tuple[int, int]] = set()
        copied = []
        total = 0
        for i in range(first, len(arrays)):
            array = arrays[i]
            if array.nbytes < INLINE_MAX or array.dtype.kind not in "biuf" or not array.dtype.isnative:
                continue
            place = place_of(array)
            if place is not None and self._own_alone and not self.pool.owns(place.segment):
                place = None
            if place is not None and (place.key in keys or len(keys) < room):
                keys.add(place.key)
                places[i] = place
            else:
                copied.append((i, total))
                total = _aligned(total + array.nbytes)
        view = self.pool.lease(total) if copied else None
        if view is None:
            return
        for i, offset in copied:
            array = arrays[i]
            copy: Array = np.ndarray(array.shape, array.dtype, view, offset)
            np.copyto(copy, array)
            place = place_of(copy)
            if place is None:  # the pool has no more segments: it goes in the message
                return
            arrays[i], places[i] = copy, place

    def more_room(self, told: Told, asked: Frame) -> tuple[list[Piece], list[int]]:
        """Memory for an answer that needs more than it got, as the pieces and the descriptors to send; none if there is
        none. Raises TornFrame for what is no such wish.
        """
        if len(asked.pieces) != 1 or not INLINE_MAX <= asked.pieces[0].length < _ROOM_MAX:
            raise TornFrame("memory was asked for, and not said how much")
        told.area = self.pool.lease(asked.pieces[0].length)
        found = None if told.area is None else place_of(np.frombuffer(told.area, np.uint8))
        if found is None:
            told.area = None
            return [], []
        told.held = (told.held, found)
        return [Piece(AREA, 0, found.offset, found.length)], [found.fd]

    def read(self, told: Told, frame: Frame) -> list[Array]:
        """The outputs of an answer. Raises TornFrame or MalformedMessage for what is none."""
        elsewhere = None
        if frame.pieces:
            if told.area is None:
                raise TornFrame("outputs are said to be in memory that was not given")
            elsewhere = {}
            for piece in frame.pieces:
                if piece.offset + piece.length > len(told.area):
                    raise TornFrame("an output is said to be outside of the memory that was given")
                elsewhere[piece.tensor] = told.area[piece.offset : piece.offset + piece.length]
        arrays = decode_infer_response(frame.message, elsewhere=elsewhere).outputs
        if elsewhere:
            self._learn(told.segments[0], arrays)
        return arrays

    def _learn(self, known_by: Segment, arrays: Sequence[Array]) -> None:
        """How much room for its answer the next call of this kind gets."""
        need = 0
        for array in arrays:
            if array.nbytes >= INLINE_MAX and array.dtype.kind in "biuf":
                need = _aligned(need + array.nbytes)
        if type(known_by) is bytes and len(known_by) <= _KNOWN_BYTES_MAX and need > self._answers.get(known_by, 0):
            if len(self._answers) >= _ANSWERS_MAX:
                self._answers.clear()
            self._answers[known_by] = need


def _aligned(size: int) -> int:
    """The next multiple of what tensors are aligned to."""
    return -(-size // ALIGNMENT) * ALIGNMENT
