"""Frames in any order, of any kind, with anything in them: the server goes on, and nothing of them stays."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest

from tests.front.servers import InProcess
from tests.grpc.frames import (
    CALL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    RESET,
    SETTINGS,
    UPDATE,
    Peer,
    abort,
    block,
    call,
    frame,
    head,
    number,
    peer,
    prefixed,
)
from tests.grpc.servers import calling, grpc_server, message, tensor

ONE = message(np.arange(4.0))
LARGE = message(np.zeros(7_000))


def _frame(chance: random.Random) -> bytes:
    stream = chance.choice((0, 1, 1, 3, 3, 5, 7, 9, 2, 2**31 - 1))
    some = bytes(chance.randrange(256) for _ in range(chance.choice((0, 1, 4, 5, 8, 40))))
    fields = list(CALL)
    if chance.random() < 0.5:
        chance.shuffle(fields)
        del fields[chance.randrange(len(fields))]
    more = [
        ("grpc-timeout", chance.choice(("1n", "5m", "1H", "x"))),
        ("grpc-encoding", "gzip"),
        ("x-request-id", "\x7f"),
    ]
    return chance.choice(
        (
            lambda: call(stream, chance.choice((ONE, LARGE, b"", b"nonsense"))),
            lambda: head(stream),
            lambda: head(stream, chance.choice(more)),
            lambda: head(stream, fields=fields, flags=chance.choice((0, 1, 4, 5))),
            lambda: frame(DATA, chance.choice((0, 1)), stream, prefixed(chance.choice((ONE, b"")))),
            lambda: frame(DATA, chance.choice((0, 1, 8, 9)), stream, some),
            lambda: frame(DATA, 0, stream, b"\x00" + number(chance.choice((0, 100, 100_000, 2**31, 2**32 - 1)))),
            lambda: frame(RESET, 0, stream, number(chance.randrange(16))),
            lambda: frame(UPDATE, 0, stream, number(chance.choice((0, 1, 65_536, 2**31 - 1)))),
            lambda: frame(
                SETTINGS,
                chance.choice((0, 0, 1)),
                0,
                struct.pack(">HI", chance.randrange(9), chance.choice((0, 1, 16_384, 2**31))),
            ),
            lambda: frame(CONTINUATION, chance.choice((0, END_HEADERS)), stream, block((("a", "b"),))),
            lambda: frame(HEADERS, END_HEADERS, stream, some),
            lambda: frame(chance.randrange(12), chance.randrange(256), stream, some),
            lambda: some,
        )
    )()


def _say(it: Peer, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 30)):
        if not it.try_to_send(_frame(chance)):
            return
    if chance.random() < 0.3:
        abort(it.socket)
        it.socket = type(it.socket)()
    elif chance.random() < 0.3:
        time.sleep(0.01)


def _wait(server: InProcess) -> None:
    until = time.monotonic() + 30
    while server.app.admission.held_bytes or server.app.state.in_flight or len(server.app.hub.connections):
        assert time.monotonic() < until, "something of it has stayed"
        time.sleep(0.01)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_frames_come_the_server_goes_on(seed: int, caplog: pytest.LogCaptureFixture):
    chance = random.Random(seed)
    with grpc_server(access_lines_per_s=0, body_timeout_s=5.0) as server:
        for _ in range(60):
            with peer(server) as it:
                _say(it, chance)
        with calling(server) as beside:
            assert np.array_equal(tensor(beside(ONE, timeout=20)), np.arange(4.0))
        _wait(server)
    wrong = [
        each.getMessage() for each in caplog.records if "cut" in each.getMessage() or "failed" in each.getMessage()
    ]
    assert not wrong, wrong
