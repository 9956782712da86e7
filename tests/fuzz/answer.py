"""A server's answer as our client reads it: the same in one piece and in many, or refused, and as h11 reads it.

An input is two bytes, which say where it is cut, and the answer, behind which the server closes.
"""

from __future__ import annotations

from typing import Any

import h11

from graphpipe.buffers import BufferPool
from graphpipe.client.answer import SCRATCH_BYTES, AnswerReader
from graphpipe.errors import NoAnswer
from tests.fuzz.chunks import cuts

__all__ = ["WORDS", "check", "seeds"]

WORDS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n", b"\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Content-Encoding: gzip\r\n", b"Content-Type: text/plain\r\n", b"Location: /a\r\n",
    b"Retry-After: 3\r\n", b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n", b"Server: a\r\n", b"hello", b"5\r\nhello\r\n",
    b"0\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"+5", b"5, 5", b"\x85", b"\xa0", b"\x00",
]  # fmt: skip

_BYTES_MAX = 1 << 16
_POOL = BufferPool(1 << 20)
_SCRATCH = memoryview(bytearray(SCRATCH_BYTES))


def seeds() -> list[bytes]:
    """Answers of servers, ours and others'."""
    answers = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 503 Busy\r\nRetry-After: Thu, 01 Jan 2026 00:00:09 GMT\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nServer: nginx/1.2\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
    )
    return [bytes((6, 2)) + each for each in answers]


def check(data: bytes) -> None:
    """Raise whatever else than NoAnswer comes of it, and AssertionError where it is read in two ways."""
    raw = data[2:]
    whole = _ours(raw, [len(raw)])
    pieces = _ours(raw, cuts(data, len(raw)))
    assert whole == pieces, f"in one piece {whole!r}, in many {pieces!r}"
    theirs = _h11s(raw)
    if whole is not None and theirs is not None:
        assert whole[:2] == theirs, f"read as {whole!r}, and by h11 as {theirs!r}"


def _ours(raw: bytes, ends: list[int]) -> tuple[int, bytes, Any] | None:
    """Status, body and all that the head says; None where there is no answer."""
    reader = AnswerReader("http://h", _SCRATCH, _POOL, _BYTES_MAX)
    at = 0
    try:
        for end in ends:
            while at < end:
                room = reader.room()
                piece = raw[at : min(end, at + len(room))]
                room[: len(piece)] = piece
                at += len(piece)
                reader.received(len(piece))
        reader.ended()
    except NoAnswer:
        return None
    reply = reader.reply
    return None if reply is None else (reply.head.status, bytes(reply.body), reply.head)


def _h11s(raw: bytes) -> tuple[int, bytes] | None:
    """Status and body as h11 reads them; None if it does not."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    status, body, fed = 0, b"", False
    try:
        connection.receive_data(raw)
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA and not fed:
                connection.receive_data(b"")
                fed = True
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return status, body
