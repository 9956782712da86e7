"""How a server ends: asked by a request, with large bodies on their way, with a model that does not return."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trustme
import uvloop

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.wire import decode_infer_response, encode_request
from tests.operation.conftest import Serve, get, until
from tests.raw_http import Wire, call, request
from tests.serving import ROOT, environment, run_to_end

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_shutdown_by_a_request_drains_when_it_is_enabled(start: Serve, folder: Path, workers: str) -> None:
    server = start("double", "--enable-shutdown", "--workers", workers)
    with Wire(server.url) as busy:
        busy.send(request("POST", "/", b"".join(encode_request([X], config="wait go"))))
        until((folder / "go.begun").exists)
        assert call(server.url, "POST", "/control/shutdown").status == 200
        (folder / "go").touch()
        assert busy.answer().status == 200
    assert server.process.wait(30) == 0


def test_shutdown_by_a_request_is_off_unless_enabled(start: Serve) -> None:
    server = start("double")
    answer = call(server.url, "POST", "/control/shutdown")
    assert answer.status == 404
    assert "--enable-shutdown" in answer.text
    assert get(f"{server.url}/readyz")[0] == 200


def test_a_large_body_on_its_way_is_received_and_answered_while_draining(start: Serve) -> None:
    server = start("double")
    sent = np.random.default_rng(0).random(2_000_000, np.float32)
    body = b"".join(encode_request([sent]))
    with Wire(server.url) as wire:
        wire.send(request("POST", "/", content_length=str(len(body))) + body[: len(body) // 2])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # its listener is closed by now
        wire.send(body[len(body) // 2 :])
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        np.testing.assert_array_equal(decode_infer_response(answer.body).outputs[0], sent * 2)
    assert server.process.wait(30) == 0


@pytest.mark.parametrize("path", ["/", "/%61"])
def test_answers_while_draining_close_their_connection_whoever_gives_them(start: Serve, path: str) -> None:
    server = start("double", "--drain-grace-s", "5")
    with Wire(server.url) as early:
        assert early.call("POST", path, BODY).status == 200
        server.process.send_signal(signal.SIGTERM)
        until(lambda: get(f"{server.url}/readyz")[0] == 503)
        answer = early.call("POST", path, BODY)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert early.ended()
    server.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("workers", "path"),
    [
        ("1", "/%61"),
        ("2", "/"),
        pytest.param("1", "/", marks=pytest.mark.slow),
        pytest.param("2", "/%61", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_does_not_return_holds_up_the_end_for_the_drain_timeout(
    start: Serve, folder: Path, workers: str, path: str
) -> None:
    server = start("double", "--drain-timeout-s", "1", "--workers", workers)
    with Wire(server.url) as stuck:
        stuck.send(request("POST", path, b"".join(encode_request([X], config="wait never"))))
        until((folder / "never.begun").exists)
        began = time.monotonic()
        assert server.stop() == 0
        # A second to drain, and one to see whether the model's thread comes back; the rest is room for a busy machine.
        assert time.monotonic() - began < 1 + 1 + 8
        assert stuck.ended()


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        (signal.SIGTERM, "2"),
        (signal.SIGINT, "1"),
        pytest.param(signal.SIGTERM, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "2", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_is_still_warming_up_can_be_ended(folder: Path, workers: str, how: signal.Signals) -> None:
    command = [sys.executable, "-c", "from graphpipe.server.cli import main; main()", "-l", "127.0.0.1:0"]
    command += ["-m", "tests.operation.models:slow_to_start", "--workers", workers]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(TEST_FOLDER=str(folder)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        until(lambda: len(list(folder.glob("warming.*"))) == int(workers))
        process.send_signal(how)
        said, log = process.communicate(timeout=30)
        # As if it had no handler: whoever started it sees that it never served.
        assert (process.returncode, said) == (-how, b"")
        assert b"Traceback" not in log
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("path", ["/", "/%61"])
def test_an_old_connection_is_closed_with_an_answer_whoever_gives_it(start: Serve, path: str) -> None:
    server = start("double", "--connection-age-max-s", "0.5")
    with Wire(server.url) as wire:
        for _ in range(100):
            answer = wire.call("POST", path, BODY)
            assert answer.status == 200
            if answer.headers.get("connection") == "close":
                break
            time.sleep(0.05)
        assert answer.headers["connection"] == "close"
        assert wire.ended()


def test_callers_who_keep_calling_see_nothing_of_a_shutdown_but_its_end(start: Serve) -> None:
    server = start("double", "--drain-grace-s", "0.5", "--workers", "2")
    wrong: list[str] = []
    counts = [0]
    over = threading.Event()

    def keep_calling() -> None:
        with graphpipe.Client(server.url) as client:
            while not over.is_set():
                try:
                    if client.execute(X).tolist() != [0, 2, 4]:
                        wrong.append("another answer")
                    counts[0] += 1
                except graphpipe.NoAnswer as error:
                    if "middle" in str(error):
                        wrong.append(str(error))
                    return

    threads = [threading.Thread(target=keep_calling) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: counts[0] > 50)
    assert server.stop() == 0
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong


PROGRAM = """
import sys, threading
import numpy as np, graphpipe
ready, got = threading.Event(), []
def serve():
    graphpipe.serve(lambda x: x * 2, "127.0.0.1:0", on_ready=lambda url: (got.append(url), ready.set()))
    print("ended by itself", flush=True)
threading.Thread(target=serve, daemon=True).start()
ready.wait()
print(graphpipe.Client(got[0]).infer({"x": np.ones(1)})["output_0"], flush=True)
sys.exit(3)
"""


def test_a_program_that_serves_in_a_thread_of_its_own_ends_with_its_own_status() -> None:
    """uvloop's timers would call Python from C when there is none any more: the server is gone by then."""
    run = run_to_end(code=PROGRAM)
    assert (run.returncode, run.stdout.split()) == (3, ["[2.]", "ended", "by", "itself"]), run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_callers_who_say_nothing_of_tls_and_whom_nobody_has_accepted_yet_do_not_hold_up_the_end(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    # One handshake may take longer than this test may.
    settings = Settings(drain_grace_s=0.0, drain_timeout_s=1.0, head_timeout_s=600.0)

    async def live(stack: contextlib.ExitStack) -> None:
        listener = bind("127.0.0.1:0")
        app = App([(ModelSettings("m", "", warmup=0), Echo())], settings)
        await app.start(listener, tls)
        # The loop has no turn between this and the end of listening, so they are where only the kernel knows of them.
        silent = [stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(5)]
        async with asyncio.timeout(60):
            await app._drain()
        for each in silent:
            each.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(each.recv, 1) == b""

    with contextlib.ExitStack() as stack, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(live(stack))
