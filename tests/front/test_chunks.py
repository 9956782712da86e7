"""A chunked body is read as RFC 9112 says, whichever pieces it comes in, and as others read it or not at all."""

from __future__ import annotations

import re
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphpipe.errors import MalformedMessage, TooLarge
from graphpipe.server.http.chunks import Chunks

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def ours(data: bytes, cuts: Any = ()) -> tuple[bytes, int] | None:
    """The body, and how many bytes came behind its end; None if it is not whole. Fed in pieces, as cut."""
    body = bytearray()
    chunks = Chunks(lambda size: None)
    at = early = 0
    for cut in (*sorted(cuts), len(data)):
        piece, at = data[at:cut], max(at, cut)
        early = early + len(piece) if chunks.done else chunks.feed(memoryview(piece), body.extend)
    return (bytes(body), early) if chunks.done else None


def others(data: bytes) -> bytes | None:
    """The body as h11 reads it; None if it is not whole."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + data)
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return None
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return body


EXTENSION = st.sampled_from([b"", b";a", b";a=b", b' ; a="b c"', b"\t;x=\xff"])
TRAILER = st.sampled_from([b"", b"A: b\r\n", b"A:\r\nB: c\r\n"])


@st.composite
def chunked(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and its bytes in chunks."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    data = b""
    for piece in pieces:
        size = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % len(piece)
        data += size + draw(EXTENSION) + b"\r\n" + piece + b"\r\n"
    return b"".join(pieces), data + draw(st.sampled_from([b"0", b"000"])) + b"\r\n" + draw(TRAILER) + b"\r\n"


CUTS = st.lists(st.integers(0, 300), max_size=8)


@given(chunked(), CUTS, st.binary(max_size=20))
def test_what_was_sent_in_chunks_arrives_whole_whatever_the_packets(sent, cuts, after):
    body, data = sent
    assert ours(data + after, cuts) == (body, len(after))


@given(chunked(), st.data())
@example((b"a", b"1\r\na\r\n0\r\n\r\n"), None)
def test_nothing_is_read_otherwise_than_others_read_it(sent, data):
    _, raw = sent
    if data is not None:
        at = data.draw(st.integers(0, len(raw) - 1))
        by = data.draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b";", b"0", b"g", b"-1", b"0x", b"\0", b"\x0b"])
        )
        raw = raw[:at] + by + raw[at + data.draw(st.integers(0, 2)) :]
    # The one thing that RFC 9112 has everybody read, and h11 refuses.
    raw = re.sub(rb"(?m)^([0-9A-Fa-f]+)[ \t]+;", rb"\1;", raw)
    try:
        mine = ours(raw)
    except MalformedMessage:
        return  # refused, and the connection with it
    try:
        theirs = others(raw)
    except h11.RemoteProtocolError:
        theirs = None
    if mine is not None:
        assert mine[0] == theirs


@given(st.binary(max_size=200), CUTS)
def test_whatever_comes_is_taken_apart_or_refused_alike_in_one_piece_and_in_many(data, cuts):
    def result(cuts: Any) -> Any:
        try:
            return ours(data, cuts)
        except MalformedMessage:
            return "malformed"

    # A piece may be refused before its line has ended, and only then.
    whole, pieces = result(()), result(cuts)
    assert pieces == whole


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n",
        b"\r\n",
        b"+1\r\na\r\n",
        b"-1\r\na\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1_0\r\n",
        b"\xd9\xa1\r\n",  # another one's digit
        b"1\na\r\n",
        b"1\r\na\n",
        b"1\r\nab\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;a\0\r\na\r\n",
        b"0\r\n\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"1" * 16 + b"\r\n",
        b"1;" + b"a" * 2000,
        b"0\r\n" + b"Aa: bb\r\n" * 4000,
        (b"1;" + b"a" * 900 + b"\r\na\r\n") * 100,
    ],
)
def test_what_is_not_chunked_is_refused(data):
    with pytest.raises(MalformedMessage):
        ours(data)


def test_a_chunk_is_announced_before_anything_of_it_is_taken():
    def announce(size: int) -> None:
        if size > 100:
            raise TooLarge("no")

    taken = bytearray()
    chunks = Chunks(announce)
    chunks.feed(memoryview(b"1\r\na\r\n"), taken.extend)
    with pytest.raises(TooLarge):
        chunks.feed(memoryview(b"fffffff\r\nbbbb"), taken.extend)
    assert taken == b"a"
