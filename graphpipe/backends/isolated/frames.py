"""What goes over a lane: a small head, where tensors lie that are not in the message, notes, and the message.

    head     kind, which call it is about, number of pieces, milliseconds that are left, bytes of notes, bytes of message
    pieces   of each: which tensor, which of the descriptors that came along, from which byte, how many
    notes    JSON, where there is something that the message has no place for
    message  as on the wire

A lane carries one frame at a time, so whatever comes behind a frame is an error. Its calls are numbered, in a byte, so that
an answer which came twice, from a process that was forked off say, is not taken for the next call's. Descriptors come with
the first bytes of a frame. Both sides read frames with limits: what is in one was written by a process that
may have gone astray.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["AREA", "DESCRIPTORS_MAX", "INLINE_MAX", "Frame", "Frames", "Kind", "Piece", "TornFrame"]

_HEAD = struct.Struct("<BBHIIQ")
_PIECE = struct.Struct("<IIQQ")
_PIECES_MAX = 4097
_NOTES_MAX = 64 << 20
_MESSAGE_MAX = 2**31

# A tensor of so many bytes and more does not go through the socket: from here on its copy costs more than a descriptor.
INLINE_MAX = 64 * 1024
DESCRIPTORS_MAX = 16
# The kernel takes 1024 pieces of memory at once.
_SEGMENTS_MAX = 512
_SCRATCH = 128 * 1024
_ANCILLARY = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
# A plain number: the enumeration's own would cost each frame 3 us.
_TRUNCATED = int(socket.MSG_CTRUNC)
# In place of a tensor's number: where outputs may be written.
AREA = 2**32 - 1


class Kind:
    """What a frame is."""

    LOAD, LOADED, LANES, END = 1, 2, 3, 4  # how a process begins and ends
    CALL, ANSWER, REFUSED, FAILED = 5, 6, 7, 8
    # An answer needs more memory than came with the call; here it is.
    ROOM, AREA = 9, 10
    # The model's own test, and that it passed.
    TEST, TESTED = 11, 12


class TornFrame(Exception):
    """What came is no frame: the other side has gone astray, or has gone."""


class Piece(NamedTuple):
    """Where a tensor's bytes lie."""

    tensor: int
    descriptor: int
    offset: int
    length: int


class Frame(NamedTuple):
    """One frame that came. ``descriptors`` are the receiver's to close."""

    kind: int
    timeout_ms: int
    pieces: Sequence[Piece]
    notes: bytes
    message: bytes | memoryview
    descriptors: Sequence[int]
    number: int = 0


class Frames:
    """Both directions of one socket, for one thread at a time.

    ``writable`` says whether messages are to lie in memory that may be written to; ``takes_descriptors`` whether they
    are welcome. A frame that came in part is gone on with by the next ``receive``.
    """

    def __init__(self, lane: socket.socket, *, writable: bool = False, takes_descriptors: bool = False) -> None:
        self.socket = lane
        self._writable = writable
        self._takes_descriptors = takes_descriptors
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._buffer = self._scratch
        self._at = 0
        self._wanted = _HEAD.size
        self._descriptors: list[int] = []

    @property
    def is_amid(self) -> bool:
        """Whether a part of a frame has come."""
        return self._at > 0

    def send(
        self,
        kind: int,
        segments: Sequence[bytes | memoryview] = (),
        *,
        number: int = 0,
        timeout_ms: int = 0,
        pieces: Sequence[Piece] = (),
        notes: bytes = b"",
        descriptors: Sequence[int] = (),
    ) -> None:
        """Send a frame. Raises OSError, TimeoutError among them if the socket's timeout passes."""
        length = sum(map(len, segments))
        head = _HEAD.pack(kind, number, len(pieces), timeout_ms, len(notes), length)
        if pieces:
            head += b"".join([_PIECE.pack(*piece) for piece in pieces])
        if length <= _SCRATCH and not descriptors:  # nearly always, and one piece is what the kernel takes quickest
            whole = b"".join([head, notes, *segments])
            sent = self.socket.send(whole)
            if sent == len(whole):
                return
            rest: list[bytes | memoryview] = [memoryview(whole)[sent:]]
        else:
            rest = [head + notes, *segments]
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        while rest:
            sent = self.socket.sendmsg(rest[:_SEGMENTS_MAX], ancillary)
            ancillary = []
            rest = _after(rest, sent)

    def receive(self) -> Frame:
        """The next frame. Raises TornFrame, or OSError, TimeoutError among them."""
        while True:
            frame = self.step()
            if frame is not None:
                return frame

    def step(self) -> Frame | None:
        """Receive once: a frame if it is whole now. Raises as ``receive`` does."""
        room = self._buffer[self._at :]
        if self._takes_descriptors:
            count, ancillary, flags, _ = self.socket.recvmsg_into([room], _ANCILLARY)
            self._keep(ancillary)
            if flags & _TRUNCATED:
                raise TornFrame("more descriptors came than are taken")
        else:
            count = self.socket.recv_into(room)
        if not count:
            raise TornFrame("the other side has gone")
        self._at += count
        if self._at < self._wanted:
            return None
        if self._wanted == _HEAD.size:
            self._wanted = _length(self._buffer)
            if self._at < self._wanted:
                if self._wanted > len(self._buffer):
                    self._buffer = memoryview(bytearray(self._wanted))
                    self._buffer[: self._at] = self._scratch[: self._at]
                return None
        if self._at > self._wanted:
            raise TornFrame(f"{self._at - self._wanted} bytes came behind a frame")
        return self._whole()

    def _whole(self) -> Frame:
        kind, number, pieces_count, timeout_ms, notes_length, _ = _HEAD.unpack_from(self._buffer)
        at = _HEAD.size
        pieces: Sequence[Piece] = ()
        if pieces_count:
            end = at + pieces_count * _PIECE.size
            pieces = [Piece(*fields) for fields in _PIECE.iter_unpack(self._buffer[at:end])]
            at = end
        notes = bytes(self._buffer[at : at + notes_length])
        message: bytes | memoryview = self._buffer[at + notes_length : self._wanted]
        if self._buffer is self._scratch:
            message = memoryview(bytearray(message)) if self._writable else bytes(message)
        elif not self._writable:
            message = memoryview(message).toreadonly()
        descriptors, self._descriptors = self._descriptors, []
        self._buffer, self._at, self._wanted = self._scratch, 0, _HEAD.size
        return Frame(kind, timeout_ms, pieces, notes, message, descriptors, number)

    def _keep(self, ancillary: Sequence[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                self._descriptors += numbers
        if len(self._descriptors) > DESCRIPTORS_MAX:
            raise TornFrame(f"{len(self._descriptors)} descriptors came; at most {DESCRIPTORS_MAX} are taken")

    def close(self) -> None:
        """Close the socket, and what came with a frame that will not be whole."""
        self.socket.close()
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._descriptors = []


def _length(buffer: memoryview) -> int:
    """How long the frame is whose head has come. Raises TornFrame if it is over a limit."""
    _, _, pieces, _, notes, message = _HEAD.unpack_from(buffer)
    if pieces > _PIECES_MAX or notes > _NOTES_MAX or message >= _MESSAGE_MAX:
        raise TornFrame(
            f"a frame of {pieces} pieces, {notes} bytes of notes and {message} of message is over the limit"
        )
    return int(_HEAD.size + pieces * _PIECE.size + notes + message)


def _after(segments: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of the segments after so many bytes."""
    for i, segment in enumerate(segments):
        if sent < len(segment):
            return [memoryview(segment)[sent:], *segments[i + 1 :]]
        sent -= len(segment)
    return []
