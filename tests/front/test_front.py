"""What a caller of the front can rely on, on both event loops, over TCP, TLS and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import trustme
import uvloop

import graphpipe
from graphpipe import errors
from graphpipe.wire import decode_infer_response, encode_request
from tests.front.servers import Function, InProcess, in_process

SMALL = b"".join(encode_request([np.arange(6, dtype=np.float32)]))


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop_factory(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def server() -> Iterator[InProcess]:
    with in_process() as running:
        yield running


def connect(server: InProcess) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), 10)


def post(body: bytes, *lines: str, length: int | None = None) -> bytes:
    head = ["POST / HTTP/1.1", "Host: h", f"Content-Length: {len(body) if length is None else length}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    length = 0
    while (line := file.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, file.read(length)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)


def assert_nothing_is_left(server: InProcess) -> None:
    """No connection, no leased buffer, no request under way."""
    app = server.app
    until(lambda: server.ask(lambda: len(app.hub.connections) + app.state.in_flight) == 0)
    until(lambda: app.pool.leased_bytes == 0)


# --- answers ---


@pytest.mark.parametrize("size", [0, 1, 7, 1000, 20_000, 70_000, 3_000_000])
def test_every_size_comes_back_as_it_went(loop_factory: Any, size: int) -> None:
    with in_process(loop_factory=loop_factory) as server, graphpipe.Client(server.url) as client:
        sent = np.random.default_rng(size).random(size)
        for _ in range(3):
            np.testing.assert_array_equal(client.execute(sent), sent)


def test_over_tls_every_size_comes_back_as_it_went(loop_factory: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        in_process(loop_factory=loop_factory, tls=context) as server,
        graphpipe.Client(server.url, tls=trusting) as client,
    ):
        for size in (1, 1000, 70_000, 3_000_000):
            sent = np.random.default_rng(size).random(size)
            np.testing.assert_array_equal(client.execute(sent), sent)


def test_over_a_unix_socket_every_size_comes_back_as_it_went(loop_factory: Any, tmp_path: Path) -> None:
    with (
        in_process(loop_factory=loop_factory, listen=f"unix:{tmp_path}/s") as server,
        graphpipe.Client(server.url) as client,
    ):
        for size in (1, 70_000, 3_000_000):
            sent = np.random.default_rng(size).random(size)
            np.testing.assert_array_equal(client.execute(sent), sent)


def test_many_callers_each_get_their_own_answer(server: InProcess) -> None:
    wrong: list[int] = []

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        with graphpipe.Client(server.url) as client:
            for _ in range(50):
                sent = random.random(int(random.integers(1, 30_000)))
                if not np.array_equal(client.execute(sent), sent):
                    wrong.append(seed)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_nothing_is_left(server)


def test_a_request_sent_before_the_last_answer_is_answered_in_its_turn(server: InProcess) -> None:
    with connect(server) as connection:
        connection.sendall(post(SMALL) * 5)
        file = connection.makefile("rb")
        for _ in range(5):
            assert file.readline().startswith(b"HTTP/1.1 200")
            length = 0
            while (line := file.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert decode_infer_response(file.read(length)).outputs[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_body_that_comes_in_pieces_after_its_head_is_whole() -> None:
    with in_process() as server, connect(server) as connection:
        body = b"".join(encode_request([np.arange(50_000, dtype=np.float64)]))
        connection.sendall(post(b"", length=len(body)))
        for at in range(0, len(body), 9973):
            connection.sendall(body[at : at + 9973])
            time.sleep(0.001)
        status, answer = read_answer(connection)
        assert status == 200
        np.testing.assert_array_equal(decode_infer_response(answer).outputs[0], np.arange(50_000))


def test_expect_100_continue_is_answered_before_the_body_is_read(server: InProcess) -> None:
    with connect(server) as connection:
        connection.sendall(post(b"", "Expect: 100-continue", length=len(SMALL)))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(SMALL)
        assert read_answer(connection)[0] == 200


# --- limits ---


def test_a_body_over_the_limit_is_refused_before_it_is_read_and_the_refusal_arrives() -> None:
    with in_process(body_bytes_max=1 << 20) as server, graphpipe.Client(server.url) as client:
        for _ in range(5):
            with pytest.raises(errors.TooLarge, match="--body-bytes-max"):
                client.execute(np.zeros(4_000_000))
        assert client.execute(np.float32(1)) == 1
    with in_process(body_bytes_max=1 << 20) as server, connect(server) as connection:
        connection.sendall(post(b"", "Expect: 100-continue", length=2 << 20))
        assert read_answer(connection)[0] == 413


def test_over_the_cap_callers_wait_and_then_are_told_to_come_back() -> None:
    release = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        release.wait(20)
        return {"y": inputs["x"]}

    # Room for one body of 8 MB; the second waits for its second in vain.
    with in_process(
        {"slow": Function(slow)}, body_bytes_max=8 << 20, in_flight_bytes_max=10 << 20, admission_wait_s=0.3
    ) as server:
        big = np.zeros(1_000_000)
        first: list[Any] = []
        caller = threading.Thread(target=lambda: first.append(graphpipe.Client(server.url).execute(big)))
        caller.start()
        until(lambda: server.app.pool.leased_bytes > 0)
        with graphpipe.Client(server.url) as client:
            with pytest.raises(errors.Overloaded, match="--in-flight-bytes-max") as refused:
                client.execute(big)
            assert refused.value.http_status == 503
            release.set()
            caller.join()
            assert np.array_equal(first[0], big)
            # And whoever waits for room that comes gets it.
            np.testing.assert_array_equal(client.execute(big), big)
        assert_nothing_is_left(server)


def test_a_model_that_keeps_its_input_keeps_the_memory_under_it() -> None:
    kept: list[Any] = []

    def keep(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        kept.append(inputs["x"][::2])
        return {"y": inputs["x"][1:2]}

    with in_process({"keep": Function(keep)}) as server, graphpipe.Client(server.url) as client:
        for i in range(4):
            client.execute(np.full(100_000, float(i)))
        client.execute(np.full(100_000, 9.0))
        assert [array[0] for array in kept] == [0.0, 1.0, 2.0, 3.0, 9.0]
        assert all((array == array[0]).all() for array in kept)
        assert server.app.pool.leased_bytes > 0
        kept.clear()
        until(lambda: server.app.pool.leased_bytes == 0)


# --- time ---


def test_a_head_that_never_ends_is_ended() -> None:
    with in_process(head_timeout_s=0.5) as server, connect(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n")
        for _ in range(40):
            try:
                connection.sendall(b"X-A: b\r\n")
            except OSError:
                break
            time.sleep(0.05)
        assert connection.recv(20).startswith(b"HTTP/1.1 408")


def test_a_body_without_progress_is_ended_and_its_memory_given_back() -> None:
    with in_process(body_timeout_s=0.5) as server:
        with connect(server) as connection:
            connection.sendall(post(b"x" * 100, length=1_000_000))
            assert read_answer(connection)[0] == 408
        assert_nothing_is_left(server)


def test_a_body_that_drips_is_ended_too() -> None:
    with in_process(body_timeout_s=0.5) as server, connect(server) as connection:
        connection.sendall(post(b"x" * 100, length=1_000_000))
        status = b""
        connection.settimeout(0.05)
        for _ in range(100):
            try:
                connection.sendall(b"x")
                status = connection.recv(20)
                break
            except TimeoutError:
                continue
        assert status.startswith(b"HTTP/1.1 408")


def test_an_idle_connection_is_closed_in_the_end() -> None:
    with in_process(keepalive_timeout_s=0.5) as server, connect(server) as connection:
        connection.sendall(post(SMALL))
        assert read_answer(connection)[0] == 200
        assert connection.recv(1) == b""


def test_a_caller_who_does_not_read_is_dropped() -> None:
    with in_process(send_timeout_s=0.5) as server:
        with connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = b"".join(encode_request([np.zeros(4_000_000)]))
            connection.sendall(post(body))
            until(lambda: server.ask(lambda: len(server.app.hub.connections)) == 0, 15)
        assert_nothing_is_left(server)


def test_work_whose_deadline_has_passed_is_not_run() -> None:
    runs: list[float] = []
    release = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        runs.append(float(inputs["x"]))
        release.wait(20)
        return {"y": inputs["x"]}

    with in_process({"slow": Function(slow)}, threads=1) as server:
        first = threading.Thread(target=lambda: graphpipe.Client(server.url).execute(np.float64(1)))
        first.start()
        until(lambda: runs == [1.0])
        with connect(server) as connection:
            connection.sendall(post(b"".join(encode_request([np.float64(2)])), "GraphPipe-Timeout-Ms: 100"))
            time.sleep(0.3)
            release.set()
            status, text = read_answer(connection)
        first.join()
        assert (status, runs) == (504, [1.0])
        assert b"deadline" in text


# --- callers who leave ---


def test_a_caller_who_leaves_takes_its_queued_work_along() -> None:
    runs: list[float] = []
    release = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        runs.append(float(inputs["x"]))
        release.wait(20)
        return {"y": inputs["x"]}

    with in_process({"slow": Function(slow)}, threads=1) as server:
        first = threading.Thread(target=lambda: graphpipe.Client(server.url).execute(np.float64(1)))
        first.start()
        until(lambda: runs == [1.0])
        leaver = connect(server)
        leaver.sendall(post(b"".join(encode_request([np.float64(2)]))))
        until(lambda: server.ask(lambda: server.app.state.in_flight) == 2)
        leaver.close()
        until(lambda: server.ask(lambda: server.app.state.in_flight) == 1)
        release.set()
        first.join()
        assert graphpipe.remote.execute(server.url, np.float64(3)) == 3
        assert runs == [1.0, 3.0]


def test_callers_who_leave_in_the_middle_of_a_body_leave_nothing_behind(server: InProcess) -> None:
    body = b"".join(encode_request([np.zeros(500_000)]))
    for cut in (10, 5_000, 100_000, len(body) - 1):
        for how in (0, 1):
            connection = connect(server)
            if how:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a FIN
            connection.sendall(post(body[:cut], length=len(body)))
            connection.close()
    assert_nothing_is_left(server)


def test_a_half_closed_caller_is_a_caller_who_left(server: InProcess) -> None:
    with connect(server) as connection:
        connection.sendall(post(b"x" * 10, length=1000))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert_nothing_is_left(server)


# --- the end ---


def test_draining_answers_what_is_in_flight_and_closes_what_is_idle() -> None:
    release = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        release.wait(20)
        return {"y": inputs["x"]}

    with in_process({"slow": Function(slow)}) as server:
        idle = connect(server)
        with connect(server) as busy:
            busy.sendall(post(SMALL))
            until(lambda: server.ask(lambda: server.app.state.in_flight) == 1)
            server.loop.call_soon_threadsafe(server.app.state.begin_drain)
            assert idle.recv(1) == b""
            release.set()
            answer = b""
            while chunk := busy.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\nConnection: close\r\n" in answer
        idle.close()


@pytest.mark.parametrize("at", [10, len(post(SMALL)) - len(SMALL), len(post(SMALL)) - 5])
def test_a_request_that_arrives_twice_in_one_turn_of_the_loop_is_one_request(server: InProcess, at: int) -> None:
    with connect(server) as connection:
        until(lambda: len(server.app.hub.connections) == 1)

        def arrive() -> None:  # as TLS may bring it
            (there,) = server.app.hub.connections
            for piece in (post(SMALL)[:at], post(SMALL)[at:]):
                there.get_buffer(-1)[: len(piece)] = piece
                there.buffer_updated(len(piece))

        server.ask(arrive)
        status, body = read_answer(connection)
        assert (status, decode_infer_response(body).outputs[0].tolist()) == (200, [0, 1, 2, 3, 4, 5])


def test_pieces_of_a_head_that_arrive_in_one_turn_join_what_came_before_them(server: InProcess) -> None:
    whole = post(SMALL)
    with connect(server) as connection:
        connection.sendall(whole[:8])
        until(lambda: any(there._received for there in server.app.hub.connections))

        def arrive() -> None:
            (there,) = server.app.hub.connections
            for piece in (whole[8:12], whole[12:16]):
                there.get_buffer(-1)[: len(piece)] = piece
                there.buffer_updated(len(piece))

        server.ask(arrive)
        connection.sendall(whole[16:])
        assert read_answer(connection)[0] == 200


class Panic(BaseException):
    """What extensions written in other languages raise when they have a bug."""


def test_whatever_a_quick_model_raises_costs_its_own_caller_alone(loop_factory: Any) -> None:
    def panic(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if inputs["x"][0] == 0:
            raise Panic
        return {"y": inputs["x"]}

    with in_process({"m": Function(panic, quick=True)}, loop_factory=loop_factory) as server:
        with connect(server) as first, connect(server) as second:
            first.sendall(post(SMALL))
            assert read_answer(first)[0] == 500
            second.sendall(post(b"".join(encode_request([np.ones(6, np.float32)]))))
            assert read_answer(second)[0] == 200


def test_the_deadline_of_one_request_is_not_that_of_the_next() -> None:
    release = threading.Event()

    def wait_if_large(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if inputs["x"].size > 1000:
            release.wait(20)
        return {"y": inputs["x"][:1]}

    large = b"".join(encode_request([np.zeros(1_000_000)]))
    room = {"body_bytes_max": 8 << 20, "in_flight_bytes_max": 10 << 20, "admission_wait_s": 20.0}
    with in_process({"m": Function(wait_if_large)}, **room) as server:
        with connect(server) as other, connect(server) as connection:
            connection.sendall(post(SMALL, "GraphPipe-Timeout-Ms: 200"))
            assert read_answer(connection)[0] == 200
            other.sendall(post(large))
            until(lambda: server.app.pool.leased_bytes > 0)
            connection.sendall(post(b"", length=len(large)))  # waits for room, and has no deadline
            until(lambda: server.app.state.in_flight == 2)
            tick = server.app.hub.tick
            until(lambda: server.app.hub.tick > tick + 2)
            release.set()
            assert read_answer(other)[0] == 200
            connection.sendall(large)
            assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("what", ["malformed", "the model fails"])
def test_room_comes_back_at_once_from_a_large_request_that_failed(what: str) -> None:
    def fail(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ValueError("as it is told")

    body = b"x" * 4_000_000 if what == "malformed" else b"".join(encode_request([np.zeros(500_000)]))
    room = {"body_bytes_max": 8 << 20, "in_flight_bytes_max": 16 << 20, "admission_wait_s": 5.0}
    with in_process({"m": Function(fail)}, **room) as server, connect(server) as connection:
        for _ in range(8):
            connection.sendall(post(body))
            assert read_answer(connection)[0] == (400 if what == "malformed" else 500)
        until(lambda: server.app.pool.leased_bytes == 0)


def test_a_thread_that_has_gathered_answers_keeps_none_of_them() -> None:
    body = post(b"".join(encode_request([np.zeros(30_000)])))
    with in_process({"m": Function(lambda inputs: {"y": inputs["x"]})}, threads=1) as server:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connect(server)) for _ in range(40)]
            for _ in range(5):
                for connection in connections:
                    connection.sendall(body)
                for connection in connections:
                    assert read_answer(connection)[0] == 200
        until(lambda: server.app.pool.leased_bytes == 0)


def test_a_failure_inside_one_connection_costs_the_others_of_its_turn_nothing(server: InProcess) -> None:
    connections = [connect(server) for _ in range(3)]
    until(lambda: len(server.app.hub.connections) == 3)

    def arrive() -> None:
        for number, there in enumerate(sorted(server.app.hub.connections, key=id)):
            there.get_buffer(-1)[: len(post(SMALL))] = post(SMALL)
            there.buffer_updated(len(post(SMALL)))
            if number == 1:
                there._arrived = None  # what no caller can bring about

    server.ask(arrive)
    statuses = []
    for connection in connections:
        with connection, contextlib.suppress(ConnectionError, IndexError):
            statuses.append(read_answer(connection)[0])
    assert statuses == [200, 200]
