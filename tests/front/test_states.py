"""A connection goes through the states that its table draws, and through no others."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphpipe.server.http import hub, states
from graphpipe.server.http.connection import Connection
from graphpipe.server.http.states import TRANSITIONS
from graphpipe.wire import encode_request
from tests.front.servers import Function, InProcess, in_process

NAMES = {value: name.lower() for name, value in vars(states).items() if name.isupper() and value in range(10)}
SLOT = Connection.__dict__["state"]
FAR = 1_000_000  # ticks: whatever is waited for is late by then

moves: set[tuple[int, int]] = set()


class Recorded(Connection):
    """A connection that remembers which of its states followed which."""

    @property
    def state(self) -> int:
        return SLOT.__get__(self, Connection)

    @state.setter
    def state(self, new: int) -> None:
        with contextlib.suppress(AttributeError):  # the first one
            old = SLOT.__get__(self, Connection)
            if old != new:
                moves.add((old, new))
        SLOT.__set__(self, new)


gate = threading.Event()  # lets the model come to its end
gate.set()
running = threading.Event()  # the model has begun


def model(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    x = inputs["x"]
    if x.flat[0] == 1:
        running.set()
        gate.wait(20)
    return {"y": np.zeros(2_000_000 if x.flat[0] == 2 else 1)}


@contextlib.contextmanager
def recorded(**options: Any) -> Iterator[InProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "Connection", Recorded)
        with in_process({"m": Function(model)}, **options) as running:
            yield running


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    limits = {"body_bytes_max": 1 << 20, "in_flight_bytes_max": 1 << 21, "admission_wait_s": 0.3}
    with recorded(threads=2, **limits) as running:
        yield running


def post(first: float, count: int = 1, *lines: bytes) -> bytes:
    body = b"".join(encode_request([np.full(count, first)]))
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *lines, b"", b""]) + body


PLAIN, SLOW, MUCH, LARGE = post(0), post(1), post(2), post(0, 100_000)
SLOW_AND_LARGE = post(1, 120_000)


class Caller:
    """One connection, from both of its sides."""

    def __init__(self, server: InProcess) -> None:
        self.server = server
        parts = urlsplit(server.url)
        before = server.ask(lambda: set(server.app.hub.connections))
        self.socket = socket.create_connection((parts.hostname, parts.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until(lambda: server.ask(lambda: len(server.app.hub.connections - before)) == 1)
        (self.there,) = server.ask(lambda: server.app.hub.connections - before)

    def state(self) -> int:
        return int(self.server.ask(lambda: self.there.state))

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def settle(self) -> None:
        """Until the server has looked at what was sent, and has nothing to do but to wait."""
        for _ in range(3):
            self.server.ask(lambda: None)
        if not gate.is_set():
            return
        until(lambda: self.state() not in (states.ARRIVED, states.ANSWERING))

    def late(self) -> None:
        """The time comes at which the server gives up what it waits for."""
        self.server.ask(lambda: self.there.state != states.GONE and self.there.check(self.server.app.hub.tick + FAR))

    def read(self) -> None:
        self.socket.settimeout(0.02)
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 20):
                pass
        self.socket.settimeout(10)

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


EVENTS: dict[str, Callable[[Caller], None]] = {
    "a request": lambda caller: caller.send(PLAIN),
    "the last one": lambda caller: caller.send(post(0, 1, b"Connection: close")),
    "two at once": lambda caller: caller.send(PLAIN + PLAIN),
    "a large one": lambda caller: caller.send(LARGE),
    "the head of a large one": lambda caller: caller.send(LARGE[:100]),
    "half a head": lambda caller: caller.send(PLAIN[:10]),
    "the rest of that head": lambda caller: caller.send(PLAIN[10:]),
    "one that asks for much": lambda caller: caller.send(MUCH),
    "two that ask for much": lambda caller: caller.send(MUCH + MUCH),
    "what is no message": lambda caller: caller.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\njunk"),
    "too large a body": lambda caller: caller.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n"),
    "too large a head": lambda caller: caller.send(b"POST / HTTP/1.1\r\nX: " + b"a" * 17_000 + b"\r\n\r\n"),
    "HTTP/2": lambda caller: caller.send(b"PRI * HTTP/2.0\r\n\r\n"),
    "an odd one": lambda caller: caller.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "reading": Caller.read,
    "a long time": Caller.late,
    "closing his side": Caller.half_close,
    "a reset": Caller.reset,
}


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not become true")


def play(server: InProcess, events: list[str]) -> None:
    caller = Caller(server)
    try:
        for event in events:
            with contextlib.suppress(OSError):
                EVENTS[event](caller)
            caller.settle()
    finally:
        caller.socket.close()
        caller.settle()


def drawn() -> set[tuple[int, int]]:
    ends = {(old, states.GONE) for old in TRANSITIONS if old != states.GONE}
    return ends | {(old, new) for old, following in TRANSITIONS.items() for new in following}


def named(found: set[tuple[int, int]]) -> set[str]:
    return {f"{NAMES[old]} -> {NAMES[new]}" for old, new in found}


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=6))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_a_caller_does_his_connection_goes_no_way_that_is_not_drawn(
    server: InProcess, events: list[str]
) -> None:
    play(server, events)
    assert named(moves - drawn()) == set()


def test_every_way_that_is_drawn_is_gone(server: InProcess) -> None:
    for events in (
        ["a request", "half a head", "the rest of that head", "a large one", "one that asks for much", "reading"],
        ["half a head", "a long time", "a long time", "a long time"],
        ["the head of a large one", "a long time", "a long time"],
        ["the head of a large one", "a reset"],
        ["too large a head", "a long time", "closing his side"],
        ["HTTP/2", "a reset"],
        ["an odd one"],
        ["two that ask for much", "reading", "reading", "reading"],
        ["one that asks for much", "closing his side", "reading"],
        ["one that asks for much", "a reset"],
        ["too large a body", "a reset"],
        ["a long time"],
        ["the last one"],
    ):
        play(server, events)
    with_a_model_that_is_busy(server)
    with_answers_that_nobody_reads(server)
    with_a_queue_that_is_full()
    assert named(drawn() - moves) == set()
    assert named(moves - drawn()) == set()


def with_a_model_that_is_busy(server: InProcess) -> None:
    gate.clear()
    holders = [Caller(server) for _ in range(2)]
    waiting, refused, leaver, small_leaver = (Caller(server) for _ in range(4))
    try:
        for holder in holders:  # there is no more room now
            holder.send(SLOW_AND_LARGE)
        until(lambda: server.ask(lambda: server.app.state.in_flight) == 2)
        refused.send(LARGE[:200])
        until(lambda: refused.state() == states.DISCARDING)
        small_leaver.send(SLOW)
        until(lambda: small_leaver.state() == states.ANSWERING)
        small_leaver.reset()
        until(lambda: small_leaver.state() == states.GONE)
        leaver.send(LARGE)
        waiting.send(LARGE[:200])
        until(lambda: waiting.state() == states.ROOM)
        leaver.reset()
        gate.set()
        until(lambda: waiting.state() == states.BODY)
        waiting.send(LARGE[200:])
        until(lambda: waiting.state() == states.WAITING)
    finally:
        gate.set()
        for caller in (*holders, waiting, refused, leaver):
            caller.socket.close()


def with_answers_that_nobody_reads(server: InProcess) -> None:
    """More is held than may be: whoever comes waits until it is read."""
    many, reader, late, early, whole, at_once, cut = (Caller(server) for _ in range(7))
    try:
        with loop_busy(server):
            many.send(PLAIN * (100_000 // len(PLAIN)))
        many.read()
        early.send(LARGE[:200])
        until(lambda: early.state() == states.BODY)
        reader.send(MUCH)
        until(lambda: reader.state() == states.SENDING)
        early.send(LARGE[200:5000])
        for caller in (whole, cut):
            caller.send(PLAIN)
        with loop_busy(server):
            at_once.send(LARGE[:200_000])
        for caller in (early, whole, cut, at_once):
            until(lambda caller=caller: caller.state() in (states.ROOM, states.DISCARDING))
        server.ask(cut.there.abort)
        reader.read()
        until(lambda: reader.state() == states.WAITING)
        with loop_busy(server):
            late.send(LARGE[:200_000])
        until(lambda: whole.state() in (states.WAITING, states.DISCARDING))
    finally:
        for caller in (many, reader, late, early, whole, at_once, cut):
            caller.socket.close()


@contextlib.contextmanager
def loop_busy(server: InProcess) -> Iterator[None]:
    """The server's loop looks at nothing meanwhile, and then at all that has come at once."""
    free, is_busy = threading.Event(), threading.Event()

    def work() -> None:
        is_busy.set()
        free.wait(10)

    server.loop.call_soon_threadsafe(work)
    assert is_busy.wait(10)
    yield
    threading.Event().wait(0.05)  # what was sent has arrived by then
    free.set()


