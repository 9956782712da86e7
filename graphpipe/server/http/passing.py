"""A transport by which descriptors come along with the bytes, for a connection over a Unix socket that asked for it.

The event loop's own transports read without room for anything but bytes, and the kernel then closes whatever came beside
them. So a connection that wants to pass memory goes on with this one, over a duplicate of its socket, and behaves as
before in all else: ``Line`` and aiohttp find the same methods, with the same meaning, on either loop.

Descriptors that come are the process's own from then on: each is closed here, unless somebody takes it. None is touched
before: even to close what a stranger sent may take long.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

from graphpipe.memory.discard import discard
from graphpipe.memory.rights import take_some
from graphpipe.server.http.memory_fields import DESCRIPTORS_MAX
from graphpipe.server.http.waiting import Waiting
from graphpipe.wire import Segment

__all__ = ["PassingTransport", "can_pass"]

# As many as the kernel passes at once: with less room it would close the others itself, and have this thread wait for it.
_AT_ONCE_MAX = 253
_CONTROL_BYTES = socket.CMSG_SPACE(_AT_ONCE_MAX * array.array("i").itemsize) if hasattr(socket, "CMSG_SPACE") else 0
# No program that this one starts inherits them.
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LOST = getattr(socket, "MSG_CTRUNC", 0)
# Where no more can be taken in, whoever brings some is looked at again so soon, and not for longer than this.
_AGAIN_S, _PATIENCE_S = 0.01, 5.0

# Read at once for a protocol that has no buffer of its own.
_READ_BYTES = 64 * 1024
# Segments of one write, and writes in a row before others have their turn.
_SEGMENTS_MAX = 64
_WRITES_MAX = 32
_HIGH_WATER = 64 * 1024


def can_pass(transport: asyncio.BaseTransport) -> bool:
    """Whether descriptors can come by this connection: over a Unix socket, in the open, with nothing left to be sent."""
    connection = transport.get_extra_info("socket")
    return bool(
        _CONTROL_BYTES
        and connection is not None
        and connection.family == socket.AF_UNIX
        and transport.get_extra_info("sslcontext") is None
        and cast(asyncio.WriteTransport, transport).get_write_buffer_size() == 0
    )


class PassingTransport(asyncio.Transport):
    """Takes a connection over from another transport, which ends: its protocol is told nothing any more.

    Raises OSError if there is no descriptor left for it; the connection is as it was then.
    """

    def __init__(self, old: asyncio.Transport, loop: asyncio.AbstractEventLoop, waiting: Waiting) -> None:
        theirs = old.get_extra_info("socket")
        self._descriptor = os.dup(theirs.fileno())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=self._descriptor)
        self._socket.setblocking(False)
        take_some(self._socket)
        # A byte out of band would be passed over, and the kernel would close what goes with it: it comes in its turn.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        super().__init__(
            {"socket": self._socket}
            | {name: old.get_extra_info(name, "") for name in ("peername", "sockname")}
            | {"sslcontext": None}
        )
        self._loop = loop
        self._protocol: asyncio.BaseProtocol = _NOBODY
        self._waiting = waiting
        self._came: list[int] = []  # descriptors
        self._lacks = False  # some that came were not taken in
        self._waits_since = 0.0  # with descriptors that cannot be taken in, in seconds of the loop
        self._keeps = True
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._reading = self._writing = False  # whether the loop looks at the socket for it
        self._paused = self._told_to_pause = self._at_end = False
        self._closing = self._over = self._last_word = False
        self._is_left = False  # the connection is another's by now
        old.set_protocol(_NOBODY)
        if isinstance(old, PassingTransport):
            old._is_left = True
        old.abort()  # which closes its own descriptor, and the connection stays

    def open(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on what comes is this protocol's."""
        self._protocol = protocol
        protocol.connection_made(self)
        if not self._closing and not self._paused:
            self._read(True)

    # --- descriptors ---

    def take_descriptors(self) -> tuple[list[int], bool]:
        """Those that have come, in order, for the caller to close; and whether none of them was left out."""
        came, self._came = self._came, []
        self._waiting.let_go(self)
        whole, self._lacks = not self._lacks, False
        return came, whole

    @property
    def has_descriptors(self) -> bool:
        """Whether some have come that nobody has taken."""
        return bool(self._came)

    def keep_none(self) -> None:
        """Nobody takes any from now on."""
        self._keeps = False
        self.drop_descriptors()

    def _keep(self, control: Sequence[tuple[int, int, bytes]], flags: int) -> None:
        numbers = array.array("i")
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
        self._came += numbers
        if not self._keeps or flags & _LOST or len(self._came) > DESCRIPTORS_MAX:
            self.lose_descriptors()
        else:
            self._waiting.hold(self, len(numbers))

    def lose_descriptors(self) -> None:
        """There are too many, here or elsewhere: whoever asks for those that have come is told so."""
        self.drop_descriptors()
        self._lacks = True

    def drop_descriptors(self) -> None:
        """Nobody wants those that have come."""
        discard([*self.take_descriptors()[0]])

    # --- in ---

    def _on_readable(self) -> None:
        if self._over or self._paused or self._closing:
            return
        protocol, data = self._protocol, b""
        try:
            most = self._without_descriptors() if self._waiting.is_full else _READ_BYTES
            if not most:
                self._wait_to_read()
                return
            self._waits_since = 0.0
            if isinstance(protocol, asyncio.BufferedProtocol):
                window = protocol.get_buffer(-1)
                if most < _READ_BYTES:
                    window = cast(memoryview, window)[:most]
                count, control, flags, _ = self._socket.recvmsg_into([window], _CONTROL_BYTES, _FLAGS)
            else:
                data, control, flags, _ = self._socket.recvmsg(most, _CONTROL_BYTES, _FLAGS)
                count = len(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if control or flags & _LOST:
            self._keep(control, flags)
        try:
            if not count:
                self._on_end()
            elif isinstance(protocol, asyncio.BufferedProtocol):
                protocol.buffer_updated(count)
            else:
                cast(asyncio.Protocol, protocol).data_received(data)
        except Exception as error:
            words = {"message": "a connection is cut", "exception": error, "transport": self, "protocol": protocol}
            self._loop.call_exception_handler(words)
            self._end(error)

    def _without_descriptors(self) -> int:
        """How many bytes can be read by which none comes; 0: with the next one some do. (At the end, 1, which is none.)"""
        data, _, flags, _ = self._socket.recvmsg(_READ_BYTES - 1, 0, socket.MSG_PEEK)
        return 0 if flags & _LOST else max(1, len(data))

    def _wait_to_read(self) -> None:
        """As many as may be wait to be closed. The kernel would close what there is no room for, and this thread would wait
        for as long as a stranger likes.
        """
        now = self._loop.time()
        self._waits_since = self._waits_since or now
        if now - self._waits_since > _PATIENCE_S:
            self._end(None)
        else:
            self._read(False)
            self._loop.call_later(_AGAIN_S, self._read_again)

    def _read_again(self) -> None:
        if not (self._closing or self._paused or self._at_end):
            self._read(True)

    def _on_end(self) -> None:
        """The caller sends no more."""
        self._at_end = True
        self._read(False)
        protocol = cast("asyncio.Protocol | asyncio.BufferedProtocol", self._protocol)
        if not protocol.eof_received():
            self.close()

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._descriptor, self._on_readable)
            else:
                self._loop.remove_reader(self._descriptor)

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._paused = True
        self._read(False)

    def resume_reading(self) -> None:
        self._paused = False
        if not self._closing and not self._at_end:
            self._read(True)

    # --- out ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, pieces: Sequence[Segment | bytearray]) -> None:  # type: ignore[override]
        if self._last_word:
            raise RuntimeError("nothing can be written after the end was")
        if self._over:
            return
        is_first = not self._unsent
        for piece in pieces:
            # What somebody may write to while it waits is copied; what is his own memory is not.
            view = memoryview(bytes(piece) if isinstance(piece, bytearray) else piece).cast("B")
            if view.nbytes:
                self._unsent.append(view)
                self._unsent_bytes += view.nbytes
        if is_first:
            self._flush()
        if self._unsent_bytes > self._high and not self._told_to_pause and not self._over:
            self._told_to_pause = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        """Send what the socket takes now."""
        for _ in range(_WRITES_MAX):
            if not self._unsent:
                break
            try:
                sent = self._socket.sendmsg(list(islice(self._unsent, _SEGMENTS_MAX)))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._end(error)
                return
            self._unsent_bytes -= sent
            while sent:
                first = self._unsent.popleft()
                if sent < first.nbytes:
                    self._unsent.appendleft(first[sent:])
                    break
                sent -= first.nbytes
        self._write(bool(self._unsent))

    def _on_writable(self) -> None:
        if self._over:
            return
        self._flush()
        if self._told_to_pause and self._unsent_bytes <= self._low and not self._over:
            self._told_to_pause = False
            self._protocol.resume_writing()
        if not self._unsent and not self._over:
            if self._last_word:
                self._shut()
            if self._closing:
                self._end(None)

    def _write(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._descriptor, self._on_writable)
            else:
                self._loop.remove_writer(self._descriptor)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low
        if not self._high >= self._low >= 0:
            raise ValueError(f"the limits are high >= low >= 0; {self._high} and {self._low} came")

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._last_word or self._closing:
            return
        self._last_word = True
        if not self._unsent:
            self._shut()

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # he is gone
            self._end(error)

    # --- its end ---

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """End once everything is sent."""
        if not self._closing:
            self._closing = True
            self._read(False)
            if not self._unsent:
                self._end(None)

    def abort(self) -> None:
        """End now."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._over:
            return
        self._closing = self._over = True
        self._read(False)
        self._write(False)
        self._unsent.clear()
        self._unsent_bytes = 0
        # Not at once: it may be the protocol that ends it.
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, _NOBODY
        try:
            protocol.connection_lost(error)
        finally:
            self.drop_descriptors()
            if self._is_left:
                self._socket.close()
            else:
                # He is told now. To close it would mean to close all descriptors that he has sent since.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                discard([self._socket])


class _Nobody(asyncio.Protocol):
    """Whoever is told what does not matter any more."""


_NOBODY: Any = _Nobody()
