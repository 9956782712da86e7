"""The other end of a connection of HTTP/2, sent again as it was recorded: its own frames, in their order.

Only what was meant for the server that it was recorded with is left out: acknowledgements, pings and windows, which this
end sends itself.
"""

from __future__ import annotations

import ssl
import struct
from dataclasses import dataclass, field

import hpack

from tests.raw_http import connect

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
MEANT_FOR_ANOTHER = (PING, WINDOW_UPDATE, GOAWAY)
WINDOW = (1 << 31) - 1 - (1 << 16)


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    def __bytes__(self) -> bytes:
        return (
            struct.pack("!I", len(self.payload))[1:]
            + struct.pack("!BBI", self.kind, self.flags, self.stream)
            + self.payload
        )


def frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames at the start, and what is left."""
    found = []
    while len(data) >= 9:
        length = int.from_bytes(data[:3])
        if len(data) < 9 + length:
            break
        kind, flags, stream = struct.unpack_from("!BBI", data, 3)
        found.append(Frame(kind, flags, stream & 0x7FFFFFFF, data[9 : 9 + length]))
        data = data[9 + length :]
    return found, data


@dataclass
class Stream:
    """What came on one."""

    fields: dict[str, str] = field(default_factory=dict)  # of head and trailers
    data: bytes = b""
    ended: bool = False

    @property
    def message(self) -> bytes:
        """Its one message, which is not compressed."""
        compressed, length = struct.unpack_from("!BI", self.data)
        assert compressed == 0
        assert len(self.data) == 5 + length
        return self.data[5:]

    @property
    def status(self) -> int:
        return int(self.fields["grpc-status"])


class Replay:
    """A connection. ``send`` has what a client sent for one question, and gives what was answered on its streams."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._socket = connect(url)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="127.0.0.1")
            assert self._socket.selected_alpn_protocol() == "h2"
        self._decoder = hpack.Decoder()
        self._streams: dict[int, Stream] = {}
        self._unsent = self._unread = b""
        self._began = False

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> list[Stream]:
        self._unsent += data
        out = b""
        if not self._began:
            assert self._unsent.startswith(PREFACE)
            out, self._unsent = PREFACE, self._unsent[len(PREFACE) :]
        known = set(self._streams)
        sent, self._unsent = frames(self._unsent)
        for frame in sent:
            if frame.kind in MEANT_FOR_ANOTHER or (frame.kind == SETTINGS and frame.flags & ACK):
                continue
            if frame.kind == HEADERS:
                self._streams[frame.stream] = Stream()
            out += bytes(frame)
            if not self._began:  # after the settings, which come first
                self._began = True
                out += bytes(Frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", WINDOW)))
        self._socket.sendall(out)
        new = [self._streams[number] for number in self._streams if number not in known]
        while not all(stream.ended for stream in new):
            self._read()
        return new

    def _read(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "the server has closed the connection"
        came, self._unread = frames(self._unread + data)
        for frame in came:
            assert frame.kind != GOAWAY, frame
            if frame.kind in (SETTINGS, PING) and not frame.flags & ACK:
                self._socket.sendall(bytes(Frame(frame.kind, ACK, 0, frame.payload if frame.kind == PING else b"")))
            stream = self._streams.get(frame.stream)
            if stream is None:
                continue
            assert frame.kind != RST_STREAM, frame
            if frame.kind == HEADERS:
                assert frame.flags & 0x2C == 4, "whole, without padding and priority"
                stream.fields.update(self._decoder.decode(frame.payload))
            elif frame.kind == DATA:
                stream.data += frame.payload
            stream.ended = stream.ended or bool(frame.kind in (DATA, HEADERS) and frame.flags & END_STREAM)
