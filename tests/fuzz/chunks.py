"""A request's body in chunks: the same in one piece and in many, and what h11 reads.

An input is two bytes, which say where it is cut, and the body.
"""

from __future__ import annotations

import re

import h11

from graphpipe.errors import MalformedMessage
from graphpipe.server.http.chunks import Chunks

__all__ = ["WORDS", "check", "cuts", "seeds"]

WORDS = [
    b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"1\r\na\r\n", b"5;a=b\r\nabcde\r\n", b"A: b\r\n", b"00a\r\n", b";", b" ;", b"\t",
    b"0x1", b"-1", b"+1", b"ffffffffffffffff", b"\xff", b"\x00",
]  # fmt: skip

_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def seeds() -> list[bytes]:
    """Bodies with all that a chunked one may have."""
    bodies = (
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nPOST",
        b"5 ; a=b\r\nhello\r\n1;c\r\n!\r\n000\r\n\r\n",
        b"A\r\n0123456789\r\n0\r\nA: b\r\nC:\r\n\r\n",
        b"1\na\r\n0\r\n\r\n",
        b"2\r\na\r\n0\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
    )
    return [bytes((3, 1)) + body for body in bodies]


def check(data: bytes) -> None:
    """Raise AssertionError where a body is read in two ways."""
    raw = data[2:]
    whole = _ours(raw, [len(raw)])
    pieces = _ours(raw, cuts(data, len(raw)))
    assert whole == pieces, f"in one piece {whole!r}, in many {pieces!r}"
    if whole is None:
        return
    body, left = whole
    # The one thing that RFC 9112 has everybody read, and h11 refuses.
    theirs = _h11s(re.sub(rb"(?m)^([0-9A-Fa-f]+)[ \t]+;", rb"\1;", raw[: len(raw) - left]))
    assert theirs is None or theirs == body, f"read as {body!r}, and by h11 as {theirs!r}"


def cuts(data: bytes, size: int) -> list[int]:
    """Where something of this size is cut, by the first two bytes of an input: its end is the last."""
    step = 1 + data[0] % 16 if data else 1
    first = data[1] if len(data) > 1 else 0
    return [*range(first % step, size, step), size]


def _ours(raw: bytes, ends: list[int]) -> tuple[bytes, int] | None:
    """The body and how many bytes came behind its end; None if it is refused or not whole."""
    body = bytearray()
    chunks = Chunks(lambda size: None)
    at = left = 0
    try:
        for end in ends:
            piece, at = raw[at:end], end
            left = left + len(piece) if chunks.done else chunks.feed(memoryview(piece), body.extend)
    except MalformedMessage:
        return None
    return (bytes(body), left) if chunks.done else None


def _h11s(raw: bytes) -> bytes | None:
    """The body as h11 reads it; None if it does not."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(_HEAD + raw)
    body = b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return b"cut off: " + body
            if isinstance(event, h11.Data):
                body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return body
