"""What the log says of a request, in both forms, and what it never says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.wire import encode_request
from tests.operation.conftest import Serve, samples, until
from tests.raw_http import Wire, call, chunked, connect, request
from tests.serving import ROOT, Server, environment, run_to_end

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))
SECRET = "Xylophone-4711-Quartz"
TEXT = np.array([SECRET, "other-words-here"], object)


def logged(server: Server) -> list[dict[str, Any]]:
    """The whole lines of such a log so far."""
    return [json.loads(line) for line in server.log.splitlines(keepends=True) if line.endswith("\n")]


def access_lines(server: Server) -> list[dict[str, Any]]:
    """The access lines of a server with --log-format json."""
    lines = logged(server)
    return [line for line in lines if line["logger"] == "graphpipe.access" and "status" in line]


def test_every_request_has_a_line_as_json_with_all_that_is_promised(start: Serve) -> None:
    server = start("double", "--log-format", "json")
    with Wire(server.url) as wire:
        assert wire.call("POST", "/", BODY, x_request_id="abc-1").status == 200
        assert wire.call("POST", "/", b"garbage", x_request_id="abc-2").status == 400
        port = wire.socket.getsockname()[1]
    until(lambda: len(access_lines(server)) == 2)
    good, bad = access_lines(server)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", good.pop("time"))
    assert 0 < good.pop("ms") < 10_000
    assert good.pop("bytes_out") > 3 * 4
    assert good == {
        "level": "INFO", "logger": "graphpipe.access", "status": 200, "method": "POST", "path": "/", "model": "double",
        "rows": 3,
        "bytes_in": len(BODY), "peer": f"127.0.0.1:{port}", "request_id": "abc-1", "caller": "",
    }  # fmt: skip
    assert (bad["status"], bad["rows"], bad["bytes_in"], bad["request_id"]) == (400, 0, 7, "abc-2")


def test_a_request_that_cannot_be_read_has_a_line_with_what_it_asked_and_how_much_it_got(start: Serve) -> None:
    server = start("double", "--log-format", "json")
    lengths = []
    for fields in (b"Bad\x01Name: a", b"Long: " + b"x" * 20_000):
        with Wire(server.url) as wire:
            wire.send(b"POST /models/double?q HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n\r\n")
            answer = wire.answer()
            lengths.append((answer.status, "POST", "/models/double", len(answer.body)))
    with Wire(server.url) as wire:  # on a connection of aiohttp's
        wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert wire.answer().status == 200
        wire.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\nLong: " + b"x" * 20_000 + b"\r\n\r\n")
        answer = wire.answer()
        lengths.append((answer.status, "GET", "/metrics", len(answer.body)))
    assert [status for status, *_ in lengths] == [400, 431, 431]
    until(lambda: len(access_lines(server)) == 3)
    said = [(line["status"], line["method"], line["path"], line["bytes_out"]) for line in access_lines(server)]
    assert said == lengths
    assert all(length > 0 for *_, length in lengths)


OTHERS_RECORDS = """if True:
    import logging, warnings
    from graphpipe.server.numbers.logs import log_to_stderr, written
    log_to_stderr("json", 0, True)
    logging.warning("one", extra={"fields": ["a"]})
    logging.warning("two", extra={"access": 5})
    logging.warning("three", extra={"fields": {"a": object()}})
    logging.warning("four %d", "x")
    warnings.warn("five\\nsix")
    written()
