"""What a server tells of its life: for people in a terminal, and as records for whoever reads its log as data."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.server.life.events import Loaded, _short
from graphpipe.signature import Signature, TensorSpec
from graphpipe.version import SERVER
from graphpipe.wire import encode_request
from graphpipe.words import counted
from tests.operation.conftest import Serve, get, samples, until
from tests.raw_http import Wire, call, request
from tests.serving import ROOT, Server, environment, serving

X = np.arange(3, dtype=np.float32)
COMMAND = [sys.executable, "-c", "from graphpipe.server.start import serve_main; serve_main()"]
DOUBLE = "double=tests.operation.models:double"
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"


def events(server: Server) -> list[dict[str, Any]]:
    """What was told so far by a server with --log-format json."""
    lines = [json.loads(line) for line in server.log.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if "event" in line]


def said_on_stdout(server: Server) -> str:
    """All of it, once the server has ended."""
    assert server.process.stdout is not None
    return server.said + server.process.stdout.read().decode()


# --- the start ---


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_life_is_told_once_as_records_however_many_workers_there_are(start: Serve, workers: str) -> None:
    server = start("double refuses_zeros", "--log-format", "json", "--workers", workers, "-m", str(DIGITS))
    until(lambda: len(events(server)) == 5)
    assert server.stop() == 0
    told = events(server)
    assert [event["event"] for event in told] == [
        "start", *["model loaded"] * 3, "listening", "draining", "stopped",
    ]  # fmt: skip
    first, *models, listening, draining, _ = told
    assert (first["version"], first["workers"]) == (graphpipe.__version__, int(workers))
    assert first["platform"].startswith(os.uname().sysname)
    assert [model["model"] for model in models] == ["double", "refuses_zeros", "digits"]
    assert (models[0]["kind"], models[2]["kind"]) == ("Python function", "ONNX")
    assert models[2]["runtime"].startswith("onnxruntime ")
    assert models[2]["signature"] == "pixels float32[n, 64] -> label int64[n], probabilities float32[n, 10]"
    assert all(model["threads"] >= 1 and model["seconds"] >= 0 for model in models)
    assert (listening["url"], listening["metrics"]) == (server.url, f"{server.url}/metrics")
    assert draining["in_flight"] == 0
    assert {event["level"] for event in told} == {"INFO"}
    warnings = [line for line in map(json.loads, server.log.splitlines()) if line["level"] == "WARNING"]
    assert [(line["model"], "all zeros make no sense to me" in line["message"]) for line in warnings] == [
        ("refuses_zeros", True)
    ]
    assert said_on_stdout(server) == f"listening on {server.url}\n"


def test_people_read_sentences_and_standard_output_has_one_line(start: Serve) -> None:
    server = start("double", "-m", str(DIGITS), "--threads", "1", "--threads", "digits=2")
    until(lambda: "/metrics" in server.log)
    assert server.stop() == 0
    time_of_day, url = r"\d\d:\d\d:\d\d", re.escape(server.url)
    want = [
        r"graphpipe [\d.]+, Python 3\.\d+\.\d+\S* on \w+ \w+, \d+ CPUs?",
        r"model double: Python function, x float32\[n\] -> y float32\[n\]; 1 thread; loaded in \d+\.\d\d s",
        r"model digits: ONNX \(onnxruntime [\d.]+\), pixels .*; 2 threads; loaded in \d+\.\d\d s",
        rf"metrics at {url}/metrics; (SIGTERM|Ctrl-C) to stop",
        r"stopping; SIGTERM again to stop now",
        r"stopped",
    ]
    lines = server.log.splitlines()
    assert len(lines) == len(want), server.log
    for line, pattern in zip(lines, want, strict=True):
        assert re.fullmatch(f"{time_of_day} {pattern}", line), line
    assert said_on_stdout(server) == f"listening on {server.url}\n"


@pytest.mark.parametrize(
    ("listen", "open_to_all"), [("0.0.0.0:0", True), (":0", True), ("127.0.0.1:0", False), ("localhost:0", False)]
)
def test_an_address_that_everybody_reaches_is_told(start: Serve, listen: str, open_to_all: bool) -> None:
    server = start("double", listen=listen)
    assert server.stop() == 0
    assert ("anybody who reaches this machine may call" in server.log) == open_to_all


def test_where_the_metrics_are_is_told_beside_an_address_that_is_none_of_a_network(start: Serve, folder: Path) -> None:
    server = start("double", listen=f"unix:{folder}/s")
    assert server.stop() == 0
    assert f"metrics at /metrics of unix:{folder}/s" in server.log
    server = start("double", "--metrics-listen", "127.0.0.1:0", "--log-format", "json")
    until(lambda: any(event["event"] == "listening" for event in events(server)))
    (listening,) = [event for event in events(server) if event["event"] == "listening"]
    assert not listening["metrics"].startswith(server.url)
    side = listening["metrics"].removesuffix("/metrics")
    assert get(f"{side}/metrics")[0] == 200
    assert get(f"{server.url}/metrics")[0] == 404
    for first in (
        "GET /metrics",
        "HEAD /metrics",
        "GET /livez",
        "GET /readyz",
        "GET /nowhere",
        "POST /livez",
        "BREW /",
    ):
        with Wire(side) as wire:
            wire.send(f"{first} HTTP/1.1\r\nHost: h\r\nX-Request-Id: a-1\r\n\r\n".encode())
            headers = wire.answer(to_head=first.startswith("HEAD")).headers
            assert headers["server"] == SERVER, first
            assert first.startswith("BREW") or headers["x-request-id"] == "a-1", first


def test_a_program_that_serves_keeps_its_own_log() -> None:
    code = "import graphpipe; graphpipe.serve('echo', '127.0.0.1:0', drain_grace_s=0)"
    with serving(code=code) as server:
        assert call(server.url, "GET", "/livez").status == 200
        assert server.stop() == 0
        assert server.log == ""
        assert said_on_stdout(server) == f"listening on {server.url}\n"


def test_a_function_that_does_not_say_what_it_gives_gives_anything() -> None:
    model = graphpipe.load(lambda x: x)
    assert _short(model.signature) == "x any -> any"


def test_a_model_that_is_large_is_told_in_short() -> None:
    many = tuple(TensorSpec(f"x{i}", np.dtype("f4"), ("n",)) for i in range(1000))
    shown = _short(Signature(many, (TensorSpec("y" * 100_000),)))
    assert shown.startswith("x0 float32[n], x1 float32[n], ")
    assert " and 994 more -> yyy" in shown
    assert len(shown) < 400
    assert _short(Signature((), ())) == "nothing -> nothing"
    assert _short(Signature((), (), variadic=True, open_outputs=True)) == "any -> any"
    loaded = Loaded("m", "K", "", "a any -> b any", 0, 1.0, "")
    assert str(loaded) == "model m: K, a any -> b any; loaded in 1.00 s"
    assert Loaded.from_json(loaded.to_json()) == loaded


# --- models that are cold ---


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_asks_in_detail_is_told_which_model_did_not_answer_its_warm_up(start: Serve, workers: str) -> None:
    server = start("double refuses_zeros", "--workers", workers)
    assert get(f"{server.url}/readyz") == (200, "ok\n")
    assert get(f"{server.url}/readyz?verbose") == (
        200,
        "models: ok\ndraining: ok\nworkers: ok\n"
        "model refuses_zeros: warm-up failed: ValueError: all zeros make no sense to me\nok\n",
    )
    assert server.log.count("WARNING") == 1
    assert "WARNING graphpipe.server.life: model 'refuses_zeros' did not answer its warm-up" in server.log


# --- the end ---


@pytest.mark.parametrize(
    ("workers", "count", "words"),
    [
        ("1", 1, "finishing 1 request;"),
        ("2", 3, "finishing 3 requests;"),
        pytest.param("1", 3, "finishing 3 requests;", marks=pytest.mark.slow),
        pytest.param("2", 1, "finishing 1 request;", marks=pytest.mark.slow),
    ],
)
def test_the_end_says_how_many_requests_are_finished(
    start: Serve, folder: Path, count: int, words: str, workers: str
) -> None:
    server = start("double", "--workers", workers, "--threads", "4")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.url)) for _ in range(count)]
        for i, wire in enumerate(wires):
            wire.send(request("POST", "/", b"".join(encode_request([X], config=f"wait go{i}"))))
        until(lambda: len(list(folder.glob("*.begun"))) == count)
        if workers != "1":  # they publish twice a second
            until(lambda: samples(server.url)["graphpipe_in_flight_requests"] == count)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "again" in server.log)
        for i, wire in enumerate(wires):
            (folder / f"go{i}").touch()
            assert wire.answer().status == 200
    assert server.process.wait(30) == 0
    assert f" {words} SIGTERM again to stop now\n" in server.log
    assert server.log.endswith(" stopped\n")


def test_who_is_told_to_end_by_a_request_is_not_told_of_signals(start: Serve) -> None:
    server = start("double", "--enable-shutdown")
    assert call(server.url, "POST", "/control/shutdown").status == 200
    assert server.process.wait(30) == 0
    assert " stopping\n" in server.log
    assert "again" not in server.log


class Terminal:
    """A server in the foreground of a terminal of its own."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.chdir(ROOT)
            os.execve(
                sys.executable,
                [*COMMAND, "-l", "127.0.0.1:0", "--drain-grace-s", "0", *arguments],
                environment(**{"TERM": "xterm", **env}),
            )
        self.seen = ""

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + 60
        while (match := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < deadline, self.seen
            self._read(1.0)
        return match

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        while self._read(60.0):
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # everybody is gone
            return False
        self.seen += data.decode()
        return bool(data)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_in_a_terminal_ctrl_c_stops_a_server_that_says_so_and_a_second_one_stops_it_now(
    tmp_path: Path, workers: str
) -> None:
    terminal = Terminal("-m", DOUBLE, "-m", "refuses_zeros=tests.operation.models:refuses_zeros", "--workers", workers,
                        TEST_FOLDER=str(tmp_path))  # fmt: skip
    url = terminal.until(r"listening on (\S+)\r\n")[1]
    terminal.until(rf"metrics at {url}/metrics; Ctrl-C to stop\r\n")
    assert re.search(r"model double: .*\r\n(?s:.*)listening on ", terminal.seen)  # in this order
    assert "\x1b[33mWARNING\x1b[0m graphpipe.server.life: model 'refuses_zeros'" in terminal.seen
    with Wire(url) as wire:
        wire.send(request("POST", "/", b"".join(encode_request([X], config="wait never"))))
        until((tmp_path / "never.begun").exists)
        if workers != "1":
            until(lambda: samples(url)["graphpipe_in_flight_requests"] == 1)
        terminal.type(b"\x03")
        terminal.until(r"finishing 1 request; Ctrl-C again to stop now\r\n")
        time.sleep(0.1)  # no echo of the first
        terminal.type(b"\x03")
        assert terminal.end() == 0
    assert "cutting 1 request in flight: told to end at once" in terminal.seen
    assert re.search(r"\d\d:\d\d:\d\d\S* stopped\r\n$", terminal.seen)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_whoever_wants_no_colours_gets_none_in_a_terminal_either(env: dict[str, str]) -> None:
    terminal = Terminal("-m", "echo", **env)
    terminal.until("Ctrl-C to stop\r\n")
    terminal.type(b"\x03")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.seen


def test_json_in_a_terminal_has_no_colours() -> None:
    terminal = Terminal("-m", "echo", "--log-format", "json")
    terminal.until("Ctrl-C to stop")
    terminal.type(b"\x03")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.seen


def test_a_signal_that_comes_while_a_line_is_written_holds_nothing_up(start: Serve) -> None:
    """Its own line may come in the middle of another."""
    server = start("double", "--access-lines-per-s", "1000000")
    body = b"".join(encode_request([X]))
    with Wire(server.url) as wire:
        for _ in range(300):
            os.kill(server.process.pid, signal.SIGHUP)
            os.kill(server.process.pid, signal.SIGUSR1)
            assert wire.call("POST", "/", body).status == 200
    until(lambda: "SIGUSR1" in server.log)


# --- whose request it was ---


@pytest.mark.parametrize("how", ["plain", "batched", "cached", "odd"])
def test_a_failure_names_the_model_and_the_request(start: Serve, folder: Path, how: str) -> None:
    cached = ("--cache", "--cache-version", "1", "--cache-dir", str(folder / "rows"))
    more = {"batched": ("--batch-rows-max", "8"), "cached": cached}.get(how, ())
    server = start("quotes", "--log-format", "json", *more, tracebacks=True)
    body = b"".join(encode_request([np.array(["no number"], object)], ["text"]))
    path = "/%61" if how == "odd" else "/"
    assert call(server.url, "POST", path, body, x_request_id="abc-1").status == 500

    def failed() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in server.log.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["level"] == "ERROR"]

    until(failed)
    assert {(line["model"], line["request_id"]) for line in failed()} == {("quotes", "abc-1")}
    assert failed()[0]["message"] == "model 'quotes' failed on a request (id=abc-1)"


