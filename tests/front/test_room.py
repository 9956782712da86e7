"""What is held for callers is counted as it comes, is never more than was said, and comes back whatever becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.buffers import BufferPool
from graphpipe.errors import Overloaded
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.body import Body
from graphpipe.server.quotas.quota import Quota
from graphpipe.server.settings.values import Settings
from graphpipe.wire import encode_request
from tests.front.servers import Function, InProcess, in_process
from tests.raw_http import Wire, chunked

MIB = 1 << 20
WAYS = ("hot", "old", "chunked", "odd")


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def message(*values: float, size: int = 8) -> bytes:
    array = np.zeros(size, np.float32)
    array[: len(values)] = values
    return b"".join(encode_request([array], ["x"]))


def request(way: str, body: bytes, *lines: str, length: int | None = None) -> bytes:
    """A request by one of the ways in; ``length`` is what it promises, if that is not what it sends."""
    first = {"old": "POST / HTTP/1.0", "odd": "POST /?odd HTTP/1.1"}.get(way, "POST / HTTP/1.1")
    promised = len(body) if length is None else length
    if way == "chunked":
        lines = (*lines, "Transfer-Encoding: chunked")
        body = chunked(body, 10_000) if length is None else b"%x\r\n" % promised + body
    else:
        lines = (*lines, f"Content-Length: {promised}")
    if way == "old":
        lines = (*lines, "Connection: keep-alive")
    return "\r\n".join([first, "Host: h", *lines, "", ""]).encode() + body


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.005)


def held(server: InProcess) -> int:
    return int(server.ask(lambda: server.app.admission.held_bytes))


def assert_nothing_is_left(server: InProcess) -> None:
    app = server.app
    until(lambda: server.ask(lambda: app.state.connections() + app.state.in_flight) == 0)
    until(lambda: server.ask(lambda: app.pool.leased_bytes + app.pool.aside) == 0)
    admission = app.admission
    assert server.ask(lambda: (admission._expected, admission._line, admission.is_full)) == (0, [], False)
    assert server.ask(lambda: [each for each in quotas_of(server) if each.requests or each.size]) == []


def quotas_of(server: InProcess) -> list[Quota]:
    return [*server.app.quotas._quotas.values()] if server.app.quotas is not None else []


# --- whatever becomes of a request ---


class Moody:
    """A model that does what its input's first number says: 0 answers, 1 fails, 2 waits, 3 gives much."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.runs = 0

    def __call__(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        mood = inputs["x"][0]
        self.runs += 1
        if mood == 1:
            raise ValueError("as it is told")
        if mood == 2:
            assert self.may_go.wait(20)
        return {"y": np.zeros(12 * MIB, np.uint8) if mood == 3 else inputs["x"]}


@pytest.fixture(scope="module")
def moody() -> Moody:
    return Moody()


@pytest.fixture(scope="module")
def server(moody: Moody) -> Iterator[InProcess]:
    limits = {"body_bytes_max": 4 * MIB, "in_flight_bytes_max": 64 * MIB, "body_timeout_s": 0.5, "send_timeout_s": 0.5}
    of_callers = {"caller_requests_max": 1000, "caller_bytes_max": 1 << 30}
    with in_process({"m": Function(moody)}, threads=4, **limits, **of_callers) as running:
        yield running
        assert running.ask(lambda: len(quotas_of(running))) == 1


def answered(wire: Wire, way: str, size: int) -> None:
    for _ in range(3):
        wire.send(request(way, message(size=size)))
        answer = wire.answer()
        assert (answer.status, answer.headers.get("connection")) == (200, "keep-alive" if way == "old" else None)


def refused(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, b"no message" * (size // 2)))
    assert wire.answer().status == 400


def failed(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, message(1, size=size)))
    assert wire.answer().status == 500


def too_large(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, message(size=size)[:1000], length=5 * MIB))
    assert wire.answer().status == 413


def late(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, message(2, size=size), "GraphPipe-Timeout-Ms: 50"))
    assert wire.answer().status == 504


def late_before_it_is_whole(wire: Wire, way: str, size: int) -> None:
    body = message(size=size)
    wire.send(request(way, body[:-5], "GraphPipe-Timeout-Ms: 50", length=len(body)))
    assert wire.answer().status == 504


def too_slow(wire: Wire, way: str, size: int) -> None:
    body = message(size=size)
    wire.send(request(way, body[:60], length=len(body)))
    assert wire.answer().status == 408


def left_in_its_head(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, b"")[:30])


