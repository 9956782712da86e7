"""Callers who send what costs them nothing: they are sent away, or slowed down, and whoever calls beside them goes on."""

from __future__ import annotations

import contextlib
import gc
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.front.servers import InProcess
from tests.grpc.frames import (
    CALM,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INTERNAL_ERROR,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    RESET,
    SETTINGS,
    UPDATE,
    Frame,
    Peer,
    block,
    call,
    frame,
    head,
    number,
    peer,
    prefixed,
)
from tests.grpc.servers import calling, grpc_server, message, tensor

MANY = 100_000
# What a flood may leave behind in this process, which holds the server and the flood.
_BYTES_MAX = 128 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with grpc_server(
        in_flight_bytes_max=64 << 20, body_bytes_max=32 << 20, send_timeout_s=1.0, body_timeout_s=1.0
    ) as it:
        yield it


@pytest.fixture
def beside(server: InProcess) -> Iterator[Callable[[], None]]:
    """An innocent caller, all the while. Asked whether all of its calls were answered."""
    over, answered, failed = threading.Event(), [], []
    array = np.arange(1000, dtype=np.float32)

    def go_on() -> None:
        with calling(server) as call_it:
            while not over.is_set():
                try:
                    assert np.array_equal(tensor(call_it(message(array), timeout=60)), array)
                    answered.append(time.monotonic())
                except BaseException as error:
                    failed.append(error)
                    return

    caller = threading.Thread(target=go_on)
    caller.start()
    while not answered and not failed:
        time.sleep(0.005)

    def is_well() -> None:
        since = time.monotonic()
        until = since + 60
        while not failed and (not answered or answered[-1] < since):
            assert time.monotonic() < until, "nobody else is answered any more"
            time.sleep(0.005)
        assert not failed, failed

    before = _resident()
    yield is_well
    is_well()
    over.set()
    caller.join()
    gc.collect()
    assert _resident() - before < _BYTES_MAX
    _wait(lambda: server.app.admission.held_bytes == 0)
    _wait(lambda: not any(_streams(server)))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _streams(server: InProcess) -> list[int]:
    connections = server.ask(lambda: list(server.app.hub.connections))
    return [len(getattr(each, "_streams", ())) for each in connections]


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def sent_away(it: Peer, flood: bytes, codes: tuple[int, ...] = (CALM,), times: int = 1) -> None:
    """A flood ends in a GOAWAY, or in a connection that is shut."""
    for _ in range(times):
        if not it.try_to_send(flood):
            break
    last = [each for each in it.frames() if each.kind == GOAWAY]
    assert not last or last[-1].code in codes


