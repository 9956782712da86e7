"""The head of a hot request: what ours takes for one means the same to aiohttp and to h11, body's end included."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from graphpipe.server.http.head import (
    Head,
    accepted_codings,
    asked_in,
    cut,
    may_begin,
    parse,
    request_id,
    request_id_of,
    version_of,
)
from graphpipe.server.http.keys import authorizations_in
from graphpipe.server.protocols.path import path_of

__all__ = ["WORDS", "check", "seeds"]

WORDS = [
    b"POST ", b"GET ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n", b": ", b"Host: h\r\n", b"Host:\r\n",
    b"Content-Length: 24\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked, ", b"gzip",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n", b"Accept: application/vnd.graphpipe\r\n", b"GraphPipe-Timeout-Ms: 5000\r\n",
    b"Authorization: Bearer k\r\n", b"Accept-Encoding: gzip\r\n", b"X-Request-Id: a\r\n",
    b"traceparent: 00-1-1-01\r\n", b"X-Forwarded-For: 1.2.3.4\r\n", b"X-B3-TraceId: 1\r\n",
    b"Content-Encoding: gzip\r\n", b"TE: trailers\r\n", b"Trailer: a\r\n", b"HTTP2-Settings: a\r\n", b"/models/echo",
    b"/v2/models/echo/infer", b"[::1]:80", b"%41", b"\t", b"\x0b", b"\x00", b"\xff", b"\x85", b"_", b"+24", b"0x18",
]  # fmt: skip

_LENGTH_MAX = 64


def seeds() -> list[bytes]:
    """Heads of our clients, of others, and the odd ones of tests/front/test_differential.py in short."""
    line, host, length = b"POST / HTTP/1.1", b"Host: h", b"Content-Length: 24"
    heads = [
        [line, host, length],
        [b"POST /models/echo HTTP/1.1", b"host: [::1]:9000", b"content-length:  24 ", b"connection: Keep-Alive"],
        [b"POST / HTTP/1.0", host, length, b"Connection: keep-alive"],
        [line, host, b"Transfer-Encoding: chunked", b"Expect: 100-continue"],
        [line, host, length, b"X-Request-Id: abc", b"GraphPipe-Timeout-Ms: 5000", b"traceparent: 00-1-2-01"],
        [line, host, length, b"Accept: application/vnd.graphpipe, */*;q=0.1", b"User-Agent: a", b"X-A: \xff\xfe"],
        [line, host, length, b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4", b"baggage: a=b"],
        [line, host, length, b"Authorization: Bearer a.b-c", b"Accept-Encoding: gzip, br;q=0", b"X-Request-Id: a\xffb"],
        [
            line,
            host,
            length,
            b"authorization:a\t",
            b"AUTHORIZATION: b",
            b"X-Request-Id:  a",
            b"Accept-Encoding:",
            b"b3: 1",
        ],
        [
            line,
            host,
            length,
            b"X-Authorization: a",
            b"Accept-Encoding: gzip",
            b"Accept-Encoding:  identity",
            b"Accept: a",
        ],
        [line, host, length, b"GraphPipe-Timeout-Ms: 0005", b"GraphPipe-Timeout-Ms: 5"],
        [line, host, length, b"GraphPipe-Timeout-Ms:", b"X-Request-Id: "],
        [line, host, b"Transfer-Encoding: chunked\t"],
        [line, host, length, b"Content-Length: 1"],
        [line, host, length, b"Transfer-Encoding: chunked"],
        [line, host, length, b"X-A: 1\r\n 2"],
        [line, host, b"Content-Length : 24"],
        [line, host, b"Content-Length: 1_0"],
        [line, b"Host: ", length],
        [b"POST /%41?a=b HTTP/1.1", host, length],
        [b"GET / HTTP/1.1", host],
    ]
    return [b"\r\n".join([*lines, b"", b""]) for lines in heads]


def check(data: bytes) -> None:
    """Raise AssertionError where a head is understood in two ways."""
    data += b"\r\n\r\n"
    head = data[: data.index(b"\r\n\r\n") + 4]
    hot = parse(head)
    core, passing = cut(head)
    if passing is None:
        assert core == head, "a head was cut, and nothing of it was kept"
    else:
        by_core = parse(core)
        assert hot == (None if by_core is None else passing.joined(by_core)), "cut, the head says something else"
        # Who asks, and what he takes, is read of a head that was cut.
        assert authorizations_in(core) == authorizations_in(head)
        assert accepted_codings(core) == accepted_codings(head)
    # What is asked of a head that is none of ours.
    assert all(0x21 <= ord(letter) <= 0x7E for letter in request_id_of(head) + version_of(head))
    asked_in(head)
    may_begin(head)
    if hot is not None:
        _as_aiohttp(hot, head)
        _as_h11(hot, head)


@lru_cache
def _protocol() -> BaseProtocol:
    return BaseProtocol(asyncio.new_event_loop())


def _as_aiohttp(hot: Head, head: bytes) -> None:
    """Who reads the heads that are not hot must read the hot ones alike: else who is asked decides what was asked."""
    protocol = _protocol()
    parser: Any = HttpRequestParser(
        protocol, protocol._loop, 2**16, max_line_size=2**15, max_headers=2**10, max_field_size=2**15
    )
    try:
        messages, upgraded, _ = parser.feed_data(head)
    except HttpProcessingError as refused:
        raise AssertionError(f"hot, and refused by aiohttp: {refused!r}") from None
    ((message, _),) = messages
    version = message.version.minor
    length = message.headers.get("Content-Length")
    theirs = (
        message.method, message.path, version == 0, not message.should_close, message.chunked,
        -1 if length is None else int(length), bool(upgraded or message.upgrade), message.compression,
        "100-continue" in message.headers.get("Expect", "").lower() and version == 1,
    )  # fmt: skip
    ours = (
        hot.method, hot.path, hot.is_old, hot.keep_alive, hot.length < 0, hot.length, False, None, hot.expects_continue,
    )  # fmt: skip
    assert theirs == ours, f"read as {ours}, and by aiohttp as {theirs}"
    _fields(hot, head, [(name.lower(), value) for name, value in message.raw_headers])


def _as_h11(hot: Head, head: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
        assert isinstance(event, h11.Request), f"hot, and to h11 {event!r}"
        assert event.method == b"POST"
        assert event.target == hot.path.encode()
        assert event.http_version == (b"1.0" if hot.is_old else b"1.1")
        assert connection.they_are_waiting_for_100_continue == hot.expects_continue
        _fields(hot, head, list(event.headers))
        # What follows is the body, as long as we say, and what follows that is not.
        if 0 <= hot.length <= _LENGTH_MAX:
            connection.receive_data(b"b" * hot.length + b"POST")
        elif hot.length < 0:
            connection.receive_data(b"1\r\nb\r\n0\r\n\r\nPOST")
        else:
            return
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), f"where the body ends, h11 sees {event!r}"
        assert body == b"b" * (hot.length if hot.length >= 0 else 1)
        assert connection.trailing_data[0] == b"POST"
    except h11.RemoteProtocolError as refused:
        raise AssertionError(f"hot, and refused by h11: {refused!r}") from None


def _fields(hot: Head, head: bytes, theirs: Sequence[tuple[bytes, bytes]]) -> None:
    """All else that is read of a head, be it parsed or looked for in its bytes."""

    def values(name: bytes) -> list[bytes]:
        # aiohttp leaves a tab behind a value where it is.
        return [value.strip(b" \t") for each, value in theirs if each == name]

    def only(name: bytes) -> bytes | None:
        found = values(name)
        assert len(found) < 2, f"hot, with {name!r} twice"
        return found[0] if found else None

    timeout = only(b"graphpipe-timeout-ms")
    assert hot.timeout_ms == (None if timeout is None else int(timeout))
    assert hot.request_id == request_id_of(head) == request_id(only(b"x-request-id") or b"")
    assert hot.wants_message == (b"application/vnd.graphpipe" in (only(b"accept") or b"").lower())
    expect = only(b"expect")
    assert hot.expects_continue == ((expect or b"").lower() == b"100-continue" and not hot.is_old)
    connection = only(b"connection")
    assert hot.keep_alive == ((connection or (b"close" if hot.is_old else b"keep-alive")).lower() == b"keep-alive")
    assert hot.caller is None
    assert (hot.shown is None) == (only(b"graphpipe-memory") is None and only(b"graphpipe-memory-answer") is None)
    assert only(b"host") is not None
    assert authorizations_in(head) == values(b"authorization")
    codings = [each.strip(" \t") for each in accepted_codings(head).split(",")]
    assert codings == [each.strip(" \t") for each in b",".join(values(b"accept-encoding")).decode("latin-1").split(",")]
    assert asked_in(head) == ("POST", path_of(hot.path))
    assert version_of(head) == f"HTTP/1.{0 if hot.is_old else 1}"
    assert may_begin(head)