def test_a_failure_of_a_request_without_an_id_names_none(start: Serve) -> None:
    server = start("quotes", tracebacks=True)
    with graphpipe.Client(server.url) as client, pytest.raises(errors.ModelFailed):
        client.infer({"text": np.array(["no number"], object)})
    until(lambda: "model 'quotes' failed on a request\n" in server.log)
    assert "id=" not in server.log


def test_a_path_in_the_log_is_bounded_visible_and_without_its_query(start: Serve) -> None:
    server = start("double")
    body = b"".join(encode_request([X]))
    for target in ("/nowhere?token=secret", "/" + "a" * 5000, "/%1b%0a"):
        assert call(server.url, "POST", target, body).status == 200
    assert call(server.url, "PUT", "/models/nobody", body).status == 404
    until(lambda: server.log.count("graphpipe.access") == 4)
    assert server.stop() == 0
    shown = re.findall(r"graphpipe\.access: (\d+ \w+ \S+ \S+) rows=", server.log)
    assert shown == [
        "200 POST /nowhere double", f"200 POST /{'a' * 199}... double", "200 POST /%1b%0a double",
        "404 PUT /models/nobody -",
    ]  # fmt: skip


def test_a_pipe_has_no_colours() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from graphpipe.server.numbers.logs import log_to_stderr as to\nimport logging\n"
         "to('human', 0, True)\nlogging.warning('w')"],
        cwd=ROOT, env=environment(TERM="xterm"), capture_output=True, check=True,
    )  # fmt: skip
    assert re.fullmatch(rb"\d\d:\d\d:\d\d WARNING root: w\n", done.stderr)


def test_one_is_one_and_more_are_several() -> None:
    assert [counted(n, "request") for n in (0, 1, 2, 1200)] == [
        "0 requests",
        "1 request",
        "2 requests",
        "1,200 requests",
    ]
