"""Connections of HTTP/2: how they begin, what they share between their calls, how they end."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme

from graphpipe.backends.echo import Echo
from graphpipe.server.life.certificates import Certificates
from tests.front.servers import Function, InProcess, in_process
from tests.grpc.frames import (
    ACK,
    CALL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RESET,
    SETTINGS,
    UPDATE,
    Frame,
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
from tests.raw_http import Wire, connect

ONE = message(np.arange(4.0))


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with grpc_server() as running:
        yield running


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def _is_answered(server: InProcess) -> bool:
    with calling(server) as it:
        return bool(np.array_equal(tensor(it(ONE, timeout=20)), np.arange(4.0)))


# --- the beginning ---


@pytest.mark.parametrize("size", [1, 3, 17, 18, 19, 24])
def test_a_connection_may_begin_in_pieces(server: InProcess, size: int):
    beginning = PREFACE + frame(SETTINGS) + call(1, ONE)
    with connect(server.url, 20) as it:
        it.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, 24, size):
            it.sendall(beginning[at : min(24, at + size)])
            time.sleep(0.005)
        it.sendall(beginning[24:])
        answer = b""
        while frame(HEADERS)[3:4] not in answer or len(answer) < 150:
            answer += it.recv(65536)


def test_what_only_looks_like_a_beginning_is_refused(server: InProcess):
    with connect(server.url, 20) as it:
        it.sendall(PREFACE[:18] + b"XX\r\n\r\n")
        while it.recv(65536):
            pass
    assert _is_answered(server)


def test_http1_and_grpc_share_the_port(server: InProcess):
    assert _is_answered(server)
    with Wire(server.url) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(ONE), ONE))
        assert wire.answer().status == 200


def test_http2_begins_with_a_connection_and_not_behind_a_request(server: InProcess):
    with Wire(server.url) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(ONE), ONE))
        assert wire.answer().status == 200
        wire.send(PREFACE + frame(SETTINGS))
        assert wire.answer().status == 505


def test_where_no_grpc_is_spoken_http2_is_refused_in_words():
    with in_process(protocols=("graphpipe",)) as server, Wire(server.url) as wire:
        wire.send(PREFACE)
        assert wire.answer().status == 505


def test_a_unix_socket_is_a_way_in(tmp_path: Path):
    with grpc_server(listen=f"unix:{tmp_path}/s") as _, grpc.insecure_channel(f"unix:{tmp_path}/s") as channel:
        assert channel.unary_unary("/test.Messages/echo")(ONE, timeout=20)


def test_an_address_may_be_for_grpc_alone():
    with grpc_server(grpc_listen="127.0.0.1:0") as server:
        assert _is_answered(server)
        with peer(server) as it:
            it.send(call(1, ONE))
            assert it.until(DATA, 1)
        with connect(server.grpc_url, 20) as other:
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while other.recv(65536):
                pass


@pytest.mark.parametrize("alpn", [None, ["h2"], ["http/1.1"], ["h2", "http/1.1"]])
def test_tls_agrees_on_what_is_spoken(tmp_path: Path, alpn: list[str] | None):
    authority = trustme.CA()
    pair, root = tmp_path / "pair.pem", tmp_path / "root.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(pair)
    authority.cert_pem.write_to_path(root)
    certificates = Certificates(str(pair))
    with grpc_server(tls=certificates.context) as server:
        mine = ssl.create_default_context(cafile=str(root))
        if alpn:
            mine.set_alpn_protocols(alpn)
        with connect(server.url, 20) as plain, mine.wrap_socket(plain, server_hostname="127.0.0.1") as it:
            assert it.selected_alpn_protocol() == (alpn[-1] if alpn else None)
        target = server.url.removeprefix("https://").rstrip("/")
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(root.read_bytes())) as channel:
            large = message(np.arange(500_000.0))
            assert (
                len(
                    channel.unary_unary(
                        "/test.Messages/echo",
                    )(large, timeout=30)
                )
                > 3_000_000
            )
        with connect(server.url, 20) as plain, mine.wrap_socket(plain, server_hostname="127.0.0.1") as it:
            it.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert it.recv(100).startswith(b"HTTP/1.1 200") or alpn == ["h2"]


def test_who_speaks_http2_too_is_answered_over_tls_as_he_was_before_there_was_grpc(tmp_path: Path):
    """curl, browsers, Go's and Java's clients offer both, and ask for pages and models."""
    pair = tmp_path / "pair.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pair)
    both = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    both.check_hostname, both.verify_mode = False, ssl.CERT_NONE
    both.set_alpn_protocols(["h2", "http/1.1"])
    with grpc_server(tls=Certificates(str(pair)).context) as server:
        for page in ("livez", "v2/models/echo"):
            with connect(server.url, 20) as plain, both.wrap_socket(plain) as it:
                assert it.selected_alpn_protocol() == "http/1.1"
                it.sendall(f"GET /{page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                assert it.recv(100).startswith(b"HTTP/1.1 200")


def test_a_connection_too_many_is_told_so():
    """At an address for gRPC alone; where HTTP/1.1 is spoken too, nobody knows yet which words he understands."""
    with grpc_server(connections_max=1, grpc_listen="127.0.0.1:0") as server, peer(server) as first:
        first.send(call(1, ONE))
        first.until(DATA, 1)
        with peer(server) as second:
            assert second.until(GOAWAY).code == 11
        first.send(call(3, ONE))
        assert first.until(DATA, 3)


# --- calls ---


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(":method", "GET"), (":scheme", "http"), (":path", "/v2/health/live"), (":authority", "x")], b"415"),
        ([*CALL[:5], ("content-type", "application/json")], b"415"),
        ([*CALL[:5], ("content-type", "application/grpc-web")], b"415"),
        ([(":method", "PUT"), *CALL[1:]], b"405"),
        ([*CALL[:4], CALL[5]], b"400"),
    ],
)
def test_what_is_no_call_is_answered_in_words(server: InProcess, fields: Any, status: bytes):
    with peer(server) as it:
        it.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields)))
        it.until(HEADERS, 1)
        words = it.until(DATA, 1, END_STREAM).payload
        assert b"gRPC" in words
        it.send(call(3, ONE))
        assert it.until(DATA, 3)


def test_what_is_no_call_has_a_line_and_is_counted(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "graphpipe.access")
    fields = ((":method", "HEAD"), (":scheme", "http"), (":path", "/who\u202eis/it?x"), (":authority", "here"))
    with grpc_server() as server, peer(server) as it:
        it.send(head(1, fields=fields, flags=END_HEADERS | END_STREAM))
        assert it.until(HEADERS, 1, END_STREAM)  # without a body, as HEAD has it
        with Wire(server.url, 20) as wire:
            assert 'graphpipe_requests_total{code="415"' in wire.call("GET", "/metrics").text
    assert "415 HEAD /who" in caplog.text
    assert "\u202e" not in caplog.text
    assert "?x" not in caplog.text


def test_what_is_no_call_need_not_be_sent_to_its_end(server: InProcess):
    with peer(server) as it:
        it.send(head(1, fields=[*CALL[:5], ("content-type", "text/plain")]))
        it.until(DATA, 1, END_STREAM)
        assert it.until(RESET, 1).code == 0
        it.send(call(3, ONE))
        assert it.until(DATA, 3)


@pytest.mark.parametrize(
    "sent",
    [
        [frame(DATA, END_STREAM, 1)],
        [frame(DATA, END_STREAM, 1, b"\x00\x00")],
        [frame(DATA, END_STREAM, 1, b"\x00" + number(100) + b"short")],
        [frame(DATA, END_STREAM, 1, prefixed(ONE) + b"more")],
        [frame(DATA, END_STREAM, 1, prefixed(ONE) * 2)],
        [frame(DATA, 0, 1, prefixed(ONE)), frame(DATA, END_STREAM, 1, prefixed(ONE))],
        [frame(DATA, END_STREAM, 1, b"\x07" + prefixed(ONE)[1:])],
        [frame(DATA, END_STREAM, 1, b"\x01" + prefixed(ONE)[1:])],
        [frame(DATA, END_STREAM, 1, b"\x00" + number(2**32 - 1))],
    ],
)
def test_messages_that_are_none_are_refused_and_the_connection_goes_on(server: InProcess, sent: list[bytes]):
    with peer(server) as it:
        it.send(head(1))
        for each in sent:
            it.send(each)
        assert it.until(HEADERS, 1, END_STREAM)
        it.send(call(3, ONE))
        assert it.until(DATA, 3)
    _wait(lambda: server.app.admission.held_bytes == 0)


@pytest.mark.parametrize("timeout", ["", "1", "S", "-1S", "123456789S", "1x", "1 S", "1.5S"])
def test_a_timeout_that_is_none_is_refused(server: InProcess, timeout: str):
    with peer(server) as it:
        it.send(call(1, ONE, ("grpc-timeout", timeout)))
        it.until(HEADERS, 1, END_STREAM if timeout else 0)


@pytest.mark.parametrize("timeout", ["99999999H", "1M", "10S", "30000m", "99999999u"])
def test_timeouts_come_in_all_units(server: InProcess, timeout: str):
    with peer(server) as it:
        it.send(call(1, ONE, ("grpc-timeout", timeout)))
        assert it.until(DATA, 1)


def test_a_message_may_come_byte_by_byte(server: InProcess):
    with peer(server) as it:
        it.send(head(1))
        for byte in prefixed(ONE):
            it.send(frame(DATA, 0, 1, bytes((byte,))))
        it.send(frame(DATA, END_STREAM, 1))
        assert it.until(DATA, 1).payload[0] == 0


def test_padding_and_trailers_are_taken(server: InProcess):
    with peer(server) as it:
        it.send(head(1) + frame(DATA, 8, 1, b"\x40" + prefixed(ONE) + bytes(64)))
        it.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block((("a", "b"),))))
        assert it.until(DATA, 1)


def test_a_large_answer_does_not_hold_up_a_small_one_on_the_same_connection(server: InProcess):
    """The large one is under way, with all its windows open, when the small one is asked for."""
    large, opened = message(np.zeros(7_000)), struct.pack(">HI", 4, 2**31 - 1)
    with peer(server, opened) as it:
        it.send(frame(UPDATE, 0, 0, number(2**30)))
        for each in range(100):
            it.send(call(2 * each + 1, large))
        it.send(call(201, ONE))
        came: dict[int, int] = {}
        for each in it.frames():
            if each.kind == DATA:
                came[each.stream] = came.get(each.stream, 0) + len(each.payload)
            if each.stream == 201 and each.kind == DATA:
                break
        assert 201 in came


def test_answers_take_turns():
    """Two large answers on one connection: neither is sent wholly before the other has begun."""
    array = np.zeros(4_000_000, np.uint8)
    made = Function(lambda inputs: {"y": array})
    with grpc_server({"echo": made}) as server, peer(server, struct.pack(">HI", 4, 2**31 - 1)) as it:
        it.send(call(1, ONE) + call(3, ONE))
        ended: list[int] = []
        order: list[int] = []
        begun: set[int] = set()
        for each in it.frames():
            if each.kind == HEADERS and not each.flags & END_STREAM:
                begun.add(each.stream)
                if len(begun) == 2:  # and neither can go on: the window of the connection is used up
                    it.send(frame(UPDATE, 0, 0, number(2**30)))
            if each.kind == DATA and each.payload:
                order.append(each.stream)
            if each.flags & END_STREAM and each.kind == HEADERS:
                ended.append(each.stream)
            if len(ended) == 2:
                break
        first = ended[0]
        other = 4 - first
        assert abs(order.count(first) - order.count(other)) <= 2  # where a window ends, a frame is cut in two
        assert order[: len(order) // 2].count(other) > len(order) // 6


def test_an_answer_waits_for_its_window_and_others_pass_it(server: InProcess):
    with peer(server, struct.pack(">HI", 4, 0)) as it:
        it.send(call(1, message(np.zeros(7_000))) + call(3, ONE))
        it.send(frame(UPDATE, 0, 3, number(1 << 20)))
        assert it.until(DATA, 3)
        it.send(frame(UPDATE, 0, 1, number(1 << 20)))
        assert it.until(DATA, 1)


def test_calls_that_are_taken_back_while_they_wait_for_room_leave_as_much_for_others(monkeypatch: pytest.MonkeyPatch):
    """What had come of them, and was not to be followed by more, would be missing from the connection's window for good."""
    monkeypatch.setattr("graphpipe.server.http.h2._WINDOW_ALL", 1 << 20)
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": np.zeros(1)}

    array = message(np.zeros(6_000_000, np.uint8))
    limits = {"body_bytes_max": 8 << 20, "in_flight_bytes_max": 10 << 20, "admission_wait_s": 30.0}
    try:
        with grpc_server({"echo": Function(slow)}, **limits) as server, calling(server) as it, peer(server) as raw:
            first = it.future(array, timeout=60)
            _wait(lambda: server.app.state.in_flight == 1 and server.app.admission.held_bytes > 6_000_000)
            for stream in range(1, 101, 2):
                raw.send(head(stream) + b"".join(frame(DATA, 0, stream, prefixed(array)[:16_000]) for _ in range(3)))
                _wait(lambda: server.app.state.in_flight == 2)
                raw.send(frame(RESET, 0, stream, number(8)))
                _wait(lambda: server.app.state.in_flight == 1)
            go_on.set()
            assert first.result(60)
            raw.send(call(101, ONE))
            assert raw.until(DATA, 101)
    finally:
        go_on.set()


