"""Isolated models behind a server."""

from __future__ import annotations

import threading
import time
import urllib.request

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import DeadlineExceeded, ModelFailed
from tests.isolation.conftest import children, eventually, is_alive, source, word

X = np.ones(3, np.float32)


def restarts(server) -> float:
    return number(server, "graphpipe_isolated_restarts_total")


def number(server, name: str) -> float:
    page = urllib.request.urlopen(f"{server.url}/metrics", timeout=10).read().decode()
    lines = [line for line in page.splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in lines if 'model="actor"' in line)


def test_a_crash_is_one_callers_error_and_the_server_serves_on(serve):
    server = serve(
        "--model", f"actor={source('act')}", "--model", f"double={source('double')}", "--isolate", "actor=1",
        "--warmup", "0", tracebacks=True,
    )  # fmt: skip
    with (
        graphpipe.Client(f"{server.url}/models/actor") as actor,
        graphpipe.Client(f"{server.url}/models/double") as double,
    ):
        large = np.full(300_000, 5, np.float32)
        before = int(actor.infer({"what": word(""), "x": large})["pid"])
        for _ in range(2):
            with pytest.raises(ModelFailed, match="SIGSEGV"):
                actor.infer({"what": word("segfault"), "x": X})
            assert (actor.infer({"what": word(""), "x": large})["x"] == 5).all()
        assert (double.infer({"x": X})["output_0"] == 2).all()
        assert int(actor.infer({"what": word(""), "x": X})["pid"]) not in (before, server.process.pid)
        eventually(lambda: number(server, "graphpipe_isolated_processes") == 1, "no process is up")
        eventually(lambda: restarts(server) == 2, f"{restarts(server)} restarts are counted")
        # What a request said is not in the log, and where the model failed is.
        with pytest.raises(ModelFailed, match="the server's log has the cause"):
            actor.infer({"what": word("error"), "x": np.array([123456.75])})
        eventually(lambda: "ValueError: it is #" in server.log, server.log)
        assert "123456" not in server.log
        assert ", in act" in server.log
        assert "inside.py" not in server.log.rpartition("failed on a request")[2]


@pytest.mark.slow
def test_a_deadline_ends_the_wait_and_a_hanging_process_does_not_hold_up_a_drain(serve):
    server = serve("--model", f"actor={source('act')}", "--isolate", "1", "--warmup", "0", "--drain-timeout-s", "1")
    with graphpipe.Client(server.url, timeout=1) as client:
        pid = int(client.infer({"what": word(""), "x": X})["pid"])
        with pytest.raises((DeadlineExceeded, graphpipe.TimedOut)):
            client.infer({"what": word("hold"), "x": X * 1000}, timeout=0.3)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 60
    eventually(lambda: not is_alive(pid), "the process outlived its server")


@pytest.mark.slow
def test_it_is_batched_and_cached_like_any_other_model(serve, tmp_path):
    server = serve(
        "--model", f"m={source('rows')}", "--isolate", "2", "--batch-rows-max", "8", "--batch-wait-ms", "5", "--cache",
        "true", "--cache-version", "1", "--cache-dir", str(tmp_path), "--inputs", "x", "--outputs", "y",
    )  # fmt: skip
    wrong = []

    def call(number: int) -> None:
        with graphpipe.Client(server.url) as client:
            for _ in range(5):
                x = np.full((2, 3), number, np.float32)
                if not np.array_equal(client.infer({"x": x})["y"], x + 1):
                    wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
def test_each_worker_has_processes_of_its_own(serve):
    server = serve("--model", f"actor={source('act')}", "--isolate", "1", "--workers", "2", "--warmup", "0")
    pids = set()

    def ask() -> bool:
        with graphpipe.Client(server.url) as client:
            pids.add(int(client.infer({"what": word(""), "x": X})["pid"]))
        return len(pids) == 2

    eventually(ask, f"only {pids} answer")
    server.stop()
    eventually(lambda: not any(map(is_alive, pids)), "a process outlived its server")


def test_a_body_is_read_where_it_was_received():
    with graphpipe.load(source("total"), isolate=1) as model:
        with graphpipe.serving(model, warmup=0) as server, graphpipe.Client(server.url) as client:
            for _ in range(3):
                assert client.infer({"x": np.ones(1_000_000, np.float32)})["output_0"] == 1_000_000
            # Whatever is copied for the processes lies here.
            assert model.model._sharing.pool.idle_bytes == 0
        model.infer({"x": np.ones(1_000_000, np.float32)})
        assert model.model._sharing.pool.idle_bytes + model.model._sharing.pool.leased_bytes > 0


@pytest.mark.slow
def test_a_program_that_serves_ends_its_models_processes_too():
    before = children()
    with graphpipe.serving(source("act"), isolate=2, warmup=0) as server, graphpipe.Client(server.url) as client:
        client.infer({"what": word(""), "x": X})
        assert len(children() - before) == 2
    eventually(lambda: children() == before, "a process outlived its server")