def left_in_its_body(wire: Wire, way: str, size: int) -> None:
    body = message(size=size)
    wire.send(request(way, body[:-3], length=len(body)))


def left_while_the_model_runs(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, message(2, size=size)))


def left_in_its_answer(wire: Wire, way: str, size: int) -> None:
    wire.send(request(way, message(3, size=size)))
    assert b" 200 OK" in wire.socket.recv(1000, socket.MSG_WAITALL)


ENDS = (
    answered,
    refused,
    failed,
    too_large,
    late,
    late_before_it_is_whole,
    too_slow,
    left_in_its_head,
    left_in_its_body,
    left_while_the_model_runs,
    left_in_its_answer,
)


@pytest.mark.parametrize("size", [8, 100_000], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_nothing_is_leased_and_nothing_counted_after(
    server: InProcess, moody: Moody, end: Callable[[Wire, str, int], None], way: str, size: int
) -> None:
    moody.may_go.clear()
    runs = moody.runs
    with Wire(server.url) as wire:
        end(wire, way, size)
        if end is left_while_the_model_runs:
            until(lambda: moody.runs > runs)
    moody.may_go.set()
    assert_nothing_is_left(server)


# --- who promises much denies nobody anything ---


@pytest.mark.parametrize("way", WAYS)
def test_callers_who_promise_much_and_send_little_do_not_keep_others_out(way: str) -> None:
    limits = {"body_bytes_max": 16 * MIB, "in_flight_bytes_max": 64 * MIB, "admission_wait_s": 10.0}
    with in_process(**limits) as server, contextlib.ExitStack() as stack:
        for _ in range(9):
            slow = stack.enter_context(Wire(server.url))
            slow.send(request(way, bytes(5500), length=16 * MIB))
        until(lambda: held(server) >= 9 * 5500)
        assert held(server) < 9 * 8 * 1024
        with Wire(server.url) as wire:
            body = message(size=MIB)
            for at in (0, 100, len(body)):  # small ones too, whose head and body come in two packets
                whole = request("hot", body if at else message())
                cut = whole.find(b"\r\n\r\n") + 4 + at
                wire.send(whole[:cut])
                time.sleep(0.01)
                wire.send(whole[cut:])
                assert wire.answer().status == 200


def test_a_body_counts_as_far_as_it_has_come() -> None:
    with in_process() as server, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(Wire(server.url)).send(request("hot", b"", length=60_000))
        wire = stack.enter_context(Wire(server.url))
        until(lambda: server.ask(lambda: len(server.app.hub.connections)) == 201)
        assert held(server) == 0
        wire.send(request("hot", bytes(1000), length=60_000))
        until(lambda: held(server) == 1000)
        wire.send(bytes(30_000))
        until(lambda: held(server) == 31_000)
        large = stack.enter_context(Wire(server.url))
        large.send(request("hot", b"", length=64 * MIB))
        large.send(bytes(MIB))
        until(lambda: held(server) >= 31_000 + MIB)
        assert held(server) <= 31_000 + MIB * 9 // 8
        assert server.app.pool.leased_bytes <= MIB * 9 // 8


def test_a_body_in_chunks_counts_as_far_as_it_has_come_and_a_half_of_it_at_most_moves() -> None:
    with in_process() as server, Wire(server.url) as wire:
        wire.send(request("chunked", bytes(5 * MIB), length=6 * MIB))
        until(lambda: held(server) >= 5 * MIB)
        until(lambda: held(server) <= 5 * MIB * 9 // 8 + MIB)


# --- and over the limit nobody is read from ---


def test_bodies_that_come_over_the_limit_wait_and_the_first_goes_on() -> None:
    limits = {"body_bytes_max": 7 * MIB, "in_flight_bytes_max": 8 * MIB, "admission_wait_s": 1.0}
    body = message(size=(6 * MIB) // 4)
    with in_process(**limits) as server, Wire(server.url) as first, Wire(server.url) as second:
        # The first is so slow at first that the second is let in: there is room for one of them.
        for number, wire in enumerate((first, second)):
            wire.send(request("hot", body[:MIB], length=len(body)))
            until(lambda number=number: held(server) >= MIB * (number + 1))

        def send(wire: Wire, start: int) -> None:
            with contextlib.suppress(OSError):
                wire.send(body[start:])

        first.send(body[MIB : 4 * MIB])
        until(lambda: held(server) >= 5 * MIB)
        senders = []
        for wire, start in ((second, MIB), (first, 4 * MIB)):
            senders.append(threading.Thread(target=send, args=(wire, start)))
            senders[-1].start()
            until(lambda: server.ask(lambda: len(server.app.admission._line)) == len(senders))
        assert held(server) <= 8 * MIB + 2 * 4096
        assert [first.answer().status, second.answer().status] == [200, 503]
        for sender in senders:
            sender.join()


def test_whoever_came_first_goes_first() -> None:
    order: list[float] = []
    may_go = threading.Event()

    def note(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        order.append(float(inputs["x"][0]))
        may_go.wait(20)
        return {"y": inputs["x"][:1]}

    limits = {"body_bytes_max": 4 * MIB, "in_flight_bytes_max": 5 * MIB, "admission_wait_s": 20.0}
    with in_process({"m": Function(note)}, threads=1, **limits) as server, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.url)) for _ in range(6)]
        senders = []
        for number, wire in enumerate(wires):
            send = threading.Thread(target=wire.send, args=(request("hot", message(number, size=900_000)),))
            send.start()
            senders.append(send)
            if number:
                until(lambda number=number: server.ask(lambda: len(server.app.admission._line)) == number)
            else:
                until(lambda: order == [0])
        with Wire(server.url) as small:  # which needs no room, and waits for no one who does
            small.send(request("hot", message(9), "GraphPipe-Timeout-Ms: 30"))
            assert small.answer().status == 504
        may_go.set()
        assert [wire.answer().status for wire in wires] == [200] * 6
        assert [number for number in order if number < 9] == [0, 1, 2, 3, 4, 5]
        for send in senders:
            send.join()


@pytest.mark.parametrize("way", WAYS)
def test_answers_that_nobody_reads_count_and_keep_new_bodies_out(way: str) -> None:
    def much(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"y": np.zeros(16 * MIB, np.uint8)} if inputs["x"][0] else {"y": inputs["x"]}

    limits = {"body_bytes_max": 4 * MIB, "in_flight_bytes_max": 24 * MIB, "admission_wait_s": 0.1}
    with in_process({"m": Function(much)}, threads=1, **limits) as server, contextlib.ExitStack() as stack:
        idle = []
        for number in range(2):
            wire = stack.enter_context(Wire(server.url))
            wire.send(request(way, message(1)))
            idle.append(wire)
            until(lambda number=number: held(server) >= 16 * MIB * (number + 1))
        for body in (message(), message(size=100_000)):
            with Wire(server.url) as wire:
                wire.send(request(way, body))
                refusal = wire.answer()
                assert (refusal.status, refusal.headers["retry-after"]) == (503, "1")
                assert "--in-flight-bytes-max" in refusal.text
        assert idle[0].answer().status == 200  # it was computed, so it is sent
        for body in (message(), message(size=100_000)):
            with Wire(server.url) as wire:
                wire.send(request(way, body))
                assert wire.answer().status == 200
        assert idle[1].answer().status == 200
        until(lambda: held(server) == 0)


def test_a_limit_that_has_no_room_for_one_body_is_refused_at_the_start() -> None:
    with (
        pytest.raises(ValueError, match="--in-flight-bytes-max 1000 has no room"),
        in_process(body_bytes_max=1001, in_flight_bytes_max=1000),
    ):
        pass
    assert Settings(body_bytes_max=1000, in_flight_bytes_max=1000).in_flight_cap() == 1000


def test_one_body_may_take_all_the_room_there_is() -> None:
    body = message(size=MIB)
    with in_process(body_bytes_max=len(body), in_flight_bytes_max=len(body)) as server:
        for way in WAYS:
            with Wire(server.url) as wire:
                for number in range(2):
                    wire.send(request(way, body))
                    assert (way, number, wire.answer().status) == (way, number, 200)


def test_a_large_promise_has_to_be_kept_at_a_pace() -> None:
    with in_process(body_timeout_s=0.5) as server, Wire(server.url) as wire:
        # 40 KB/s: enough for a small body, and not for one that would take an hour.
        wire.send(request("hot", b"", length=150 * MIB))
        while not select.select([wire.socket], [], [], 0.05)[0]:
            wire.send(bytes(2000))
        answer = wire.answer()
        assert answer.status == 408
        assert "--body-timeout-s" in answer.text


# --- the order of those who wait, without sockets ---


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.booleans()), min_size=1, max_size=12), st.integers(0, 1 << 30))
def test_whatever_comes_together_no_more_is_held_than_may_be_and_all_comes_back(bodies: Any, seed: int) -> None:
    random = Random(seed)
    limit = 400_000

    async def receive(admission: Admission, size: int, is_open: bool) -> None:
        body = Body(admission, None if is_open else size, lambda size: None)
        try:
            await fill(admission, body, size, is_open)
            assert len(body.let_go()) == size
        finally:
            body.drop()

    async def fill(admission: Admission, body: Body, size: int, is_open: bool) -> None:
        scratch = memoryview(bytearray(50_000))
        left = size
        while True:
            if not admission.begin(body):
                await admission.turn(body)
            if not left:
                break
            window = body.window(scratch)
            count = min(len(window), random.randint(1, 50_000), left)
            del window  # who keeps it keeps the memory
            if is_open:
                body.take(scratch[:count])
            else:
                body.received(scratch, count)
            left -= count
            # One read over the limit is noticed, by each of them; and a body that moves is there twice.
            assert admission.held_bytes <= limit + len(bodies) * 4096 + 400_000 * is_open
            await asyncio.sleep(0)
        body.ended()

    async def main() -> None:
        pool = BufferPool(limit)
        admission = Admission(pool, 300_000, 0.02)
        ends = await asyncio.gather(*(receive(admission, *each) for each in bodies), return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), Overloaded}
        assert None in ends
        del ends
        assert (pool.leased_bytes, pool.aside, admission._expected, admission._line) == (0, 0, 0, [])
        assert not admission.is_full

    asyncio.run(main())


