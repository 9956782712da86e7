"""Descriptors that take long to close, as long as a stranger likes, keep nobody else waiting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.memory.discard import discard
from graphpipe.memory.rights import take_some
from graphpipe.wire import encode_request
from tests.canned import Caller
from tests.front.servers import UPGRADE, Function, InProcess, Way, in_process
from tests.front.test_ways import until
from tests.raw_http import Wire
from tests.sharing.peer import hand_made
from tests.sharing.showing import call, message, open_here, send

X = np.arange(20_000, dtype=np.float32)
# Longer than anybody here waits for an answer.
LINGER_S = 60


@pytest.fixture
def slow() -> Iterator[socket.socket]:
    """A connection whose last bytes nobody reads, and whoever closes it last is to wait for that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        reader, _ = listener.accept()
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(bytes(1 << 20))
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_S))
    with reader:
        yield sender


@pytest.fixture
def server(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(listen=f"unix:{tmp_path}/s") as running:
        yield running


def passing(server: InProcess) -> Any:
    return Way(server, passing=True).wire()


def is_answered(server: InProcess) -> bool:
    with Wire(server.url, 10) as other:
        send(other, b"".join(encode_request([X])), [])
        return other.answer().status == 200


@pytest.mark.parametrize("count", [1, 17, 253])
def test_they_are_closed_elsewhere(server: InProcess, slow: socket.socket, count: int) -> None:
    before = open_here()
    with passing(server) as wire:
        with slow:
            going = threading.Event()
            server.loop.call_soon_threadsafe(going.wait, 10)  # so that the server closes it last
            socket.send_fds(wire.socket, [b"POST / HTTP/1.1\r\n"], [slow.fileno()] * count)
        going.set()
        body = message([X], [0])
        wire.send(b"Host: h\r\nGraphPipe-Memory: 0=0:0+80000\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert wire.answer().status == 400
        assert is_answered(server)
    until(lambda: open_here() < before)


@pytest.mark.parametrize("flags", [0, socket.MSG_OOB])
def test_those_that_nobody_has_read_when_a_connection_ends_are_closed_elsewhere(
    tmp_path: Path, slow: socket.socket, flags: int
) -> None:
    began, may_go = threading.Event(), threading.Event()

    def wait(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        began.set()
        assert may_go.wait(20)
        return {"y": inputs["x"]}

    with in_process({"m": Function(wait)}, listen=f"unix:{tmp_path}/s") as server:
        before = open_here()
        with passing(server) as wire:
            send(wire, b"".join(encode_request([X])), [])
            assert began.wait(10)
            wire.send(bytes(64 * 1024))  # what comes behind so much is not read yet
            until(lambda: server.ask(lambda: not any(each._line.transport.is_reading() for each in passed(server))))
            with slow:
                socket.send_fds(wire.socket, [b"P"], [slow.fileno()], flags)
        may_go.set()
        assert is_answered(server)
        until(lambda: open_here() < before)


def passed(server: InProcess) -> list[Any]:
    return [each for each in server.app.hub.connections if hasattr(each, "_line")]


class Stuck:
    """Nobody can let go of it."""

    def __init__(self, until: threading.Event) -> None:
        self._until = until

    def __del__(self) -> None:
        self._until.wait(60)


def test_where_no_more_can_be_closed_none_are_taken_in_and_bytes_are(server: InProcess, slow: socket.socket) -> None:
    waiting = server.app.hub.sharing.waiting
    may_go = threading.Event()
    waiting.most = 20
    with passing(server) as innocent, passing(server) as wire:
        discard([Stuck(may_go) for _ in range(20)])
        with slow:
            socket.send_fds(wire.socket, [b"P"], [slow.fileno()])
        for _ in range(3):
            assert is_answered(server)
            send(innocent, b"".join(encode_request([X])), [])
            assert innocent.answer().status == 200
        with Wire(server.url, 10) as another:
            another.send(UPGRADE)
            assert another.answer().status == 200  # and not 101
        may_go.set()
        until(lambda: not waiting.is_full)
        assert call(innocent, [X]).status == 200


def test_one_that_cannot_be_closed_does_not_keep_others_open(server: InProcess) -> None:
    may_go = threading.Event()
    before = open_here()
    discard([Stuck(may_go), Stuck(may_go)])
    with passing(server) as wire:
        assert call(wire, [X]).status == 200
    until(lambda: not server.app.hub.sharing.waiting.is_full and open_here() <= before)
    may_go.set()


def test_a_server_can_give_none_to_a_client_where_the_system_knows_how(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setsockopt(socket.SOL_SOCKET, 83, 1)
    except OSError:
        pytest.skip("this system passes descriptors to everybody")

    async def ask(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            assert np.array_equal(await client.execute(X), X)

    refused: list[bool] = []

    def give(caller: Caller) -> None:
        caller.read_head()
        caller.unread_head()
        try:
            socket.send_fds(caller.socket, [b"HTTP/1.1 200 OK\r\n"], [0])
        except PermissionError:
            refused.append(True)
        caller.serve()

    with hand_made(tmp_path, give) as server:
        with graphpipe.Client(server.url) as client:
            assert np.array_equal(client.execute(X), X)
        asyncio.run(ask(server.url))
    assert refused == [True, True]


def test_a_socket_may_be_told_anew_whether_any_come() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        take_some(ours)
        socket.send_fds(theirs, [b"x"], [0])
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
        discard([descriptor])
