"""Answers of foreign and hostile servers: understood, or refused in our words and in bounded time."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import GraphPipeError, NotFound, NotReady, ServiceError, TimedOut, service_error
from graphpipe.wire.messages import ErrorInfo, encode_infer_response
from tests.canned import Caller, Canned, X, answer, canned, metadata, outputs
from tests.raw_http import chunked

GOOD = outputs(X)


def says(data: bytes, *, then_close: bool = False):
    """A server that answers every request with these bytes."""

    def talk(caller: Caller) -> None:
        while caller.read_request():
            caller.send(data)
            if then_close:
                return

    return canned(talk)


def ask(server: Canned, **settings: object) -> object:
    with graphpipe.Client(server.url, **settings) as client:
        return client.execute(X)


# --- bodies -----------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_a_chunked_answer_is_read_and_its_connection_kept(size: int) -> None:
    large = outputs(np.arange(3000, dtype=np.float32))
    with says(CHUNKED + chunked(large, size)) as server, graphpipe.Client(server.url) as client:
        for _ in range(3):
            assert client.execute(X)[2999] == 2999
        assert server.connections == 1


def test_chunk_extensions_and_trailers_are_read_over() -> None:
    body = b"%x;ext=1\r\n%b\r\n0\r\nDigest: abc\r\nMore: x\r\n\r\n" % (len(GOOD), GOOD)
    with says(CHUNKED + body) as server, graphpipe.Client(server.url) as client:
        for _ in range(3):
            assert np.array_equal(client.execute(X), X)
        assert server.connections == 1


def test_an_answer_that_ends_with_its_connection_is_read() -> None:
    for body in (GOOD, outputs(np.zeros(1_000_000, np.float32))):
        with says(UNTIL_CLOSE + body, then_close=True) as server:
            assert isinstance(ask(server), np.ndarray)


def test_a_large_chunked_answer_is_read_whole() -> None:
    """As the original Go server streams them."""
    large = np.arange(5_000_000, dtype=np.float32)
    with says(CHUNKED + chunked(outputs(large), 32 * 1024)) as server:
        assert np.array_equal(ask(server), large)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_byte_by_byte_is_read(version: str) -> None:
    def drip(caller: Caller) -> None:
        while caller.read_request():
            for byte in answer(GOOD, "200 OK", "Connection: keep-alive", version=version):
                caller.send(bytes([byte]))

    with canned(drip) as server, graphpipe.Client(server.url) as client:
        for _ in range(3):
            assert np.array_equal(client.execute(X), X)
        assert server.connections == 1


@pytest.mark.parametrize("times", [1, 3])
def test_100_continue_that_nobody_asked_for_is_read_over(times: int) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with says(interim * times + answer(GOOD)) as server:
        assert np.array_equal(ask(server), X)


def test_100_continue_in_the_middle_of_a_large_request_does_not_end_it() -> None:
    def talk(caller: Caller) -> None:
        caller.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)
        caller.serve()

    large = np.zeros(5_000_000, np.float32)
    with canned(talk) as server, graphpipe.Client(server.url, timeout=30) as client:
        assert client.execute(large).shape == large.shape
        assert server.requests == 1


def test_arrays_that_come_back_may_be_written_to() -> None:
    for array in (X, np.zeros(1_000_000, np.float32), np.array([[b"text"]], object), np.zeros((0, 3), np.float32)):
        for data in (answer(outputs(array)), CHUNKED + chunked(outputs(array), 1 << 16)):
            with says(data) as server:
                got = ask(server)
                assert isinstance(got, np.ndarray)
                got[...] = got
                assert got.flags.writeable


def test_a_compressed_answer_is_refused() -> None:
    with (
        says(answer(GOOD, "200 OK", "Content-Encoding: gzip")) as server,
        pytest.raises(graphpipe.NoAnswer, match="compressed"),
    ):
        ask(server)
    with says(answer(GOOD, "200 OK", "Content-Encoding: identity")) as server:
        assert np.array_equal(ask(server), X)


@pytest.mark.parametrize("frame", [answer, lambda body: CHUNKED + chunked(body, 1000), lambda body: UNTIL_CLOSE + body])
def test_an_answer_over_the_size_limit_is_not_taken(frame) -> None:
    with says(frame(GOOD), then_close=True) as server:
        assert np.array_equal(ask(server, answer_bytes_max=len(GOOD)), X)
        with pytest.raises(graphpipe.NoAnswer, match=f"at most {len(GOOD) - 1}|more than {len(GOOD) - 1}"):
            ask(server, answer_bytes_max=len(GOOD) - 1)


@pytest.mark.parametrize("size", [b"80000000", b"%x" % (1 << 24), b"fffffffffffffff"])
def test_a_chunk_that_is_announced_beyond_the_limit_is_refused_before_it_comes(size: bytes) -> None:
    with says(CHUNKED + b"1\r\nx\r\n" + size + b"\r\n") as server:  # and nothing more
        with pytest.raises(graphpipe.NoAnswer, match="more than 16,777,216 bytes") as caught:
            ask(server, answer_bytes_max=1 << 24, timeout=30)
        assert not isinstance(caught.value, graphpipe.TimedOut)


def test_a_length_beyond_all_memory_is_refused_before_memory_is_taken() -> None:
    for length in (2**31, 10**17, 10**30):
        with (
            says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length) as server,
            pytest.raises(graphpipe.NoAnswer),
        ):
            ask(server)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", range(1, 13))
def test_an_error_in_a_message_is_raised_as_what_it_is(code: int) -> None:
    body = b"".join(encode_infer_response([], [ErrorInfo(code, "words of the server")]))
    expected = service_error(code, 418, "")
    with (
        says(answer(body, "418 I am a teapot", "Content-Type: application/vnd.graphpipe")) as server,
        pytest.raises(type(expected), match="words of the server") as failure,
    ):
        ask(server)
    assert (failure.value.code, failure.value.http_status) == (code, 418)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 0), (401, 8), (403, 9), (404, 3), (405, 11), (413, 5), (429, 6), (501, 11), (503, 6), (504, 7), (500, 4)],
)
def test_a_foreign_servers_text_is_judged_by_its_status(status: int, code: int) -> None:
    with (
        says(answer(b"some words\n", f"{status} Whatever", "Content-Type: text/plain")) as server,
        pytest.raises(ServiceError, match=r"^some words$") as failure,
    ):
        ask(server)
    assert (failure.value.code, failure.value.http_status) == (code, status)


def test_an_error_without_words_gets_ours() -> None:
    with (
        says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as server,
        pytest.raises(ServiceError, match=f"{server.url} answered with status 502 and no words"),
    ):
        ask(server)
    with says(answer(b"\xff\xfe<html>" * 1000, "500 Oops")) as server, pytest.raises(ServiceError) as failure:
        ask(server)
    assert len(str(failure.value)) <= 2000
    with (
        says(answer(b"\1\2\3", "500 Oops", "Content-Type: application/vnd.graphpipe")) as server,
        pytest.raises(ServiceError),
    ):
        ask(server)


def test_errors_beside_status_200_are_errors_too() -> None:
    """As the original Python server sends them."""
    with (
        says(answer(b"".join(encode_infer_response([], [ErrorInfo(0, "no such thing")])))) as server,
        pytest.raises(ServiceError, match="no such thing"),
    ):
        ask(server)


def test_not_ready_is_told_from_overloaded_by_its_code() -> None:
    body = b"".join(encode_infer_response([], [ErrorInfo(10, "starting")]))
    with (
        says(answer(body, "503 Service Unavailable", "Content-Type: application/vnd.graphpipe")) as server,
        pytest.raises(NotReady, match="starting"),
    ):
        ask(server)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_named_not_followed(status: int) -> None:
    with (
        says(answer(b"", f"{status} Moved", "Location: http://elsewhere:9000/")) as server,
        pytest.raises(ServiceError, match="moved to http://elsewhere:9000/, which is not followed"),
    ):
        ask(server)


@pytest.mark.parametrize("body", [b"", b"\0" * 8, b"<html>hello</html>" * 10, GOOD[:-1], GOOD[:40]])
def test_status_200_with_what_is_no_message_is_no_answer(body: bytes) -> None:
    with says(answer(body)) as server:
        with pytest.raises(graphpipe.NoAnswer, match="no GraphPipe message"):
            ask(server)
        if body[:40] != GOOD[:40]:  # an answer's beginning may be read as metadata that says little
            with pytest.raises(graphpipe.NoAnswer, match="no GraphPipe metadata"):
                graphpipe.Client(server.url).metadata()


@pytest.mark.parametrize(
    ("kind", "body"), [("text/html", b"<html>It works"), ("application/json", b'{"status": "up"}')]
)
def test_a_page_of_whoever_else_listens_there_is_told_as_what_it_is(kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    with says(head.encode() + body) as server, graphpipe.Client(server.url) as client:
        for call in (lambda: client.execute(X), client.metadata):
            with pytest.raises(graphpipe.NoAnswer, match=f"answered with {kind}, which is no GraphPipe m"):
                call()


def test_what_speaks_another_protocol_is_told_as_that() -> None:
    with (
        says(b"SSH-2.0-OpenSSH_9.2\r\n", then_close=True) as server,
        pytest.raises(graphpipe.NoAnswer, match="answered with what is not HTTP: b'SSH-2.0"),
    ):
        ask(server)


def test_fewer_or_more_outputs_than_asked_for_is_no_answer() -> None:
    with says(answer(outputs(X, X))) as server, graphpipe.Client(server.url) as client:
        assert len(client.execute_multi([X])) == 2
        with pytest.raises(graphpipe.NoAnswer, match="asked for 1 output and answered with 2"):
            client.execute_multi([X], None, ["y"])
        with pytest.raises(graphpipe.NoAnswer, match="asked for 3 outputs"):
            client.infer({"x": X}, ["a", "b", "c"])


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
        b"220 smtp ready\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-5\r\nhello",
        CHUNKED + b"5\r\nhelloo\r\n0\r\n\r\n",
        CHUNKED + b"5 5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + chunked(GOOD) + b"extra",
        answer(GOOD) + b"extra",
        answer(GOOD) + answer(GOOD),
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
        CHUNKED + b"1" * 100_000,
    ],
    ids=lambda data: repr(data[:60]),
)  # fmt: skip
def test_what_is_not_an_answer_is_refused_at_once(data: bytes) -> None:
    with says(data) as server, graphpipe.Client(server.url, timeout=20) as client:
        with pytest.raises(graphpipe.NoAnswer) as failure:
            client.execute(X)
        assert not isinstance(failure.value, TimedOut)


def test_an_answer_cut_off_anywhere_is_no_answer() -> None:
    whole = answer(GOOD)
    cuts = iter(range(len(whole)))

    def talk(caller: Caller) -> None:
        caller.read_request()
        caller.send(whole[: next(cuts)])

    with canned(talk) as server, graphpipe.Client(server.url) as client:
        for _ in range(len(whole)):
            with pytest.raises(graphpipe.NoAnswer):
                client.execute(X)
        assert server.requests == len(whole)


def test_whatever_bytes_come_only_our_errors_leave_the_client() -> None:
    """Seeded mutations of heads and bodies, in all three framings, of answers, errors and metadata."""
    rng = random.Random(2018)
    error = b"".join(encode_infer_response([], [ErrorInfo(4, "failed")]))
    text = np.array([[b"some", b"text"]], object)
    seeds = [
        answer(GOOD),
        answer(outputs(X, text)),
        CHUNKED + chunked(GOOD, 50),
        UNTIL_CLOSE + outputs(text),
        answer(error, "500 Internal Server Error", "Content-Type: application/vnd.graphpipe"),
        answer(metadata(["x"], ["y"]), "200 OK", "Connection: keep-alive"),
    ]
    current = [b""]

    def talk(caller: Caller) -> None:
        while caller.read_request():
            caller.send(current[0])
            caller.socket.shutdown(socket.SHUT_WR)

    began, answered, late = time.monotonic(), 0, []
    with canned(talk) as server, graphpipe.Client(server.url, timeout=5) as client:
        for i in range(1500):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.choice((1, 1, 2, 8))):
                at = rng.randrange(len(data))
                change = rng.randrange(5)
                if change == 0:
                    data[at] = rng.randrange(256)
                elif change == 1:
                    data[at] ^= 1 << rng.randrange(8)
                elif change == 2:
                    del data[at : at + rng.randrange(1, 9)]
                elif change == 3:
                    data[at:at] = rng.choice(
                        (b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\r\n", b"\r\n\r\n", b"1", b":", b"9" * 20)
                    )
                else:
                    data[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"))
                data = data or bytearray(b"x")
            current[0] = bytes(data)
            try:
                client.metadata() if i % 4 == 0 else client.execute(X)
                answered += 1
            except GraphPipeError as failure:
                late += [data] if isinstance(failure, TimedOut) else []
        assert not late  # whatever it said, it closed afterwards
        assert answered > 50
    assert time.monotonic() - began < 60


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    def mute(caller: Caller) -> None:
        caller.read_request()
        caller.socket.recv(1)

    with canned(mute) as server:
        began = time.monotonic()
        with pytest.raises(TimedOut, match="gave no answer in time") as failure:
            ask(server, timeout=0.3)
        assert isinstance(failure.value, TimeoutError)
        assert time.monotonic() - began >= 0.29
        with graphpipe.Client(server.url) as client, pytest.raises(TimedOut):
            client.execute(X, timeout=0.1)


@pytest.mark.parametrize(
    "whole", [answer(GOOD), CHUNKED + chunked(GOOD), UNTIL_CLOSE + GOOD], ids=["sized", "chunked", "close"]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_server_that_stalls_in_the_middle_is_given_up_in_time(whole: bytes, share: float) -> None:
    def stalls(caller: Caller) -> None:
        caller.read_request()
        caller.send(whole[: int(len(whole) * share)])
        caller.socket.recv(1)

    with canned(stalls) as server, pytest.raises(TimedOut, match="in time"):
        ask(server, timeout=0.2)


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"X-More: header\r\n",
        b"1\r\nx\r\n",
        b"Trailer: x\r\n",
        b"x",
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("pause_s", [0, 0.01])
def test_a_server_that_talks_for_ever_is_given_up_in_time(endless: bytes, pause_s: float) -> None:
    """The time is that of the whole call, however much comes in."""
    start = {
        b"X-M": b"HTTP/1.1 200 OK\r\n", b"1\r\n": CHUNKED, b"Tra": CHUNKED + b"0\r\n", b"x": UNTIL_CLOSE
    }.get(endless[:3], b"")  # fmt: skip
    over = threading.Event()

    def talk(caller: Caller) -> None:
        caller.read_request()
        caller.send(start)
        while not over.is_set():
            caller.send(endless if pause_s else endless * 100)
            time.sleep(pause_s)

    with canned(talk) as server:
        began = time.monotonic()
        with pytest.raises(graphpipe.NoAnswer):  # too late, too long: either is true
            ask(server, timeout=0.5, answer_bytes_max=1 << 24)
        assert time.monotonic() - began < 20
        over.set()


def test_a_server_that_reads_nothing_is_given_up_in_time() -> None:
    over = threading.Event()
    with canned(lambda caller: over.wait(30) and None) as server, graphpipe.Client(server.url, timeout=0.3) as client:
        with pytest.raises(TimedOut):
            client.execute(np.zeros(10_000_000, np.float32))
        over.set()


def test_the_time_of_a_call_is_told_to_the_server() -> None:
    heads: list[bytes] = []

    def talk(caller: Caller) -> None:
        while caller.read_request():
            heads.append(caller.head)
            caller.send(answer(GOOD))

    with canned(talk) as server, graphpipe.Client(server.url) as client:
        client.execute(X)
        client.execute(X, timeout=2)
        client.execute(X, timeout=float("inf"))
    told = [int(head.partition(b"GraphPipe-Timeout-Ms: ")[2].partition(b"\r\n")[0]) for head in heads]
    assert 59_000 < told[0] <= 60_000
    assert 1_900 < told[1] <= 2_000
    assert told[2] > 60_000


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout is a positive number of seconds"):
        graphpipe.Client("http://127.0.0.1:1", timeout)
    with pytest.raises(ValueError, match="timeout is a positive number of seconds"):
        graphpipe.Client("http://127.0.0.1:1").execute(X, timeout=timeout)


# --- what a captured answer of the original looks like ----------------------------------------------------------------

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


@pytest.mark.skipif(not GOLDEN.exists(), reason="the captured samples are not here")
def test_every_captured_answer_of_the_original_programs_is_understood() -> None:
    for path in sorted(GOLDEN.glob("*.resp.bin")):
        about = json.loads(path.with_suffix(".json").read_text())
        if about["kind"] not in ("infer_response", "metadata_response"):
            continue
        with says(answer(path.read_bytes())) as server, graphpipe.Client(server.url) as client:
            if about["kind"] == "metadata_response":
                client.metadata()
            else:
                try:
                    client.execute_multi([X])
                except NotFound:
                    raise
                except ServiceError as error:
                    assert error.http_status == 200, path