def test_no_answer_is_begun_that_has_no_room_and_whoever_reads_nothing_is_cut_for_the_others() -> None:
    size = 4 * MIB
    called = []

    def large(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        called.append(1)
        time.sleep(0.02)
        return {"y": np.zeros(size // 4, np.float32)}

    limits = {"in_flight_bytes_max": 2 * size, "body_bytes_max": MIB}
    with in_process({"m": Function(large)}, threads=2, **limits) as server, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Wire(server.url)) for _ in range(12)]
        for wire in callers:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(request("hot", message()))
        most = 0

        def are_answered() -> bool:
            nonlocal most
            most = max(most, held(server))
            return bool(server.ask(lambda: server.app.state.in_flight) == 0)

        until(are_answered, 60)
        assert most < 6 * size  # two threads were at it, and had looked when there was room
        assert len(called) < len(callers)
        until(lambda: not server.ask(lambda: server.app.admission.is_full), 60)
        with Wire(server.url) as wire:
            wire.send(request("hot", message()))
            assert wire.answer().status == 200


@pytest.mark.parametrize("turned_away", ["for want of room", "by its model's queue"])
def test_a_small_whole_request_refused_while_the_server_is_full_keeps_its_connection(turned_away: str) -> None:
    may_go, running = threading.Event(), threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        running.set()
        assert may_go.wait(60)
        return {"y": inputs["x"]}

    limits = {"in_flight_bytes_max": MIB, "body_bytes_max": MIB // 2, "admission_wait_s": 0.02}
    with (
        in_process({"m": Function(slow)}, threads=1, model_settings={"queue_requests_max": 1}, **limits) as server,
        contextlib.ExitStack() as stack,
    ):
        app = server.app
        others = [stack.enter_context(Wire(server.url)) for _ in range(2 if "queue" in turned_away else 0)]
        for number, wire in enumerate(others):  # one runs, the other waits
            wire.send(request("hot", message()))
            until(lambda number=number: server.ask(lambda: app.state.in_flight) > number and running.is_set())  # type: ignore[misc]
        server.ask(lambda: app.admission.hold(2 * MIB))
        caller = stack.enter_context(Wire(server.url))
        for _ in range(2):
            caller.send(request("hot", message()))
            answer = caller.answer()
            assert (answer.status, answer.headers.get("connection")) == (503, None)
            assert ("--queue-requests-max" if others else "--in-flight-bytes-max") in answer.text
        server.ask(lambda: app.admission.hold(-2 * MIB))
        may_go.set()
        assert [wire.answer().status for wire in others] == [200] * len(others)
        # What came behind it is answered too.
        caller.send(request("hot", message()) * 2)
        assert [caller.answer().status, caller.answer().status] == [200, 200]
        stack.close()
        assert_nothing_is_left(server)


def test_what_follows_a_request_refused_while_the_server_is_full_is_answered_in_its_turn() -> None:
    limits = {"in_flight_bytes_max": MIB, "body_bytes_max": MIB // 2, "admission_wait_s": 0.02}
    with in_process(**limits) as server, Wire(server.url) as caller:
        server.ask(lambda: server.app.admission.hold(2 * MIB))
        caller.send(request("hot", message()) + b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (caller.answer().status, caller.answer().text) == (503, "ok\n")
        server.ask(lambda: server.app.admission.hold(-2 * MIB))
