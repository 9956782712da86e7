"""Who asks to pass memory goes on over another transport, which is like the one before in all else."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from graphpipe.server.http.memory_fields import DESCRIPTORS_MAX
from graphpipe.wire import decode_infer_response, encode_request
from tests.front.servers import UPGRADE, InProcess, Way, in_process
from tests.front.test_ways import until
from tests.raw_http import Wire
from tests.sharing.showing import open_here

BODY = b"".join(encode_request([np.arange(6, dtype=np.float32)], ["x"]))
CALL = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InProcess]:
    with in_process(listen=f"unix:{tmp_path}/s", loop_factory=request.param) as running:
        yield running


def attach(wire: Wire, data: bytes, count: int) -> None:
    """Send bytes with so many descriptors beside them."""
    sent = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    try:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))]
        assert wire.socket.sendmsg([data], control) == len(data)
    finally:
        for descriptor in sent:
            os.close(descriptor)


def is_answered(wire: Wire) -> bool:
    wire.send(CALL)
    answer = wire.answer()
    return answer.status == 200 and decode_infer_response(answer.body).outputs[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_requests_go_on_after_the_upgrade(server: InProcess) -> None:
    with Way(server, passing=True).wire() as wire:
        assert all(is_answered(wire) for _ in range(3))
        large = np.random.default_rng(0).random(1_000_000).astype(np.float32)
        body = b"".join(encode_request([large]))
        wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        (back,) = decode_infer_response(wire.answer().body).outputs
        np.testing.assert_array_equal(back, large)
        assert wire.call("GET", "/livez").text == "ok\n"  # aiohttp's from here on
        assert is_answered(wire)
        assert server.ask(lambda: server.app.state.connections()) == 1
    until(lambda: server.ask(lambda: server.app.state.connections()) == 0)


def test_what_came_with_the_upgrade_is_the_first_request(server: InProcess) -> None:
    with Wire(server.url) as wire:
        wire.send(UPGRADE + CALL[:50])
        assert wire.answer().status == 101
        wire.send(CALL[50:])
        assert wire.answer().status == 200
    with Wire(server.url) as wire:
        wire.send(UPGRADE + CALL + CALL)
        assert [wire.answer().status for _ in range(3)] == [101, 200, 200]


def test_who_asks_twice_is_told_twice(server: InProcess) -> None:
    before = open_here()
    with Way(server, passing=True).wire() as wire:
        attach(wire, UPGRADE, 3)  # which are nobody's
        assert wire.answer().status == 101
        assert is_answered(wire)
        assert server.ask(lambda: server.app.state.connections()) == 1
    until(lambda: open_here() <= before)


@pytest.mark.parametrize(
    "change",
    [
        (b"graphpipe-memory/1", b"graphpipe-memory/2"),
        (b"graphpipe-memory/1", b"websocket"),
        (b"Connection: Upgrade", b"Connection: close"),
        (b"Host: h\r\n", b""),
        (b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (b"Host: h\r\n", b"Host: h\r\nHost: h\r\n"),
        (b"GET /", b"GET /models/echo"),
    ],
)
def test_any_other_request_upgrades_nothing(server: InProcess, change: tuple[bytes, bytes]) -> None:
    with Wire(server.url) as wire:
        wire.send(UPGRADE.replace(*change))
        assert wire.answer().status in (200, 400)


def test_only_a_fresh_connection_over_a_unix_socket_is_upgraded(server: InProcess) -> None:
    with Wire(server.url) as wire:
        assert is_answered(wire)
        wire.send(UPGRADE)
        assert wire.answer().status == 200
    with in_process() as tcp, Wire(tcp.url) as wire:
        wire.send(UPGRADE)
        assert wire.answer().status == 200
        assert is_answered(wire)


def test_descriptors_that_nobody_asked_for_are_closed(server: InProcess) -> None:
    before = open_here()
    for count in (1, DESCRIPTORS_MAX, DESCRIPTORS_MAX + 1, 100):
        with Way(server, passing=True).wire() as wire:
            attach(wire, CALL, count)
            assert wire.answer().status == 200
            assert is_answered(wire)
        until(lambda: open_here() <= before)
    with Way(server, passing=True).wire() as wire:  # where aiohttp has the connection
        attach(wire, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n", 5)
        assert wire.answer().status == 200
        attach(wire, CALL, 5)
        assert wire.answer().status == 200
    until(lambda: open_here() <= before)
    assert server.ask(lambda: server.app.hub.sharing.waiting.count) == 0


def test_a_flood_of_descriptors_takes_none_that_others_need(server: InProcess) -> None:
    """Each of many connections sends one byte after the other, with as many as go: few are kept, together."""
    before = open_here()
    most = server.app.hub.sharing.waiting.most
    with contextlib.ExitStack() as stack:
        floods = [stack.enter_context(Way(server, passing=True).wire()) for _ in range(60)]
        for part in (b"P", b"OST"):  # as many as one may keep, and more
            for byte in part:
                for wire in floods:
                    attach(wire, bytes((byte,)), DESCRIPTORS_MAX)
            with Wire(server.url) as innocent:
                assert is_answered(innocent)
            assert server.ask(lambda: server.app.hub.sharing.waiting.count) <= most
        # So many wait for their requests, so many for the thread that closes them, and a message may bring 253 more.
        assert open_here() <= before + 2 * len(floods) + 2 * most + 253
    until(lambda: open_here() <= before)
    assert server.ask(lambda: server.app.hub.sharing.waiting.count) == 0


def test_the_upgraded_end_with_the_server(server: InProcess) -> None:
    with Way(server, passing=True).wire() as idle, Way(server, passing=True).wire() as busy:
        assert is_answered(busy)
        server.ask(server.app.state.begin_drain)
        assert idle.ended()
        assert busy.ended()


def test_where_no_descriptor_is_left_the_caller_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_process(listen=f"unix:{tmp_path}/s") as running:

        def none_left(*_: Any) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("graphpipe.server.http.passing.os.dup", none_left)
        with Wire(running.url) as wire:
            wire.send(UPGRADE)
            assert wire.answer().status == 503
