"""Whoever has many connections does not keep the others waiting, and takes no place that is theirs."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import trustme

from graphpipe.machine import descriptors
from graphpipe.server.http import hub
from graphpipe.server.settings.values import Settings
from graphpipe.server.stages.turns import Line, Turns, by_turns
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import decode_infer_response, encode_request
from tests.front.servers import Function, InProcess, in_process
from tests.raw_http import Answer, Wire, request

CROWD, ALONE = "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True)
class Job:
    peer: str
    number: int = 0


def next_of(turns: Turns[Job]) -> Job | None:
    """As a thread takes it."""
    while True:
        turn = turns.take()
        if turn is not None:
            return turns.next_of(turn) if isinstance(turn, Line) else turn
        if turns.is_over():
            return None


def taken(turns: Turns[Job]) -> list[str]:
    found = []
    while not turns.empty():
        job = next_of(turns)
        found.append("end" if job is None else f"{job.peer}{job.number}")
    return found


def test_peers_have_turns_and_each_his_own_order() -> None:
    turns: Turns[Job] = Turns()
    for number in range(4):
        turns.put(Job("a", number))
    for number in range(2):
        turns.put(Job("b", number))
    turns.put(Job("c"))
    turns.put(None)
    assert turns.qsize() == 7
    assert taken(turns) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "end"]
    turns.put(Job("b", 5))
    turns.put(Job("b", 6))
    assert taken(turns) == ["b5", "b6"]


def test_the_last_of_him_who_has_most_makes_room() -> None:
    turns: Turns[Job] = Turns()
    for number in range(4):
        turns.put(Job("a", number))
    assert turns.has_more_than_his_share("a", 4)
    assert not turns.has_more_than_his_share("b", 4)
    assert turns.make_room() == Job("a", 3)
    turns.put(Job("b"))
    assert not turns.has_more_than_his_share("b", 4)
    assert turns.make_room() == Job("a", 2)
    turns.put(Job("b", 1))
    assert turns.has_more_than_his_share("b", 4)
    assert taken(turns) == ["a0", "b0", "a1", "b1"]
    assert turns.make_room() is None


def test_those_who_left_wait_no_more() -> None:
    for peers in ("a", "ab"):
        turns: Turns[Job] = Turns()
        for number in range(6):
            turns.put(Job(peers[number % len(peers)], number))
        turns.sift(lambda job: job.number >= 4)
        assert [name[1] for name in taken(turns)][-2:] == ["4", "5"]


def test_by_turns_is_the_first_of_everybody_then_the_second() -> None:
    assert by_turns("aaabbc", lambda peer: peer) == list("abcaba")


def test_no_job_is_lost_or_done_twice_however_many_threads_there_are() -> None:
    turns: Turns[Job] = Turns()
    found: list[list[Job]] = [[] for _ in range(4)]

    def work(mine: list[Job]) -> None:
        while (job := next_of(turns)) is not None:
            mine.append(job)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    chance = random.Random(1)
    sent = [Job(chance.choice("aaaaaabc"), number) for number in range(20_000)]
    away = []
    for job in sent:
        turns.put(job)
        if chance.random() < 0.05:
            last = turns.make_room()
            away += [] if last is None else [last]
    for _ in threads:
        turns.put(None)
    for thread in threads:
        thread.join(20)
    assert sorted([job.number for mine in (*found, away) for job in mine]) == [job.number for job in sent]


# --- on a server ---


class From(Wire):
    """A connection from an address of this machine."""

    def __init__(self, server: InProcess, address: str) -> None:
        parts = urlsplit(server.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), 20, (address, 0))
        self._file = self.socket.makefile("rb")


def ask(number: float) -> bytes:
    return request("POST", "/", b"".join(encode_request([np.float64(number)])))


class Crowd:
    """A model that is held up, and the order in which it is asked."""

    def __init__(self) -> None:
        self.runs: list[float] = []
        self.may_go = threading.Event()

    def __call__(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs.append(float(inputs["x"]))
        assert self.may_go.wait(20)
        return {"y": inputs["x"]}


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not become true")


def in_flight(server: InProcess) -> int:
    return int(server.ask(lambda: server.app.state.in_flight))


@pytest.mark.parametrize("path", ["/", "/?odd"])
def test_one_caller_does_not_wait_for_the_crowd_of_another_peer(path: str) -> None:
    model = Crowd()
    with in_process({"m": Function(model)}, threads=1) as server, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(From(server, CROWD)) for _ in range(40)]
        for number, wire in enumerate(crowd):
            wire.send(ask(number).replace(b"POST / ", f"POST {path} ".encode()))
        until(lambda: in_flight(server) == 40)
        caller = stack.enter_context(From(server, ALONE))
        caller.send(ask(1000).replace(b"POST / ", f"POST {path} ".encode()))
        until(lambda: in_flight(server) == 41)
        model.may_go.set()
        assert caller.answer().status == 200
        assert [wire.answer().status for wire in crowd] == [200] * 40
        # One of the crowd ran already, and one had its turn.
        assert model.runs.index(1000) <= 2
        assert [number for number in model.runs if number != 1000] == sorted(range(40))


def test_a_crowd_that_fills_the_queue_takes_no_place_of_others() -> None:
    model = Crowd()
    with (
        in_process({"m": Function(model)}, threads=1, model_settings={"queue_requests_max": 8}) as server,
        contextlib.ExitStack() as stack,
    ):
        crowd = [stack.enter_context(From(server, CROWD)) for _ in range(9)]
        for number, wire in enumerate(crowd):  # one runs, 8 wait
            wire.send(ask(number))
            until(lambda number=number: in_flight(server) == number + 1 and bool(model.runs))  # type: ignore[misc]
        more = stack.enter_context(From(server, CROWD))
        more.send(ask(9))
        assert more.answer().status == 503
        caller = stack.enter_context(From(server, ALONE))
        caller.send(ask(1000))
        last = crowd[-1].answer()
        assert (last.status, last.headers["retry-after"]) == (503, "1")
        assert "--queue-requests-max" in last.text
        model.may_go.set()
        assert caller.answer().status == 200
        assert [wire.answer().status for wire in crowd[:-1]] == [200] * 8


def test_a_batch_is_not_one_peers_alone_and_nor_are_the_rows_that_wait() -> None:
    batches: list[list[float]] = []
    may_go = threading.Event()

    def note(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        batches.append(inputs["x"].ravel().tolist())
        assert may_go.wait(20)
        return {"y": inputs["x"]}

    model = Function(note)
    model.signature = Signature((TensorSpec("x", np.dtype(np.float64), ("n", 1)),), (TensorSpec("y", None, ("n", 1)),))
    limits = {"batch_rows_max": 4, "queue_rows_max": 12, "batch_sizes": (1, 4)}
    with in_process({"m": model}, threads=1, model_settings=limits) as server, contextlib.ExitStack() as stack:

        def send(wire: Wire, number: float) -> None:
            wire.send(request("POST", "/", b"".join(encode_request([np.full((1, 1), float(number))]))))

        crowd = [stack.enter_context(From(server, CROWD)) for _ in range(13)]
        for number, wire in enumerate(crowd):  # one runs, 12 wait
            send(wire, number)
            until(lambda number=number: in_flight(server) == number + 1 and bool(batches))  # type: ignore[misc]
        more = stack.enter_context(From(server, CROWD))
        send(more, 99)
        assert more.answer().status == 503
        caller = stack.enter_context(From(server, ALONE))
        send(caller, 1000)
        assert "--queue-rows-max" in crowd[-1].answer().text
        may_go.set()
        assert caller.answer().status == 200
        assert [wire.answer().status for wire in crowd[:-1]] == [200] * 12
        assert 1000 in batches[1]


def test_a_turn_of_the_loop_is_not_one_peers_alone() -> None:
    order: list[float] = []

    def note(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        order.append(float(inputs["x"]))
        return {"y": inputs["x"]}

    count = 3 * hub._TURN_REQUESTS_MAX
    with in_process({"m": Function(note, quick=True)}) as server, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(From(server, CROWD)) for _ in range(count)]
        caller = stack.enter_context(From(server, ALONE))
        until(lambda: server.ask(lambda: len(server.app.hub.connections)) == count + 1)
        hold, held = threading.Event(), threading.Event()

        def stand_still() -> None:
            held.set()
            hold.wait(10)

        server.loop.call_soon_threadsafe(stand_still)
        assert held.wait(10)
        for number, wire in enumerate(crowd):  # all of them are there when the loop looks
            wire.send(ask(number))
        caller.send(ask(1000))
        hold.set()
        assert decode_infer_response(caller.answer().body).outputs[0] == 1000
        assert [wire.answer().status for wire in crowd] == [200] * count
        assert order.index(1000) <= 1


# --- how many connections ---


@pytest.fixture
def small() -> Iterator[InProcess]:
    with in_process(connections_max=3, head_timeout_s=1.0) as server:
        yield server


def test_one_connection_too_many_is_told_so_and_counted(small: InProcess) -> None:
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(Wire(small.url)) for _ in range(3)]
        assert [wire.call("GET", "/livez").status for wire in first] == [200] * 3
        with Wire(small.url) as wire:
            answer: Answer = wire.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "--connections-max" in answer.text
            assert wire.ended()
        assert (
            'graphpipe_requests_total{code="503",model="",protocol="graphpipe"} 1.0'
            in first[0].call("GET", "/metrics").text
        )
        first.pop().socket.shutdown(socket.SHUT_RDWR)
        until(lambda: small.ask(small.app.state.connections) == 2)
        with Wire(small.url) as wire:
            assert wire.call("GET", "/livez").status == 200


def test_unless_told_otherwise_connections_leave_descriptors_for_other_things() -> None:
    limit, is_open = descriptors()
    assert 0 < Settings().connections_cap() < limit - is_open
    assert Settings(connections_max=7).connections_cap() == 7


def test_a_flood_of_connections_is_cut_and_those_that_are_there_go_on(small: InProcess) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Wire(small.url))
        assert first.call("GET", "/livez").status == 200
        flood = [stack.enter_context(Wire(small.url)) for _ in range(120)]
        assert small.ask(small.app.state.connections) <= 3 + 64 + 1
        assert first.call("POST", "/", b"".join(encode_request([np.float32(1)]))).status == 200
        told = 0
        for wire in flood:
            with contextlib.suppress(AssertionError, ConnectionError):
                told += wire.answer().status == 503
        assert 0 < told < len(flood)


def test_whoever_comes_and_says_nothing_is_let_go_before_those_who_have_said_something(small: InProcess) -> None:
    with Wire(small.url) as silent, Wire(small.url) as known:
        assert known.call("POST", "/", b"".join(encode_request([np.float32(1)]))).status == 200
        assert silent.ended()
        assert known.call("POST", "/", b"".join(encode_request([np.float32(1)]))).status == 200


def test_a_tls_handshake_that_does_not_begin_is_not_waited_for() -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with in_process(tls=context, head_timeout_s=0.3) as server, Wire(server.url, 10) as silent:
        assert silent.ended()
