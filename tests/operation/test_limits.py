"""Every limit is in --help, in the documents, and in the answer or line of whoever runs into it."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.server.settings.flags import FLAGS
from graphpipe.wire import encode_request
from tests.operation.conftest import Serve, until
from tests.raw_http import Wire, call, connect, request
from tests.serving import ROOT, Server, run_to_end

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))
LARGE = b"".join(encode_request([np.zeros(500_000, np.float32)]))


callers_to_close = contextlib.ExitStack()


@pytest.fixture(autouse=True)
def _close_callers() -> Iterator[None]:
    with callers_to_close:
        yield


def waiting(server: Server, folder: Path, count: int, body: bytes = b"") -> list[Wire]:
    """Callers whose requests run, or wait for one that runs, until there is a file ``go``."""
    callers = []
    for _ in range(count):
        wire = callers_to_close.enter_context(Wire(server.url))
        wire.send(request("POST", "/", body or b"".join(encode_request([X], config="wait go"))))
        callers.append(wire)
        until((folder / "go.begun").exists)
    return callers


def over_the_body_limit(start: Serve, folder: Path) -> str:
    server = start("double", "--body-bytes-max", "1000")
    for path in ("/", "/%61"):
        answer = call(server.url, "POST", path, LARGE)
        assert answer.status == 413
    return answer.text


def over_the_strings(start: Serve, folder: Path) -> str:
    server = start("double", "--strings-max", "3")
    texts = np.array([b"a", b"b"], object)
    for path in ("/", "/%61"):
        # Numbers are not counted, and nor is what one tensor has alone.
        assert call(server.url, "POST", path, b"".join(encode_request([X, texts]))).status == 400
        answer = call(server.url, "POST", path, b"".join(encode_request([texts, texts])))
        assert answer.status == 413
    return answer.text


def over_the_bytes_in_flight(start: Serve, folder: Path) -> str:
    server = start(
        "double", "--body-bytes-max", "2100KB", "--in-flight-bytes-max", "2700KB", "--admission-wait-s", "0.1"
    )
    first = waiting(server, folder, 1, b"".join(encode_request([np.zeros(500_000, np.float32)], config="wait go")))
    for path in ("/", "/%61"):
        answer = call(server.url, "POST", path, LARGE)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    (folder / "go").touch()
    assert first[0].answer().status == 200
    return answer.text


def over_the_queue_of_requests(start: Serve, folder: Path) -> str:
    server = start("double", "--threads", "1", "--queue-requests-max", "2")
    callers = waiting(server, folder, 3)
    for path, body in (("/", BODY), ("/%61", BODY), ("/", LARGE)):
        until(lambda path=path, body=body: call(server.url, "POST", path, body).status == 503)  # type: ignore[misc]
        answer = call(server.url, "POST", path, body)
        assert answer.headers["retry-after"] == "1"
    with graphpipe.Client(server.url) as client, pytest.raises(errors.Overloaded):
        client.execute(X)
    assert graphpipe.remote.get_input_names(server.url) == ["x"]  # whoever only asks what it is is answered
    (folder / "go").touch()
    assert [caller.answer().status for caller in callers] == [200] * 3
    assert call(server.url, "POST", "/", BODY).status == 200
    return answer.text


def over_the_queue_of_rows(start: Serve, folder: Path) -> str:
    server = start("double", "--threads", "1", "--batch-rows-max", "4", "--queue-rows-max", "6")
    callers = waiting(server, folder, 3)
    until(lambda: call(server.url, "POST", "/", BODY).status == 503)
    answer = call(server.url, "POST", "/", BODY)
    (folder / "go").touch()
    assert [caller.answer().status for caller in callers] == [200] * 3
    return answer.text


def one_connection_too_many(start: Serve, folder: Path) -> str:
    server = start("double", "--connections-max", "2")
    first = [callers_to_close.enter_context(Wire(server.url)) for _ in range(2)]
    assert [wire.call("GET", "/livez").status for wire in first] == [200] * 2
    with Wire(server.url) as wire:
        answer = wire.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    return answer.text


def a_head_that_does_not_come(start: Serve, folder: Path) -> str:
    with Wire(start("double", "--head-timeout-s", "0.5").url) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: h\r\n")
        answer = wire.answer()
    assert answer.status == 408
    return answer.text


def a_body_that_does_not_come(start: Serve, folder: Path) -> str:
    server = start("double", "--body-timeout-s", "0.5")
    for path in ("/", "/%61"):
        with Wire(server.url) as wire:
            wire.send(request("POST", path, content_length="1000000"))
            answer = wire.answer()
        assert answer.status == 408, path
        assert "--body-timeout-s" in answer.text
    return answer.text


def an_answer_that_is_not_read(start: Serve, folder: Path) -> str:
    server = start("double", "--send-timeout-s", "0.5", "-v")
    with connect(server.url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request("POST", "/", b"".join(encode_request([np.zeros(4_000_000, np.float32)]))))
        until(lambda: "did not read" in server.log)
    return server.log


def workers_that_do_not_come_up(start: Serve, folder: Path) -> str:
    arguments = ("-m", "tests.operation.models:slow_to_start", "-l", "127.0.0.1:0", "--workers", "2")
    done = run_to_end(*arguments, "--start-timeout-s", "2", env={"TEST_FOLDER": str(folder)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def memory_that_can_never_be_enough(start: Serve, folder: Path) -> str:
    server = start("double", "--memory-limit-bytes", "1MB")
    until(lambda: "memory" in server.log)
    with graphpipe.Client(server.url) as client:
        assert client.execute(X).tolist() == [0, 2, 4]
    return server.log


def a_drain_that_takes_too_long(start: Serve, folder: Path) -> str:
    server = start("double", "--drain-timeout-s", "0.5")
    (caller,) = waiting(server, folder, 1)
    assert server.stop() == 0
    assert caller.ended()
    return server.log


def a_body_that_becomes_too_many_times_as_large(start: Serve, folder: Path) -> str:
    server = start("double")
    answer = call(server.url, "POST", "/", gzip.compress(bytes(64 << 20), 1), content_encoding="gzip")
    assert answer.status == 413
    return answer.text


def over_the_requests_of_a_caller(start: Serve, folder: Path) -> str:
    server = start("double", "--caller-requests-max", "2", "--threads", "4")
    callers = waiting(server, folder, 2)
    for path in ("/", "/%61"):
        until(lambda path=path: call(server.url, "POST", path, BODY).status == 429)  # type: ignore[misc]
        answer = call(server.url, "POST", path, BODY)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    (folder / "go").touch()
    assert [caller.answer().status for caller in callers] == [200] * 2
    assert call(server.url, "POST", "/", BODY).status == 200
    return answer.text


def over_the_bytes_of_a_caller(start: Serve, folder: Path) -> str:
    server = start("double", "--caller-bytes-max", "3MB")
    callers = waiting(server, folder, 1, b"".join(encode_request([np.zeros(500_000, np.float32)], config="wait go")))
    for path in ("/", "/%61"):
        answer = call(server.url, "POST", path, LARGE)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    (folder / "go").touch()
    assert callers[0].answer().status == 200
    return answer.text


def over_the_rate(*flags: str) -> Callable[[Serve, Path], str]:
    def run_into(start: Serve, folder: Path) -> str:
        server = start("double", *flags)
        assert call(server.url, "POST", "/", BODY).status == 200
        for path in ("/", "/%61"):
            answer = call(server.url, "POST", path, BODY)
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) > 10
        return answer.text

    return run_into


def a_process_that_does_not_answer(start: Serve, folder: Path) -> str:
    server = start("double", "--isolate", "1", "--isolate-timeout-s", "0.5")
    hanging = b"".join(encode_request([X], config="wait go"))
    for path in ("/", "/%61"):
        # While the process is started anew, whoever asks waits for it no longer than that either.
        while (answer := call(server.url, "POST", path, hanging)).status == 503:
            pass
        assert answer.status == 504
    (folder / "go").touch()
    until(lambda: call(server.url, "POST", "/", BODY).status == 200)
    return answer.text


RUN_INTO: dict[str, Callable[[Serve, Path], str]] = {
    "connections-max": one_connection_too_many,
    "body-bytes-max": over_the_body_limit,
    "inflate-ratio-max": a_body_that_becomes_too_many_times_as_large,
    "strings-max": over_the_strings,
    "caller-requests-max": over_the_requests_of_a_caller,
    "caller-bytes-max": over_the_bytes_of_a_caller,
    "caller-requests-per-s": over_the_rate("--caller-requests-per-s", "0.001"),
    "caller-bytes-per-s": over_the_rate("--caller-bytes-per-s", "1"),
    "in-flight-bytes-max": over_the_bytes_in_flight,
    "queue-requests-max": over_the_queue_of_requests,
    "queue-rows-max": over_the_queue_of_rows,
    "head-timeout-s": a_head_that_does_not_come,
    "body-timeout-s": a_body_that_does_not_come,
    "send-timeout-s": an_answer_that_is_not_read,
    "start-timeout-s": workers_that_do_not_come_up,
    "memory-limit-bytes": memory_that_can_never_be_enough,
    "drain-timeout-s": a_drain_that_takes_too_long,
    "isolate-timeout-s": a_process_that_does_not_answer,
}
# They end a connection on which nothing is under way, or say how long another limit waits: nobody gets an error.
SILENT = {"keepalive-timeout-s", "connection-age-max-s", "admission-wait-s"}
# The size of a batch is none that callers run into; the others are met, and tested, where models are loaded.
NOT_OF_REQUESTS = {"batch-rows-max", "download-bytes-max", "download-timeout-s"}
LIMITS = {flag.name for flag in FLAGS if flag.section == "Limits"} | {
    flag.name for flag in FLAGS if re.search(r"-max\b|limit|timeout", flag.name) and flag.section not in ("Row cache",)
}


def test_no_limit_is_forgotten_here() -> None:
    assert set(RUN_INTO) | SILENT | NOT_OF_REQUESTS == LIMITS


@pytest.mark.parametrize("name", RUN_INTO)
def test_whoever_runs_into_a_limit_is_told_its_name(start: Serve, folder: Path, name: str) -> None:
    told = RUN_INTO[name](start, folder)
    assert f"--{name}" in told, told


def test_every_limit_is_in_the_help_and_in_the_documents() -> None:
    shown = run_to_end("--help").stdout
    page = (ROOT / "docs/serving.md").read_text()
    for name in LIMITS:
        assert f"--{name} " in shown
        assert f"`--{name} " in page


@pytest.mark.parametrize("workers", [1, 2])
def test_a_caller_gets_what_he_may_have_from_each_worker_and_no_more(start: Serve, folder: Path, workers: int) -> None:
    server = start("double", "--workers", str(workers), "--caller-requests-per-s", "0.001")
    found = [call(server.url, "POST", "/", BODY).status for _ in range(40)]
    assert set(found) == {200, 429}
    assert 1 <= found.count(200) <= workers


def test_per_model_limits_are_per_model(start: Serve, folder: Path) -> None:
    server = start("double refuses_zeros", "--threads", "1", "--queue-requests-max", "double=1")
    callers = waiting(server, folder, 2)
    until(lambda: call(server.url, "POST", "/", BODY).status == 503)
    assert call(server.url, "POST", "/models/refuses_zeros", BODY).status == 200
    (folder / "go").touch()
    assert [caller.answer().status for caller in callers] == [200] * 2


def test_callers_who_left_do_not_keep_others_out(start: Serve, folder: Path) -> None:
    server = start("double", "--threads", "1", "--queue-requests-max", "3")
    callers = waiting(server, folder, 4)
    until(lambda: call(server.url, "POST", "/", BODY).status == 503)
    for caller in callers[1:]:
        caller.__exit__()
    with Wire(server.url) as wire:
        # Their places are free, although the model still runs the first.
        deadline = time.monotonic() + 10
        while True:
            wire.send(request("POST", "/", BODY))
            wire.socket.settimeout(0.5)
            try:
                assert wire.answer().status == 503
                assert time.monotonic() < deadline
            except TimeoutError:
                break
    (folder / "go").touch()
    assert callers[0].answer().status == 200


def test_small_callers_are_served_while_large_ones_wait_for_room(start: Serve, folder: Path) -> None:
    """Room is for large bodies; a small one needs none."""
    limits = ("--body-bytes-max", "8MB", "--in-flight-bytes-max", "10MB", "--admission-wait-s", "20")
    server = start("double", *limits, "--threads", "4")
    body = b"".join(encode_request([np.zeros(1_900_000, np.float32)], config="wait go"))
    holder = waiting(server, folder, 1, body)[0]
    statuses: list[int] = []
    large = [
        threading.Thread(target=lambda: statuses.append(call(server.url, "POST", "/", body).status)) for _ in range(3)
    ]
    for thread in large:
        thread.start()
    with Wire(server.url) as wire:
        for _ in range(200):
            assert wire.call("POST", "/", BODY).status == 200
    assert statuses == []
    (folder / "go").touch()
    assert holder.answer().status == 200
    for thread in large:
        thread.join()
    assert statuses == [200] * 3