def test_nothing_is_left_of_a_call_without_the_collector():
    """The lease of a large message, and whatever its caller did to end it."""
    large = prefixed(message(np.zeros(40_000, np.float64)))
    gc.collect()
    gc.disable()
    try:
        with grpc_server({"echo": Echo(), "bad": Function(lambda inputs: {}["no"])}) as server:
            pool = server.app.pool
            with calling(server) as it, calling(server, "bad") as bad:
                for _ in range(3):
                    assert it(message(np.zeros(1_000_000)), timeout=30)
                    with pytest.raises(grpc.RpcError):
                        bad(message(np.zeros(1_000_000)), timeout=30)
                    with pytest.raises(grpc.RpcError):
                        it(bytes(1_000_000), timeout=30)
            for how in (lambda it: it.send(frame(RESET, 0, 1, number(8))), lambda it: abort(it.socket)):
                with peer(server) as raw:
                    raw.send(
                        head(1) + b"".join(frame(DATA, 0, 1, large[at : at + 16_000]) for at in (0, 16_000, 32_000))
                    )
                    _wait(lambda: server.app.admission.held_bytes > 0)
                    how(raw)
                    _wait(lambda: server.app.admission.held_bytes == 0)
            with peer(server) as raw:
                raw.send(head(1, ("grpc-timeout", "50m")) + frame(DATA, 0, 1, large[:16_000]))
                assert raw.until(HEADERS, 1, END_STREAM)
            _wait(lambda: pool.leased_bytes == 0 and server.app.admission.held_bytes == 0)
            _wait(lambda: server.app.state.in_flight == 0)
            _wait(lambda: not server.ask(lambda: len(server.app.hub.connections)))
    finally:
        gc.enable()


