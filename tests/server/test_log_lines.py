"""What the log says when much goes wrong at once, and of whom it says nothing."""

from __future__ import annotations

import json
import logging
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.server.numbers.failures import FAILURES, Failures
from graphpipe.wire import encode_request
from tests.front.servers import Function, InProcess, in_process
from tests.raw_http import Wire, connect
from tests.serving import ROOT, environment

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))

log = logging.getLogger("graphpipe.test")


class Lines(logging.Handler):
    """A log that is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __call__(self, level: int = logging.WARNING) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno >= level]


@pytest.fixture
def lines() -> Iterator[Lines]:
    FAILURES.next_second()  # nothing is left of other tests
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def fails(kind: type[Exception] = ValueError) -> Exception:
    try:
        raise kind("words")
    except Exception as error:
        return error


# --- failures that come again ---


def test_a_failure_is_told_in_full_once_a_second_then_in_a_line_then_counted(lines: Lines):
    failures, asked = Failures(), []
    for second in range(2):
        for i in range(1000):
            failures.tell(log, "model %r failed", "m", error=fails(), cause=lambda i=i: asked.append(i) or "the cause")
        assert failures.next_second() == 995
        assert lines() == [
            "model 'm' failed", *["model 'm' failed: ValueError"] * 4,
            "model 'm' failed: and 995 more like this in the last second",
        ] * (second + 1)  # fmt: skip
        assert [record.exc_text for record in lines.records[-6:]] == ["the cause", *[None] * 5]
    assert asked == [0, 0]  # what is dear is done for what is written
    assert failures.next_second() == 0


def test_a_rare_failure_is_told_in_full_beside_one_that_comes_all_the_time(lines: Lines):
    failures = Failures()
    for _ in range(100):
        failures.tell(log, "model %r failed", "m", error=fails())
    failures.tell(log, "model %r failed", "other", error=fails())
    failures.tell(log, "model %r failed", "m", error=fails(KeyError))
    in_full = [(record.getMessage(), (record.exc_text or "").splitlines()[-1:]) for record in lines.records[-2:]]
    assert in_full == [("model 'other' failed", ["ValueError"]), ("model 'm' failed", ["KeyError"])]


def test_kinds_without_end_are_told_as_one(lines: Lines):
    failures = Failures()
    for i in range(1000):
        failures.tell(log, "model %r failed", f"m{i}", error=fails())
    assert len(lines()) == 32 + 5
    assert failures.next_second() == 1000 - len(lines()) + 1
    assert lines()[-1] == "failures of many kinds: and 963 more like this in the last second"


def test_whichever_threads_tell_every_failure_is_written_or_counted(lines: Lines):
    failures = Failures()

    def work() -> None:
        for _ in range(500):
            failures.tell(log, "it failed", error=fails())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines()) + failures.next_second() == 2000


class Strange(Exception):
    """Nothing of it can be had."""

    __traceback__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

    def __str__(self) -> str:
        raise SystemExit


def test_a_failure_of_which_nothing_can_be_had_is_told_all_the_same(lines: Lines):
    failures = Failures()
    for _ in range(7):
        failures.tell(log, "it failed", error=Strange())
    assert failures.next_second() == 2
    assert lines()[0] == "it failed"
    assert "Strange, of which nothing can be told" in str(lines.records[0].exc_text)


def raises(inputs: Any) -> Any:
    raise RuntimeError("it\x1b[2J broke\n12:00:00 ERROR graphpipe.model: nothing happened")


def test_a_model_that_fails_for_everybody_writes_some_lines_and_counts_the_rest(lines: Lines):
    count = 400
    with in_process({"broken": Function(raises)}) as server:
        with Wire(server.url) as wire:
            for _ in range(count):
                assert wire.call("POST", "/", BODY).status == 500
        server.ask(server.app._next_second)
        left_out = server.ask(lambda: server.app.counters.total("graphpipe_log_lines_left_out"))
        told = [line for line in lines() if "failed on a request" in line]
        counted = [int(n.replace(",", "")) for line in told for n in re.findall("and ([0-9,]+) more like this", line)]
        assert sum(counted) == left_out > 0
        assert len(told) - len(counted) + left_out == count
        assert "\n" not in "".join(told)
    causes = [record.exc_text for record in lines.records if record.exc_text]
    assert 1 <= len(causes) <= len(counted) + 1  # one a second
    # Its words cannot forge a line.
    assert "\nRuntimeError: it\\x1b[#J broke\\n#:#:# ERROR graphpipe.model: nothing happened" in causes[0]


def test_what_was_left_out_in_its_last_second_is_told_when_a_server_ends(lines: Lines):
    with in_process({"broken": Function(raises)}, access_lines_per_s=10) as server, Wire(server.url) as wire:
        for _ in range(300):
            wire.call("POST", "/", BODY)
    accessed = [record for record in lines.records if record.name == "graphpipe.access"]
    more = [int(n) for record in accessed for n in re.findall(r"and (\d+) more requests", record.getMessage())]
    assert more
    assert len(accessed) - len(more) + sum(more) == 300
    failed = [line for line in lines() if "failed on a request" in line]
    counted = [int(n.replace(",", "")) for line in failed for n in re.findall("and ([0-9,]+) more like", line)]
    assert counted
    assert len(failed) - len(counted) + sum(counted) == 300


# --- callers who are gone, or rude ---

RUDE = {
    "no http": [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"],
    "a control character": [b"POST / HTTP/1.1\r\nHost: h\r\n\x01: a\r\n\r\n"],
    "two lengths": [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"],
    "a bad chunk": [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    "a bad chunk later": [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"],
    "a bad target": [b"POST http://[::1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"],
    "half a head": [b"POST / HTTP/1.1\r\nHo"],
    "half a body": [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n", b"ab"],
    "half a body, odd": [b"POST /%61 HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n", b"ab"],
    "half a chunk": [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", b"ab"],
    "a whole request": [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY],
    "a whole request, odd": [b"POST /%%61 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY],
    "no message": [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n" + b"\xff" * 8],
    "a page": [b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with in_process({"m": Function(lambda inputs: {"y": inputs["x"]})}) as server:
        yield server


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_caller_who_is_rude_or_gone_is_no_failure_of_the_server(server: InProcess, lines: Lines, how: str):
    for pieces in RUDE.values():
        with connect(server.url) as caller:
            for piece in pieces:
                caller.sendall(piece)
                server.ask(lambda: None)  # it came in two packets
            if how == "resets":
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with graphpipe.Client(server.url) as client:
        assert client.execute(X).tolist() == X.tolist()
    server.ask(server.app._next_second)
    assert lines() == []


# --- what comes from outside is one line ---

SAY = """
import logging, sys
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.logs import log_to_stderr
log_to_stderr(sys.argv[1], 2, True)
outside = "a\\x1b[31m\\x00b\\r\\n12:00:00 ERROR forged: line\\u2028c\\x9b\\x7f\\udcff\\u202e é"
log = logging.getLogger("graphpipe.test")
log.warning("said %s", outside)
log.warning("quoted %r", outside)
try:
    raise ValueError(outside)
