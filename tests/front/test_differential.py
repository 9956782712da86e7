"""The front and plain aiohttp treat odd requests alike, but for the differences that are decided."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest

from graphpipe.wire import encode_request
from tests.front.servers import InProcess, in_process

BODY = b"".join(encode_request([np.arange(6, dtype=np.float32)], ["x"]))
N = len(BODY)
HOST = b"Host: h\r\n"


def head(*lines: bytes, first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


LENGTH = b"Content-Length: %d" % N
CHUNKS = b"%x\r\n" % N + BODY + b"\r\n0\r\n\r\n"

# name -> bytes; each is followed by the end of what the client sends (not by closing).
ALIKE: dict[str, bytes] = {
    "plain": head(b"Host: h", LENGTH) + BODY,
    "lower-case names": head(b"host: h", b"content-length: %d" % N) + BODY,
    "spaces around the length": head(b"Host: h", b"Content-Length:   %d  " % N) + BODY,
    "two plain requests at once": (head(b"Host: h", LENGTH) + BODY) * 2,
    "connection close": head(b"Host: h", LENGTH, b"Connection: close") + BODY,
    "connection odd": head(b"Host: h", LENGTH, b"Connection: foo") + BODY,
    "connection keep-alive in capitals": head(b"Host: h", LENGTH, b"Connection: Keep-Alive") + BODY,
    "HTTP/1.0": head(b"Host: h", LENGTH, first=b"POST / HTTP/1.0") + BODY,
    "HTTP/1.0 keep-alive": head(b"Host: h", LENGTH, b"Connection: keep-alive", first=b"POST / HTTP/1.0") + BODY,
    "HTTP/1.2": head(b"Host: h", LENGTH, first=b"POST / HTTP/1.2") + BODY,
    "HTTP/2.0": head(b"Host: h", LENGTH, first=b"POST / HTTP/2.0") + BODY,
    "no version": head(b"Host: h", LENGTH, first=b"POST /") + BODY,
    "two lengths that agree": head(b"Host: h", LENGTH, LENGTH) + BODY,
    "two lengths that disagree": head(b"Host: h", LENGTH, b"Content-Length: 1") + BODY,
    "a list of lengths": head(b"Host: h", b"Content-Length: %d, %d" % (N, N)) + BODY,
    "length and chunked": head(b"Host: h", LENGTH, b"Transfer-Encoding: chunked")
    + b"%x\r\n" % N
    + BODY
    + b"\r\n0\r\n\r\n",
    "chunked": head(b"Host: h", b"Transfer-Encoding: chunked") + b"%x\r\n" % N + BODY + b"\r\n0\r\n\r\n",
    "chunked twice": head(b"Host: h", b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked in disguise": head(b"Host: h", LENGTH, b"Transfer-Encoding: xchunked") + BODY,
    "chunked with a bad size": head(b"Host: h", b"Transfer-Encoding: chunked") + b"zz\r\n",
    "length +4": head(b"Host: h", b"Content-Length: +%d" % N) + BODY,
    "length -1": head(b"Host: h", b"Content-Length: -1") + BODY,
    "length 0x": head(b"Host: h", b"Content-Length: 0x%x" % N) + BODY,
    "length with underscore": head(b"Host: h", b"Content-Length: 1_0") + BODY,
    "length in other digits": head(b"Host: h", "Content-Length: ١٢".encode()) + BODY,
    "length missing": head(b"Host: h") + BODY,
    "length empty": head(b"Host: h", b"Content-Length:") + BODY,
    "length zero": head(b"Host: h", b"Content-Length: 0"),
    "no host": head(LENGTH) + BODY,
    "obs-fold": head(b"Host: h", b"X-A: 1\r\n 2", LENGTH) + BODY,
    "obs-fold with tab": head(b"Host: h", b"X-A: 1\r\n\t2", LENGTH) + BODY,
    "NUL in a value": head(b"Host: h", b"X-A: a\x00b", LENGTH) + BODY,
    "NUL in a name": head(b"Host: h", b"X\x00A: b", LENGTH) + BODY,
    "control in a value": head(b"Host: h", b"X-A: a\x0bb", LENGTH) + BODY,
    "space before the colon": head(b"Host: h", b"Content-Length : %d" % N) + BODY,
    "space in a name": head(b"Host: h", b"X A: b", LENGTH) + BODY,
    "no colon": head(b"Host: h", b"nonsense", LENGTH) + BODY,
    "empty name": head(b"Host: h", b": b", LENGTH) + BODY,
    "bare LF throughout": b"POST / HTTP/1.1\nHost: h\n" + LENGTH + b"\n\n" + BODY,
    "bare LF after one header": b"POST / HTTP/1.1\r\nHost: h\n" + LENGTH + b"\r\n\r\n" + BODY,
    "bare CR in a value": head(b"Host: h", b"X-A: a\rb", LENGTH) + BODY,
    "leading empty line": b"\r\n" + head(b"Host: h", LENGTH) + BODY,
    "two spaces in the request line": head(b"Host: h", LENGTH, first=b"POST  / HTTP/1.1") + BODY,
    "lower-case method": head(b"Host: h", LENGTH, first=b"post / HTTP/1.1") + BODY,
    "absolute form": head(b"Host: h", LENGTH, first=b"POST http://h/ HTTP/1.1") + BODY,
    "query": head(b"Host: h", LENGTH, first=b"POST /?a=b HTTP/1.1") + BODY,
    "escaped path": head(b"Host: h", LENGTH, first=b"POST /%41 HTTP/1.1") + BODY,
    "escaped model": head(b"Host: h", LENGTH, first=b"POST /models/%65cho HTTP/1.1") + BODY,
    "path with dots": head(b"Host: h", LENGTH, first=b"POST /a/../models HTTP/1.1") + BODY,
    "path with double slash": head(b"Host: h", LENGTH, first=b"POST //x HTTP/1.1") + BODY,
    "double slash before a reserved name": head(b"Host: h", LENGTH, first=b"POST //models/none HTTP/1.1") + BODY,
    "model by name": head(b"Host: h", LENGTH, first=b"POST /models/echo HTTP/1.1") + BODY,
    "model by name and slash": head(b"Host: h", LENGTH, first=b"POST /models/echo/ HTTP/1.1") + BODY,
    "unknown model": head(b"Host: h", LENGTH, first=b"POST /models/none HTTP/1.1") + BODY,
    "reserved path": head(b"Host: h", LENGTH, first=b"POST /v2/x HTTP/1.1") + BODY,
    "star": head(b"Host: h", LENGTH, first=b"POST * HTTP/1.1") + BODY,
    "GET": head(b"Host: h", first=b"GET / HTTP/1.1"),
    "GET with a body": head(b"Host: h", LENGTH, first=b"GET / HTTP/1.1") + BODY,
    "HEAD": head(b"Host: h", first=b"HEAD / HTTP/1.1"),
    "PUT": head(b"Host: h", LENGTH, first=b"PUT / HTTP/1.1") + BODY,
    "DELETE": head(b"Host: h", first=b"DELETE / HTTP/1.1"),
    "OPTIONS": head(b"Host: h", first=b"OPTIONS / HTTP/1.1"),
    "CONNECT": head(b"Host: h", first=b"CONNECT h:80 HTTP/1.1"),
    "no method at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "upgrade": head(b"Host: h", LENGTH, b"Connection: upgrade", b"Upgrade: websocket") + BODY,
    "expect 100": head(b"Host: h", LENGTH, b"Expect: 100-continue") + BODY,
    "expect in capitals": head(b"Host: h", LENGTH, b"Expect: 100-Continue") + BODY,
    "expect odd": head(b"Host: h", LENGTH, b"Expect: 200-ok") + BODY,
    "garbage body": head(b"Host: h", b"Content-Length: 9") + b"not a msg",
    "timeout header odd": head(b"Host: h", LENGTH, b"GraphPipe-Timeout-Ms: soon") + BODY,
    "timeout header": head(b"Host: h", LENGTH, b"GraphPipe-Timeout-Ms: 5000") + BODY,
    "two timeout headers": head(b"Host: h", LENGTH, b"GraphPipe-Timeout-Ms: 5000", b"GraphPipe-Timeout-Ms: 1") + BODY,
    "high bytes in a value": head(b"Host: h", b"X-A: \xff\xfe", LENGTH) + BODY,
    "absurdly large": head(b"Host: h", b"Content-Length: 99999999999999999999999") + BODY,
}

# What decisions.md lets the front do otherwise: (front, aiohttp).
DECIDED: dict[str, tuple[bytes, int]] = {
    "head over the limit": (head(b"Host: h", b"X-A: " + b"a" * 20_000, LENGTH) + BODY, 431),
    "too large": (head(b"Host: h", b"Content-Length: 99999999") + BODY, 413),  # its end is seen at once
    "content encoding": (head(b"Host: h", LENGTH, b"Content-Encoding: br") + BODY, 415),
}


@pytest.fixture(scope="module")
def front() -> Iterator[InProcess]:
    with in_process(body_bytes_max=1 << 20) as server:
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[InProcess]:
    with in_process(plain=True, body_bytes_max=1 << 20) as server:
        yield server


def statuses(server: InProcess, data: bytes) -> tuple[list[int], bool]:
    """The status of every answer (100 Continue left out), and whether the connection was closed."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), 10) as connection:
        connection.sendall(data)
        received = b""
        closed = False
        try:
            while chunk := connection.recv(65536):
                received += chunk
                # One answer is certain; whatever else comes follows it closely.
                connection.settimeout(0.2)
            closed = True
        except TimeoutError:
            pass
        except ConnectionResetError:
            closed = True
    found = [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", received)]
    return [status for status in found if status != 100], closed


def answers_to(servers: Sequence[InProcess], requests: Sequence[bytes]) -> Iterator[list[tuple[list[int], bool]]]:
    """What each server says to a request, for one request after another. All are sent at once, as each is waited for."""
    with ThreadPoolExecutor(len(servers) * len(requests)) as callers:
        told = [[callers.submit(statuses, server, data) for server in servers] for data in requests]
        for each in told:
            yield [answer.result() for answer in each]


@pytest.mark.parametrize("name", ALIKE)
def test_an_odd_request_is_treated_as_aiohttp_treats_it(front: InProcess, plain: InProcess, name: str) -> None:
    ((ours, theirs),) = answers_to([front, plain], [ALIKE[name]])
    assert ours == theirs


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t", b"\t "])
@pytest.mark.parametrize(
    "field", [b"Host: h", LENGTH, b"Transfer-Encoding: chunked", b"Connection: close", b"TE: trailers", b"Accept: */*"]
)
def test_white_space_around_a_value_is_read_alike(
    front: InProcess, plain: InProcess, field: bytes, space: bytes
) -> None:
    name, _, value = field.partition(b": ")
    is_chunked = name == b"Transfer-Encoding"
    others = [b"Host: h"] if name != b"Host" else []
    others += [LENGTH] if not is_chunked and field != LENGTH else []
    around = ((space, b""), (b"", space), (space, space))
    requests = [
        head(*others, name + b":" + before + value + behind) + (CHUNKS if is_chunked else BODY)
        for before, behind in around
    ]
    for (_, behind), (ours, theirs) in zip(around, answers_to([front, plain], requests), strict=True):
        assert ours == theirs
        # How a body is framed is for no two opinions: a tab behind the coding is refused, as aiohttp's parser does.
        assert ours[0] == [400 if is_chunked and b"\t" in behind else 200]


@pytest.mark.parametrize("name", DECIDED)
def test_a_decided_difference_is_as_decided(front: InProcess, name: str) -> None:
    data, status = DECIDED[name]
    assert statuses(front, data)[0] == [status]


def test_a_request_that_arrives_byte_by_byte_is_answered(front: InProcess) -> None:
    data = ALIKE["plain"]
    parts = urlsplit(front.url)
    with socket.create_connection((parts.hostname, parts.port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            connection.send(data[i : i + 1])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