def test_who_finds_no_room_waits_and_comes_in_when_there_is_some():
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": np.zeros(1)}

    array = message(np.zeros(6_000_000, np.uint8))
    limits = {"body_bytes_max": 8 << 20, "in_flight_bytes_max": 10 << 20, "admission_wait_s": 30.0}
    try:
        with grpc_server({"echo": Function(slow)}, **limits) as server, calling(server) as it:
            first = it.future(array, timeout=60)
            _wait(lambda: server.app.state.in_flight == 1 and server.app.admission.held_bytes > 6_000_000)
            second = it.future(array, timeout=60)
            _wait(lambda: server.app.state.in_flight == 2)
            time.sleep(0.1)
            assert server.app.admission.held_bytes < 8_000_000
            go_on.set()
            assert first.result(60)
            assert second.result(60)
    finally:
        go_on.set()


def test_who_finds_no_room_for_too_long_is_unavailable():
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": np.zeros(1)}

    array = message(np.zeros(6_000_000, np.uint8))
    limits = {"body_bytes_max": 8 << 20, "in_flight_bytes_max": 10 << 20, "admission_wait_s": 0.1}
    try:
        with grpc_server({"echo": Function(slow)}, **limits) as server, calling(server) as it:
            first = it.future(array, timeout=60)
            _wait(lambda: server.app.admission.held_bytes > 6_000_000)
            with pytest.raises(grpc.RpcError) as raised:
                it(array, timeout=30)
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
            go_on.set()
            assert first.result(60)
    finally:
        go_on.set()


