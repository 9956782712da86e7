"""The transport of a connection, both ways: whether it is read, and what it has not sent yet."""

from __future__ import annotations

import asyncio

from graphpipe.server.http.leaver import Leaver
from graphpipe.wire import Segment

__all__ = ["Line", "slices"]

# Over TLS a write is encrypted at once: slices keep the loop free and the memory small.
_TLS_SLICE = 256 * 1024


class Line:
    """A transport, and what the protocol on it has to keep in mind of it.

    ``paused_writing`` is the transport's own word: its buffer is not empty. ``mark`` bytes were left to send when that was
    looked at last. There is a ``leaver`` once the caller sends no more; the line is not read any further then.
    """

    __slots__ = ("_unsent", "is_tls", "leaver", "mark", "paused_reading", "paused_writing", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        self.paused_reading = False
        self.paused_writing = False
        self.leaver: Leaver | None = None
        self._unsent: list[Segment] = []
        self.mark = 0

    def open(self) -> None:
        """Nothing may stay behind unnoticed: with no room in the buffer, resume_writing means that all is sent. (Over TLS
        that is all but what is encrypted already, and no room at all would be taken for a full buffer.) What the handshake
        has not sent yet counts: the protocol may hear of it at once.
        """
        self.transport.set_write_buffer_limits(high=1 if self.is_tls else 0)

    # --- in ---

    def pause_reading(self) -> None:
        if not self.paused_reading:
            self.paused_reading = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.paused_reading and self.leaver is None:
            self.paused_reading = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def end_reading(self, knows_interim: bool) -> None:
        """The caller sends no more. ``knows_interim``: he speaks HTTP/1.1."""
        self.leaver = Leaver(self.transport, knows_interim=knows_interim)
        self.paused_reading = True  # for good

    # --- out ---

    def send(self, pieces: list[Segment]) -> bool:
        """Send pieces, one after the other as the transport takes them, and what it has already. As ``go_on``."""
        self._unsent = pieces
        if self.go_on() if pieces else not self.paused_writing:
            return True
        self.mark = self.left()
        return False

    def go_on(self) -> bool:
        """Send what is left, as far as the transport takes it now. Whether everything is out."""
        while self._unsent and not self.paused_writing:
            self.transport.write(self._unsent.pop(0))
        return not (self._unsent or self.paused_writing)

    def left(self) -> int:
        """Bytes that are not sent yet."""
        return self.transport.get_write_buffer_size() + sum(map(len, self._unsent))

    def progress(self) -> int:
        """Bytes that were sent since this was asked last."""
        before, self.mark = self.mark, self.left()
        return before - self.mark

    def end_writing(self) -> None:
        """Nothing more is sent. The transport's end need not wait for the end of its own words."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def drop(self) -> None:
        """What is left will not be sent."""
        self._unsent = []


def slices(segments: list[Segment]) -> list[Segment]:
    """Segments in pieces of a size that TLS takes in one go."""
    return [
        memoryview(segment)[at : at + _TLS_SLICE] for segment in segments for at in range(0, len(segment), _TLS_SLICE)
    ]
