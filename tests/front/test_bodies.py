"""HTTP/1.0 and chunks are hot: what a proxy sends by default goes the same way as what a client of ours sends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from graphpipe.wire import decode_infer_response
from tests.front.servers import Function, InProcess, in_process
from tests.front.test_room import message, request, until
from tests.raw_http import Wire, chunked


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with in_process(body_bytes_max=1 << 20) as running:
        yield running


def by_aiohttp(server: InProcess) -> int:
    """How many connections aiohttp has."""
    behind = server.app.behind.server
    assert behind is not None
    return int(server.ask(lambda: len(behind.connections)))


@pytest.mark.parametrize("size", [1, 20_000, 200_000])
@pytest.mark.parametrize("way", ["hot", "old", "chunked"])
def test_it_never_meets_aiohttp_and_its_connection_is_used_again(server: InProcess, way: str, size: int) -> None:
    body = message(*range(min(size, 100)), size=size)
    with Wire(server.url) as wire:
        for number in range(3):
            wire.send(request(way, body, f"X-Request-Id: {number}"))
            answer = wire.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (200, str(number))
            assert decode_infer_response(answer.body).outputs[0].nbytes == size * np.dtype(np.float32).itemsize
        assert by_aiohttp(server) == 0
        wire.send(request("odd", body))
        assert wire.answer().status == 200
        assert by_aiohttp(server) == 1


@pytest.mark.parametrize(
    ("first", "header", "kept", "says"),
    [
        (b"HTTP/1.1", b"", True, None),
        (b"HTTP/1.1", b"Connection: close\r\n", False, "close"),
        (b"HTTP/1.0", b"", False, "close"),
        (b"HTTP/1.0", b"Connection: close\r\n", False, "close"),  # as nginx has it by default
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True, "keep-alive"),
    ],
)
@pytest.mark.parametrize("body", [message(), message(size=100_000), b"no message"], ids=["small", "large", "refused"])
def test_a_connection_is_kept_as_its_caller_has_it(
    server: InProcess, first: bytes, header: bytes, kept: bool, says: str | None, body: bytes
) -> None:
    with Wire(server.url) as wire:
        wire.send(b"POST / %b\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (first, header, len(body), body))
        answer = wire.answer()
        assert answer.status == (400 if body == b"no message" else 200)
        assert answer.headers.get("connection") == says
        if not kept:
            assert wire.ended()
        else:
            wire.send(request("hot", message()))
            assert wire.answer().status == 200


@pytest.mark.parametrize("way", ["hot", "chunked", "odd"])
def test_who_asks_before_sending_is_told_to_go_on(server: InProcess, way: str) -> None:
    whole = request(way, message(size=30_000), "Expect: 100-continue")
    end = whole.find(b"\r\n\r\n") + 4
    with Wire(server.url) as wire:
        wire.send(whole[:end])
        assert wire.answer().status == 100
        wire.send(whole[end:])
        assert wire.answer().status == 200


def test_http_1_0_is_never_told_to_go_on(server: InProcess) -> None:
    whole = request("old", message(size=30_000), "Expect: 100-continue")
    end = whole.find(b"\r\n\r\n") + 4
    with Wire(server.url) as wire:
        wire.send(whole[:end])
        wire.send(whole[end:])
        assert wire.answer().status == 200


@pytest.mark.parametrize("body", [message(), message(size=30_000)], ids=["small", "large"])
def test_what_surrounds_a_chunk_means_nothing(server: InProcess, body: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
    half = len(body) // 2
    data = b"%x;a=b\r\n%b\r\n%04X\r\n%b\r\n0;end\r\nA: b\r\n\r\n" % (
        half,
        body[:half],
        len(body) - half,
        body[half:],
    )
    with Wire(server.url) as wire:
        wire.send(head + data)
        assert wire.answer().status == 200
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), max(3, len(data) // 30)):
            wire.send(head + data[:at])
            wire.send(data[at:])
            assert wire.answer().status == 200


def test_the_next_request_may_come_with_the_last_chunk(server: InProcess) -> None:
    with Wire(server.url) as wire:
        wire.send(request("chunked", message()) + request("hot", message()))
        assert wire.answer().status == wire.answer().status == 200


@pytest.mark.parametrize("data", [b"zz\r\n", b"5\r\nabc", b"1\na", b"0\r\nno field\r\n\r\n"])
def test_what_is_not_chunked_is_told_so_and_the_connection_ends(server: InProcess, data: bytes) -> None:
    with Wire(server.url) as wire:
        wire.send(request("chunked", b"", length=0)[:-3] + data + (b"defgh\r\n" if data.startswith(b"5") else b""))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert wire.ended()


def test_a_chunk_over_the_limit_is_refused_when_it_is_announced(server: InProcess) -> None:
    with Wire(server.url) as wire:
        wire.send(request("chunked", b"", length=2 << 20))
        assert wire.answer().status == 413
        assert wire.ended()


def test_bodies_in_very_many_chunks_come_whole(server: InProcess) -> None:
    body = message(*range(100), size=2000)
    with Wire(server.url) as wire:
        for size in (1, 3, 1000):
            wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, size))
            assert decode_infer_response(wire.answer().body).outputs[0][:100].tolist() == list(range(100))


def test_who_is_refused_before_its_little_body_came_keeps_its_connection() -> None:
    may_go = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        may_go.wait(20)
        return {"y": inputs["x"]}

    options = {"queue_requests_max": 1}
    with (
        in_process({"m": Function(slow)}, threads=1, model_settings=options) as server,
        contextlib.ExitStack() as stack,
    ):
        busy = [stack.enter_context(Wire(server.url)) for _ in range(2)]
        for number, wire in enumerate(busy):
            wire.send(request("hot", message()))
            until(lambda number=number: server.ask(lambda: server.app.state.in_flight) == number + 1)
        until(lambda: next(iter(server.app.directory)).stage.waiting == 1)
        whole = request("hot", message(size=5000))
        end = whole.find(b"\r\n\r\n") + 4
        with Wire(server.url) as wire:
            for cut in (0, 1, 10_000):
                wire.send(whole[: end + cut])
                answer = wire.answer()
                assert (answer.status, answer.headers.get("connection")) == (503, None)
                wire.send(whole[end + cut : -7])
                wire.send(whole[-7:])
            large = request("hot", message(size=100_000))
            may_go.set()
            assert [each.answer().status for each in busy] == [200, 200]
            wire.send(whole[:end])
            wire.send(whole[end:] + large)
            assert wire.answer().status == wire.answer().status == 200