# --- the end ---


def test_a_drain_says_goaway_and_finishes_what_is_under_way():
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": np.zeros(1)}

    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(grpc_server({"echo": Function(slow)}))
            busy, idle = stack.enter_context(peer(server)), stack.enter_context(peer(server))
            idle.until(SETTINGS, 0, ACK)
            busy.send(call(1, ONE))
            _wait(lambda: server.app.state.in_flight == 1)
            server.ask(server.app.state.begin_drain)
            assert busy.until(GOAWAY).code == 0
            assert idle.until(GOAWAY).code == 0
            assert list(idle.frames()) == []
            busy.send(call(3, ONE))  # too late
            go_on.set()
            left: list[Frame] = list(busy.frames())
            assert any(each.kind == DATA and each.stream == 1 for each in left)
            assert not any(each.stream == 3 for each in left)
    finally:
        go_on.set()


def test_callers_go_on_elsewhere_when_a_server_drains():
    """grpcio's client, calling all the while: none of its calls is lost to a server that ends."""
    with grpc_server(drain_grace_s=1.5) as server, calling(server) as it:
        assert it(ONE, timeout=20)
        server.ask(server.app.state.begin_drain)
        time.sleep(0.6)  # it has been told, and is still answered
        assert it(ONE, timeout=20)