FLOODS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "settings": (frame(SETTINGS) * MANY, (CALM,)),
    "settings that change": (
        b"".join(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 100 + each % 2)) for each in range(MANY)),
        (CALM,),
    ),
    "pings": (frame(PING, 0, 0, b"12345678") * MANY, (CALM,)),
    "priorities": (frame(PRIORITY, 0, 3, number(0) + b"\x10") * MANY, (CALM, INTERNAL_ERROR)),
    "updates": (frame(UPDATE, 0, 0, number(1)) * MANY, (CALM,)),
    "empty data": (head(1) + frame(DATA, 0, 1) * MANY, (CALM, INTERNAL_ERROR)),
    "rapid resets": (
        b"".join(head(2 * each + 1) + frame(RESET, 0, 2 * each + 1, number(8)) for each in range(MANY // 10)),
        (CALM, INTERNAL_ERROR),
    ),
    "resets of whole calls": (
        b"".join(call(2 * each + 1, b"x") + frame(RESET, 0, 2 * each + 1, number(8)) for each in range(MANY // 10)),
        (CALM, INTERNAL_ERROR),
    ),
    "resets that it provokes": (
        b"".join(head(2 * each + 1) + frame(UPDATE, 0, 2 * each + 1, number(0)) for each in range(MANY // 10)),
        (CALM, PROTOCOL_ERROR, INTERNAL_ERROR),
    ),
    "continuations": (head(1, flags=0) + frame(CONTINUATION, 0, 1, block((("a", "b"),))) * MANY, (CALM,)),
    "empty continuations": (head(1, flags=0) + frame(CONTINUATION, 0, 1) * MANY, (CALM,)),
    "streams": (b"".join(head(2 * each + 1) for each in range(MANY)), (CALM, PROTOCOL_ERROR)),
    "unknown frames": (frame(0xEE, 0, 0, bytes(100)) * MANY, (CALM, INTERNAL_ERROR)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_ended_and_nobody_else_notices(server: InProcess, beside: Callable[[], None], name: str):
    flood, codes = FLOODS[name]
    with peer(server) as it:
        if flood[3] != HEADERS:
            it.send(call(1, message([1.0])))
        if name == "unknown frames":  # which HTTP/2 has passed over
            it.try_to_send(flood)
            beside()
            return
        sent_away(it, flood, codes)
        beside()


def test_header_lists_beyond_the_limits_are_refused(server: InProcess, beside: Callable[[], None]):
    with peer(server) as it:
        it.send(head(1, ("a", "x" * 12_000)))
        sent_away(it, frame(HEADERS, 0, 3, block((("a", "b"),) * 2000)) + frame(CONTINUATION, END_HEADERS, 3), (CALM,))
    beside()


def test_a_header_bomb_is_refused(server: InProcess, beside: Callable[[], None]):
    """One long field, kept in the table, and named a thousand times: a hundred bytes that stand for megabytes."""
    kept = b"\x40" + block((("a", "y" * 4000),))[1:]
    with peer(server) as it:
        sent_away(it, frame(HEADERS, END_HEADERS | END_STREAM, 1, block((("x", "y"),)) + kept + b"\xbe" * 10_000))
    beside()


def test_windows_of_one_byte_that_are_never_opened_hold_nothing_for_long(server: InProcess, beside: Callable[[], None]):
    with peer(server, struct.pack(">HI", 4, 1)) as it:
        for each in range(100):
            it.send(call(2 * each + 1, message(np.zeros(7_000))))
        assert it.until(RESET).code == 8
        beside()
        _wait(lambda: max(_streams(server)) <= 1)


def test_windows_that_are_opened_byte_by_byte_are_too_much(server: InProcess, beside: Callable[[], None]):
    with peer(server, struct.pack(">HI", 4, 0)) as it:
        it.send(call(1, message(np.zeros(7_000))))
        sent_away(it, frame(UPDATE, 0, 1, number(1)) * MANY)
        beside()


def test_who_pauses_and_then_opens_his_windows_for_all_that_came_is_no_flood(server: InProcess):
    """Go's HTTP/2 opens those of the stream and of the connection for every 4 KiB that its application has taken."""

    def taken(each: Frame) -> bytes:
        parts = [number(min(4096, len(each.payload) - at)) for at in range(0, len(each.payload), 4096)]
        return b"".join(frame(UPDATE, 0, each.stream, part) + frame(UPDATE, 0, 0, part) for part in parts)

    window, array = 4 << 20, np.zeros(6 << 20, np.uint8)
    with peer(server, struct.pack(">HI", 4, window)) as it:
        it.send(frame(UPDATE, 0, 0, number(1 << 30)) + head(1))
        message_of = prefixed(message(array))
        left, room = memoryview(message_of), 65_535
        while left:
            size = min(16_000, len(left), room)
            if not size:
                room += int.from_bytes(it.until(UPDATE, 1).payload, "big")
                continue
            it.send(frame(DATA, END_STREAM if size == len(left) else 0, 1, bytes(left[:size])))
            left, room = left[size:], room - size
        untaken, came = [], 0
        for each in it.frames():
            if each.kind == DATA:
                untaken.append(each)
                came += len(each.payload)
                if came >= window:
                    break
        tick = server.app.hub.tick
        _wait(lambda: server.app.hub.tick > tick + 1)
        it.send(b"".join(map(taken, untaken)))
        for each in it.frames():
            assert each.kind != GOAWAY
            if each.kind == HEADERS and each.flags & END_STREAM:
                break
            if each.kind == DATA:
                came += len(each.payload)
                it.send(taken(each))
        assert came > array.nbytes


def test_calls_whose_messages_never_come_are_ended(server: InProcess, beside: Callable[[], None]):
    with peer(server) as it:
        for each in range(128):
            it.send(head(2 * each + 1) + frame(DATA, 0, 2 * each + 1, prefixed(bytes(1000))[:100]))
        it.until(RESET)
        beside()
        _wait(lambda: max(_streams(server)) <= 1)


def test_calls_that_never_end_are_ended(server: InProcess, beside: Callable[[], None]):
    with peer(server) as it:
        for each in range(128):
            it.send(head(2 * each + 1) + frame(DATA, 0, 2 * each + 1, prefixed(message([1.0]))))
        it.until(RESET)
        beside()
        _wait(lambda: max(_streams(server)) <= 1)


def test_large_messages_that_are_promised_take_no_memory_until_they_come(server: InProcess, beside: Callable[[], None]):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            it = stack.enter_context(peer(server))
            for each in range(16):
                it.send(head(2 * each + 1) + frame(DATA, 0, 2 * each + 1, b"\x00" + number(30 << 20)))
        beside()


def test_what_came_before_its_caller_could_be_stopped_is_not_held_without_limit():
    """Of each call as much may come as its first window has, and of very many calls that is too much."""
    piece = prefixed(bytes(1 << 20))[:16_000]
    limits = {"body_bytes_max": 1 << 20, "in_flight_bytes_max": 2 << 20, "admission_wait_s": 60.0}
    with grpc_server(**limits) as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(server)) for _ in range(4)]
        for it in peers:
            for stream in range(1, 201, 2):
                it.send(head(stream) + frame(DATA, 0, stream, piece))
        for it in peers:
            for stream in range(1, 201, 2):
                it.send(frame(DATA, 0, stream, bytes(16_000)) * 3)
            it.send(frame(PING, 0, 0, b"12345678"))
        for it in peers:
            it.until(PING, 0, 1)
        _wait(lambda: server.app.admission.held_bytes < 3 << 20)
        assert sum(_streams(server)) < 200
        for it in peers:
            it.close()
        _wait(lambda: server.app.admission.held_bytes == 0)


def test_half_a_head_is_not_waited_for_for_ever_while_others_are_answered(
    server: InProcess, beside: Callable[[], None]
):
    with peer(server) as it:
        it.send(frame(HEADERS, 0, 1, block((("a", "b"),))))
        beside()


def test_nonsense_behind_the_preface_ends_the_connection(server: InProcess, beside: Callable[[], None]):
    with peer(server) as it:
        sent_away(it, bytes(range(256)) * 1000, tuple(range(14)))
        beside()


def test_nobody_reads_what_is_sent_to_him_and_the_connection_is_cut(server: InProcess, beside: Callable[[], None]):
    with peer(server, struct.pack(">HI", 4, 2**31 - 1)) as it:
        it.send(frame(UPDATE, 0, 0, number(2**31 - 1 - 65535)))
        for each in range(120):
            if not it.try_to_send(call(2 * each + 1, message(np.zeros(7_000)))):
                break
        _wait(lambda: server.app.admission.held_bytes < 1 << 20)
        beside()