except ValueError as error:
    FAILURES.tell(log, "failed %s", outside, error=error)
    log.exception("logged %s", outside)
"""


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_control_character_from_outside_is_raw_in_the_log_and_no_line_is_forged(form: str):
    done = subprocess.run(
        [sys.executable, "-c", SAY, form], cwd=ROOT, env=environment(), capture_output=True, timeout=60, check=True
    )
    text = done.stderr.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)
    if form == "json":
        said = [json.loads(line) for line in text.splitlines()]
        assert len(said) == 4
        assert "\x1b[31m\x00b\r\n" in said[0]["message"]  # whole, for whoever reads it as data
        assert [line["traceback"].splitlines()[-1] for line in said[2:]] == ["ValueError"] * 2
    else:
        heads = re.findall(r"^\d\d:\d\d:\d\d (\w+) graphpipe\.test: (\w+)", text, re.MULTILINE)
        assert heads == [("WARNING", "said"), ("WARNING", "quoted"), ("ERROR", "failed"), ("ERROR", "logged")]
        assert r"said a\x1b[31m\x00b\r\n12:00:00 ERROR forged: line\u2028c\x9b\x7f\udcff\u202e é" in text
        assert text.count("\nValueError\n") == 2


def test_a_model_that_says_no_on_purpose_is_no_failure(server: InProcess, lines: Lines):
    with graphpipe.Client(server.url) as client, pytest.raises(errors.InvalidRequest):
        client.infer({"no such input": X})
    assert lines() == []