def test_a_connection_ends_with_its_age_but_not_in_the_middle_of_a_call():
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": np.zeros(1)}

    try:
        with grpc_server({"echo": Function(slow)}, connection_age_max_s=0.5) as server, peer(server) as it:
            it.send(call(1, ONE))
            assert it.until(GOAWAY).code == 0
            go_on.set()
            left = list(it.frames())
            assert any(each.kind == DATA and each.stream == 1 for each in left)
    finally:
        go_on.set()


def test_an_idle_connection_is_closed_in_time():
    with grpc_server(keepalive_timeout_s=0.5) as server, peer(server) as it:
        it.send(call(1, ONE))
        assert it.until(DATA, 1)
        assert it.until(GOAWAY).code == 0
        assert list(it.frames()) == []


def test_who_does_not_answer_to_the_end_of_tls_keeps_no_server_from_ending(tmp_path: Path):
    pair = tmp_path / "pair.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pair)
    silent = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    silent.check_hostname, silent.verify_mode = False, ssl.CERT_NONE
    silent.set_alpn_protocols(["h2"])
    with (
        grpc_server(tls=Certificates(str(pair)).context, drain_timeout_s=120.0) as server,
        connect(server.url, 20) as plain,
        silent.wrap_socket(plain) as it,
    ):
        it.sendall(PREFACE + frame(SETTINGS) + call(1, ONE))
        assert it.recv(65536)
        server.ask(server.app.state.begin_drain)
        until = time.monotonic() + 15  # a tenth of which would do, and twice of which TLS would wait
        while server.app.hub.connections:
            assert time.monotonic() < until, "it waits for him"
            time.sleep(0.01)


def test_a_server_told_to_end_at_once_does():
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": np.zeros(1)}

    try:
        with grpc_server({"echo": Function(slow)}) as server, peer(server) as it:
            it.send(call(1, ONE))
            _wait(lambda: server.app.state.in_flight == 1)
            server.ask(server.app.state.cut)
            assert not any(each.kind == DATA for each in it.frames())
            go_on.set()
    finally:
        go_on.set()


# --- who calls ---


def test_a_caller_with_a_certificate_has_the_name_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "graphpipe.access")
    authority = trustme.CA()
    pair, root = tmp_path / "pair.pem", tmp_path / "root.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pair)
    authority.cert_pem.write_to_path(root)
    mine = authority.issue_cert("somebody@example.org", common_name="somebody")
    shown = grpc.ssl_channel_credentials(
        root.read_bytes(), mine.private_key_pem.bytes(), b"".join(each.bytes() for each in mine.cert_chain_pems)
    )
    context = Certificates(str(pair), client_ca=str(root)).context
    with grpc_server(tls=context) as server:
        target = server.url.removeprefix("https://").rstrip("/")
        with grpc.secure_channel(target, shown) as channel:
            asked = [("x-request-id", "by-certificate")]
            assert channel.unary_unary("/test.Messages/echo")(ONE, timeout=20, metadata=asked)
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(root.read_bytes())) as channel:
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/test.Messages/echo")(ONE, timeout=5)
    (line,) = [each for each in caplog.text.splitlines() if "by-certificate" in each]
    assert "somebody" in line