def with_a_queue_that_is_full() -> None:
    """Small bodies are refused before they have come, and then skipped."""
    gate.clear()
    running.clear()
    with recorded(threads=1, model_settings={"queue_requests_max": 1}) as server:
        busy, queued, one, two, three, late = (Caller(server) for _ in range(6))
        try:
            busy.send(SLOW)
            until(running.is_set)  # else it is in the queue itself
            queued.send(SLOW)
            until(lambda: server.ask(lambda: server.app.state.in_flight) == 2)
            for caller in (one, two, three, late):
                caller.send(PLAIN[:-5])
                until(lambda caller=caller: caller.state() == states.SKIPPING)
            one.send(PLAIN[-5:])
            until(lambda: one.state() == states.WAITING)
            two.send(PLAIN[-5:] + PLAIN[:-5])  # the next is refused in the same way
            until(lambda: two.state() == states.SKIPPING)
            three.reset()
            until(lambda: three.state() == states.GONE)
            late.late()
            until(lambda: late.state() in (states.CLOSING, states.GONE))
        finally:
            gate.set()
            for caller in (busy, queued, one, two, late):
                caller.socket.close()


def test_what_is_read_with_the_head_of_a_large_body_is_little_once_a_large_one_was_seen(server: InProcess) -> None:
    caller = Caller(server)
    window = lambda: server.ask(lambda: len(caller.there.get_buffer(-1)))  # noqa: E731
    try:
        for request, little in ((PLAIN, False), (LARGE, True), (LARGE, True), (PLAIN, False), (LARGE, True)):
            caller.send(request)
            assert caller.socket.recv(1 << 20).startswith(b"HTTP/1.1 200")
            caller.settle()
            assert (window() < 10_000) is little
        # A head that is longer than that is a head all the same.
        caller.send(post(0, 100_000, *(b"X-%d: " % i + b"a" * 1000 for i in range(8))))
        assert caller.socket.recv(1 << 20).startswith(b"HTTP/1.1 200")
        # And whatever is read to be dropped is read in large pieces.
        caller.send(LARGE)
        assert caller.socket.recv(1 << 20).startswith(b"HTTP/1.1 200")
        caller.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n" + bytes(10_000))
        assert caller.socket.recv(1 << 20).startswith(b"HTTP/1.1 413")
        until(lambda: caller.state() == states.DISCARDING)
        assert window() > 10_000
    finally:
        caller.socket.close()
