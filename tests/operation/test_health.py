"""Health checks tell the truth: alive, ready only when warm, and why not."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from tests.operation.conftest import Serve, get, until
from tests.raw_http import call
from tests.serving import Server

X = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize("path", ["/control/is_ready", "/readyz"])
def test_ready_says_what_it_depends_on_when_asked(start: Serve, path: str) -> None:
    server = start("double")
    assert get(f"{server.url}{path}") == (200, "ok\n")
    assert get(f"{server.url}{path}?verbose") == (200, "models: ok\ndraining: ok\nworkers: ok\nok\n")


@pytest.mark.parametrize("path", ["/control/is_alive", "/livez"])
def test_alive_says_so_with_and_without_detail(start: Serve, path: str) -> None:
    server = start("double")
    assert get(f"{server.url}{path}") == (200, "ok\n")
    assert get(f"{server.url}{path}?verbose") == (200, "event loop: ok\nserver: ok\nok\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_is_told_to_come_before_the_models_are_warm(start: Serve, folder: Path, workers: str) -> None:
    servers: list[Server] = []
    thread = threading.Thread(target=lambda: servers.append(start("slow_to_start", "--workers", workers)))
    thread.start()
    until(lambda: len(list(folder.glob("warming.*"))) == int(workers))
    assert not servers  # not a word of listening
    (folder / "go").touch()
    thread.join(30)
    assert get(f"{servers[0].url}/readyz") == (200, "ok\n")


def test_draining_is_not_ready_but_alive_and_answers(start: Serve) -> None:
    server = start("double", "--drain-grace-s", "3")
    server.process.send_signal(signal.SIGTERM)
    until(lambda: get(f"{server.url}/readyz")[0] == 503)
    answer = call(server.url, "GET", "/readyz?verbose")
    assert answer.text == "models: ok\ndraining: not ready: draining\nworkers: ok\nnot ready\n"
    assert answer.headers["connection"] == "close"
    assert answer.headers["retry-after"] == "1"
    assert get(f"{server.url}/livez")[0] == 200
    with graphpipe.Client(server.url) as client:
        assert client.execute(X).tolist() == [0, 2, 4]
    server.process.send_signal(signal.SIGTERM)  # enough of the grace


# --- warming up ---


def test_warm_up_calls_are_made_from_the_signature_strings_included(start: Serve, folder: Path) -> None:
    start("witness", "--warmup", "3")
    line = "(1,) [b''] (1, 4) int64 () bool\n"
    assert (folder / "witness").read_text() in (line * 3, line.replace("b''", "''") * 3)


def test_what_cannot_be_made_up_is_not_and_the_server_is_ready(start: Serve, folder: Path) -> None:
    server = start("any_shape", "--warmup", "3")
    assert get(f"{server.url}/readyz")[0] == 200
    assert not (folder / "called").exists()


def test_a_model_that_refuses_its_warm_up_is_served(start: Serve) -> None:
    server = start("refuses_zeros", "-v")
    with graphpipe.Client(server.url) as client:
        assert client.execute(X).tolist() == [0, 2, 4]
    until(lambda: "did not answer its warm-up" in server.log)


def test_no_warm_up_when_none_is_wanted(start: Serve, folder: Path) -> None:
    start("witness", "--warmup", "0")
    assert not (folder / "witness").exists()
