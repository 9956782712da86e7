"""Several workers: on every kind of address, while none is up, and when one does not start."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from pathlib import Path

import numpy as np
import pytest
import trustme

import graphpipe
from graphpipe import errors
from graphpipe.wire import encode_request
from tests.operation.conftest import Serve, get, samples, until
from tests.raw_http import Wire, call
from tests.serving import Server

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))


def worker_pids(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def stop_all(server: Server) -> None:
    """Kill all workers so that none comes up again soon: their next life is stopped at its birth."""
    for pid in worker_pids(server):
        os.kill(pid, signal.SIGKILL)


def test_workers_share_a_unix_socket_and_leave_it_to_those_who_come_after_them(start: Serve, tmp_path: Path) -> None:
    path = tmp_path / "graphpipe.sock"
    server = start("double", "--workers", "2", listen=f"unix:{path}")
    with graphpipe.Client(server.url) as client:
        assert client.execute(X).tolist() == [0, 2, 4]
    os.kill(worker_pids(server)[0], signal.SIGTERM)  # it drains and ends by itself, and takes no file along
    with Wire(server.url) as wire:
        until(lambda: len(worker_pids(server)) == 2 and wire_is_ready(server))
        assert path.is_socket()
        assert wire.call("POST", "/", BODY).status == 200
    for _ in range(10):
        assert call(server.url, "POST", "/", BODY).status == 200


def wire_is_ready(server: Server) -> bool:
    return call(server.url, "GET", "/readyz").status == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return tmp_path / "server.pem", trusting


def test_workers_serve_tls_and_so_does_who_answers_while_they_are_gone(
    start: Serve, folder: Path, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    path, trusting = certificate
    server = start("slow_restart", "--workers", "2", "--tls-cert", str(path))
    with graphpipe.Client(server.url, tls=trusting) as client:
        for _ in range(5):
            assert client.execute(X).tolist() == [0, 2, 4]
        (folder / "hold").touch()
        stop_all(server)
        refused: list[errors.ServiceError] = []

        def is_refused() -> bool:
            try:
                client.execute(X)
            except errors.ServiceError as error:
                refused.append(error)
            except errors.NoAnswer:
                pass
            return bool(refused)

        until(is_refused)
        assert isinstance(refused[0], errors.NotReady)
        assert "0 of 2 workers are up" in refused[0].message
        (folder / "hold").unlink()

        def is_answered() -> bool:
            try:
                return client.execute(X).tolist() == [0, 2, 4]
            except (errors.ServiceError, errors.NoAnswer):
                return False

        until(is_answered)


def test_while_no_worker_is_up_health_and_metrics_tell_the_truth(start: Serve, folder: Path) -> None:
    server = start("slow_restart", "--workers", "2")
    for _ in range(3):
        assert call(server.url, "POST", "/", BODY).status == 200
    until(lambda: samples(server.url)['graphpipe_rows_total{model="slow_restart"}'] == 9)
    # What a worker counted is seen by others within half a second.
    threading.Event().wait(1)
    (folder / "hold").touch()
    stop_all(server)
    until(lambda: get(f"{server.url}/livez") == (200, "ok\n") and samples(server.url)["graphpipe_workers"] == 0)
    assert get(f"{server.url}/readyz")[0] == 503
    head = call(server.url, "HEAD", "/livez")
    assert (head.status, head.headers["content-length"]) == (200, "3")
    found = samples(server.url)
    assert found['graphpipe_rows_total{model="slow_restart"}'] == 9
    assert found["graphpipe_workers_wanted"] == 2
    answer = call(server.url, "POST", "/", BODY)
    assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
    large = b"".join(encode_request([np.zeros(1_000_000, np.float32)]))
    assert call(server.url, "POST", "/", large).status == 503  # and the refusal arrives
    (folder / "hold").unlink()
    until(lambda: get(f"{server.url}/readyz")[0] == 200)
    assert call(server.url, "POST", "/", BODY).status == 200


@pytest.mark.slow
def test_a_worker_that_hangs_at_its_start_is_ended_and_another_takes_its_place(start: Serve, folder: Path) -> None:
    server = start("slow_restart", "--workers", "2", "--start-timeout-s", "15")
    (folder / "hold").touch()
    first = worker_pids(server)
    os.kill(first[0], signal.SIGKILL)
    until(lambda: "--start-timeout-s" in server.log, 60)
    # All the while the other one serves.
    until(lambda: call(server.url, "POST", "/", BODY).status == 200)
    (folder / "hold").unlink()
    until(lambda: get(f"{server.url}/readyz")[0] == 200, 60)


def test_a_model_that_prints_without_end_disturbs_nobody(start: Serve) -> None:
    """What it prints is the server's own output, and nobody takes it for a word of the worker's."""
    server = start("double", "--workers", "2")
    printed: list[bytes] = []

    def take() -> None:
        assert server.process.stdout is not None
        while chunk := os.read(server.process.stdout.fileno(), 1 << 16):
            printed.append(chunk)

    reader = threading.Thread(target=take)
    reader.start()
    with graphpipe.Client(server.url) as client:
        for word in ("a", "recycle\n", "ready\n", "failed "):
            assert client.execute(X, config=f"print {word}").tolist() == [0, 2, 4]
    assert get(f"{server.url}/readyz")[0] == 200
    assert samples(server.url)["graphpipe_worker_restarts_total"] == 0
    assert server.stop() == 0
    reader.join()
    assert len(b"".join(printed)) > 1_000_000


def test_ctrl_c_in_a_terminal_reaches_the_parent_alone_and_all_drain(start: Serve, folder: Path) -> None:
    server = start("double", "--workers", "2")
    groups = {os.getpgid(pid) for pid in worker_pids(server)}
    assert os.getpgid(server.process.pid) not in groups
    with Wire(server.url) as busy:
        body = b"".join(encode_request([X], config="wait go"))
        busy.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until((folder / "go.begun").exists)
        server.process.send_signal(signal.SIGINT)
        (folder / "go").touch()
        assert busy.answer().status == 200
    assert server.process.wait(30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_was_loaded_is_out_of_the_garbage_collectors_sight(serve: Serve, workers: str) -> None:
    server = serve("--model", "tests.operation.models:left_to_the_collector", "--workers", workers)
    assert graphpipe.Client(server.url).execute(np.ones(1, np.float32)) < 20_000  # some 40,000 are there
