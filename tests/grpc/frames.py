"""HTTP/2 by hand: frames as a test wants them, whatever the protocol says of them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.front.servers import InProcess
from tests.raw_http import connect

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL, CANCEL, CALM = 1, 2, 3, 8, 11

CALL = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Messages/echo"),
    (":authority", "here"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of a GOAWAY or a RST_STREAM."""
        return struct.unpack(">I", self.payload[4:8] if self.kind == GOAWAY else self.payload)[0]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def block(fields: Sequence[tuple[str, str]]) -> bytes:
    """Fields as they are: neither indexed nor compressed."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    length, rest = b"\x7f", len(data) - 127
    while rest >= 128:
        length += bytes((rest % 128 + 128,))
        rest //= 128
    return length + bytes((rest,)) + data


def head(
    stream: int, *more: tuple[str, str], fields: Sequence[tuple[str, str]] = CALL, flags: int = END_HEADERS
) -> bytes:
    return frame(HEADERS, flags, stream, block((*fields, *more)))


def prefixed(message: bytes) -> bytes:
    return b"\x00" + number(len(message)) + message


def call(stream: int, message: bytes, *more: tuple[str, str]) -> bytes:
    """A whole call whose message fits into the first window."""
    data = prefixed(message)
    pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)]
    sent = b"".join(frame(DATA, END_STREAM if piece is pieces[-1] else 0, stream, piece) for piece in pieces)
    return head(stream, *more) + sent


class Peer:
    """A connection on which every frame is the test's own. It has said hello, and has acknowledged the server's settings."""

    def __init__(self, url: str, settings: bytes = b"", timeout_s: float = 20) -> None:
        self.socket = connect(url, timeout_s)
        self._rest = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def try_to_send(self, data: bytes) -> bool:
        """Whether all of it went: who is sent away may find the door shut."""
        try:
            self.send(data)
        except OSError:
            return False
        return True

    def frames(self) -> Iterator[Frame]:
        """What comes, until the connection ends."""
        while True:
            while len(self._rest) >= 9 and len(self._rest) >= 9 + (size := int.from_bytes(self._rest[:3], "big")):
                kind, flags, stream = self._rest[3], self._rest[4], int.from_bytes(self._rest[5:9], "big")
                payload, self._rest = self._rest[9 : 9 + size], self._rest[9 + size :]
                yield Frame(kind, flags, stream, payload)
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                return
            if not data:
                return
            self._rest += data

    def until(self, kind: int, stream: int | None = None, flags: int = 0) -> Frame:
        """The next frame of this kind."""
        seen = []
        for each in self.frames():
            if each.kind == kind and stream in (None, each.stream) and each.flags & flags == flags:
                return each
            seen.append(each)
        raise AssertionError(f"the connection ended without it, after {seen[-5:]}")

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def peer(server: InProcess, settings: bytes = b"") -> Iterator[Peer]:
    it = Peer(server.grpc_url or server.url, settings)
    try:
        yield it
    finally:
        it.close()


def abort(connection: socket.socket) -> None:
    """Vanish: the other side gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