"""


def test_whatever_another_library_logs_is_a_record_and_so_is_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHERS_RECORDS], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"] for line in lines[:3]] == ["one", "two", "three"]
    assert "a line of root could not be written: TypeError" in lines[3]["message"]
    assert lines[4]["logger"] == "py.warnings"
    assert "UserWarning: five six" in lines[4]["message"]
    assert len(lines) == 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_cannot_start_says_why_in_the_form_of_its_log(workers: str) -> None:
    arguments = ("-m", "none.onnx", "--listen", "127.0.0.1:0", "--workers", workers)
    done = run_to_end(*arguments, "--log-format", "json")
    assert done.returncode == 1
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["level"], "none.onnx: no such file" in line["message"]) == ("ERROR", True)
    done = run_to_end(*arguments)
    assert re.fullmatch(r"graphpipe-serve: .*none\.onnx: no such file.*\n", done.stderr), done.stderr


def test_the_same_for_people(start: Serve) -> None:
    server = start("double")
    assert call(server.url, "POST", "/", BODY, x_request_id="abc").status == 200
    line = rf"\d\d:\d\d:\d\d INFO graphpipe\.access: 200 POST / double rows=3 in={len(BODY)} out=\d+"
    line += r" [\d.]+ ms 127\.0\.0\.1:\d+ id=abc"
    until(lambda: re.search(f"^{line}$", server.log, re.MULTILINE))


@pytest.mark.parametrize("how", ["by aiohttp", "chunked"])
def test_a_request_that_is_not_the_usual_one_has_its_line_too(start: Serve, how: str) -> None:
    server = start("double", "--log-format", "json")
    if how == "chunked":
        with Wire(server.url) as wire:
            wire.send(request("POST", "/", chunked(BODY), transfer_encoding="chunked", x_request_id="abc"))
            assert wire.answer().status == 200
    else:
        assert call(server.url, "POST", "/%61", BODY, x_request_id="abc").status == 200
    until(lambda: access_lines(server))
    (line,) = access_lines(server)
    assert (line["status"], line["model"], line["rows"], line["request_id"]) == (200, "double", 3, "abc")
    assert line["bytes_in"] == len(BODY)


def test_a_head_or_body_that_does_not_come_has_its_line(start: Serve) -> None:
    server = start("double", "--log-format", "json", "--head-timeout-s", "0.5", "--body-timeout-s", "0.5")
    with Wire(server.url) as wire:
        wire.send(b"POST / HTTP/1.1\r\n")
        assert wire.answer().status == 408
    with Wire(server.url) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc\r\nContent-Length: 1000000\r\n\r\n")
        answer = wire.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (408, "abc")
    until(lambda: len(access_lines(server)) == 2)
    head, body = access_lines(server)
    assert (head["status"], head["model"], head["request_id"]) == (408, "", "")
    assert (body["status"], body["model"], body["request_id"]) == (408, "double", "abc")


def test_under_load_some_requests_have_lines_and_the_rest_is_counted(start: Serve) -> None:
    server = start("double", "--access-lines-per-s", "5", "--threads", "1")
    count = 300
    with Wire(server.url) as wire:
        for _ in range(count):
            assert wire.call("POST", "/", BODY).status == 200

    def told() -> int:
        lines = len(re.findall(r"graphpipe.access: 200", server.log))
        return lines + sum(map(int, re.findall(r"and (\d+) more requests? in this second", server.log)))

    until(lambda: told() == count)
    assert len(re.findall(r"graphpipe.access: 200", server.log)) < count


@pytest.mark.parametrize("path", ["/", "/%61"])
@pytest.mark.parametrize("body", [BODY, b"garbage"])
def test_a_request_id_comes_back_with_good_and_bad_answers(start: Serve, path: str, body: bytes) -> None:
    server = start("double")
    with Wire(server.url) as wire:
        answer = wire.call("POST", path, body, x_request_id="0af7651916cd43dd-b7ad6b71")
        assert answer.headers["x-request-id"] == "0af7651916cd43dd-b7ad6b71"
        # It is nobody else's.
        assert "x-request-id" not in wire.call("POST", path, body).headers


@pytest.mark.parametrize("path", [b"/", b"/%61"])
def test_a_request_id_of_any_bytes_harms_nobody(start: Serve, path: bytes) -> None:
    server = start("double", "--log-format", "json")
    with Wire(server.url) as wire:
        lines = b'Host: h\r\nX-Request-Id: \xff\xfe{"\\' + b"x" * 500 + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        wire.send(b"POST " + path + b" HTTP/1.1\r\n" + lines + BODY)
        answer = wire.answer()
        assert answer.status == 200
        assert len(answer.headers["x-request-id"]) <= 128
    until(lambda: access_lines(server))


# --- what it never says ---


def nothing_of(secret: str, server: Server) -> bool:
    """Whether no three characters in a row of ``secret`` that say anything are in the log, in any common writing."""
    log = server.log
    pieces = {secret[i : i + 5] for i in range(len(secret) - 4)}
    return not any(piece in log for piece in pieces) and secret.encode().hex() not in log


@pytest.mark.parametrize("form", ["human", "json"])
def test_nothing_of_a_text_or_config_is_logged_whatever_goes_wrong(start: Serve, form: str) -> None:
    server = start("quotes", "--log-format", form, "-vv", "--access-lines-per-s", "1000", tracebacks=True)
    with graphpipe.Client(server.url) as client:
        for config in ("", SECRET, "chained"):
            with pytest.raises(errors.ModelFailed) as failed:
                client.infer({"text": TEXT}, config=config)
            assert "Xylo" not in failed.value.message
        with pytest.raises(errors.InvalidRequest):
            client.infer({"text": TEXT, SECRET: TEXT}, config=SECRET)
    good = b"".join(encode_request([TEXT], ["text"], config=SECRET))
    for body in (good[: len(good) // 2], good[:8] + b"\xff" * 8 + good[16:], SECRET.encode() * 10, good + b"\0"):
        assert call(server.url, "POST", "/", body).status in (200, 400, 500)
        assert call(server.url, "POST", "/%61", body).status in (200, 400, 500)
    with connect(server.url) as half:  # and one who leaves in the middle of it
        half.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n" + good)
    with connect(server.url) as nonsense:
        nonsense.sendall(f"{SECRET} / HTTP/1.1\r\nHost: h\r\n{SECRET}\x01: a\r\n\r\n".encode())
        nonsense.recv(1000)
    assert server.stop() == 0
    assert "quotes" in server.log
    assert nothing_of(SECRET, server), server.log
    assert nothing_of("other-words-here", server), server.log


def test_what_a_failing_model_says_is_logged_but_for_what_it_quotes(start: Serve) -> None:
    server = start("quotes quotes_numbers", tracebacks=True)
    with graphpipe.Client(server.url) as client, pytest.raises(errors.ModelFailed):
        client.infer({"text": TEXT}, config="chained")
    until(lambda: "LookupError" in server.log)
    assert re.search("^ValueError: could not convert string to float: b?'...'$", server.log, re.MULTILINE)
    assert re.search("^LookupError: what is b?'...' and ...\\?$", server.log, re.MULTILINE)
    assert "tests/operation/models.py" in server.log
    assert "was the direct cause" not in server.log
    with graphpipe.Client(f"{server.url}/models/quotes_numbers") as client, pytest.raises(errors.ModelFailed):
        client.execute(np.array([31415.926, 27182, 3], np.float32))
    until(lambda: "out of range" in server.log)
    assert "of shape (3,): # is out of range, as is #" in server.log
    assert "31415" not in server.log
    assert "27182" not in server.log


# --- who reads it ---


def test_a_log_that_nobody_reads_holds_up_no_request() -> None:
    """Its pipe holds 64 KB; what comes after that has to wait, and the requests do not."""
    command = [sys.executable, "-c", "from graphpipe.server.cli import main; main()", "-l", "127.0.0.1:0"]
    command += ["-m", "double=tests.operation.models:double", "--access-lines-per-s", "1000000", "--drain-grace-s", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().split()[-1]
        with Wire(url) as wire:
            for _ in range(2000):
                assert wire.call("POST", "/", BODY, x_request_id="i" * 100).status == 200
        assert samples(url)['graphpipe_requests_total{code="200",model="double",protocol="graphpipe"}'] == 2000
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_log_whose_reader_is_gone_holds_up_no_request() -> None:
    command = [sys.executable, "-c", "from graphpipe.server.cli import main; main()", "-l", "127.0.0.1:0"]
    command += ["-m", "double=tests.operation.models:double", "--access-lines-per-s", "1000000", "--drain-grace-s", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().decode().split()[-1]
        process.stderr.close()
        with Wire(url) as wire:
            for _ in range(200):
                assert wire.call("POST", "/", BODY).status == 200
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_access_lines_can_be_turned_off(start: Serve) -> None:
    server = start("double", "--access-lines-per-s", "0")
    assert call(server.url, "POST", "/", BODY).status == 200
    assert server.stop() == 0
    assert "graphpipe.access" not in server.log
    assert "200" not in server.log


def test_over_a_unix_socket_the_peer_is_called_unix(start: Serve, tmp_path: Path) -> None:
    server = start("double", "--log-format", "json", listen=f"unix:{tmp_path}/s")
    with Wire(server.url) as wire:
        assert wire.call("POST", "/", BODY).status == 200
        assert wire.call("POST", "/%61", BODY).status == 200
    until(lambda: len(access_lines(server)) == 2)
    assert [line["peer"] for line in access_lines(server)] == ["unix", "unix"]


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("form", ["human", "json"])
def test_nothing_in_a_log_moves_the_cursor_of_whoever_reads_it(start: Serve, form: str) -> None:
    server = start("double", "--log-format", form, "-vv", "--access-lines-per-s", "1000")
    cursor = "\x9b2J\x9d".encode("latin-1"), "\u009b2J \u202e".encode()
    for path in (b"/", b"/%1b%0a%9b"):
        for value in cursor:
            with connect(server.url) as caller:
                lines = b"Host: h\r\nX-Request-Id: a" + value + b"z\r\nContent-Length: %d\r\n\r\n" % len(BODY)
                caller.sendall(b"POST " + path + b" HTTP/1.1\r\n" + lines + BODY)
                assert b" 200 " in caller.recv(1000)
    until(lambda: server.log.count("200") >= 4)
    assert server.stop() == 0
    assert not CONTROLS.search(server.log)
    assert "a??2J" in server.log  # whatever is not visible ASCII
