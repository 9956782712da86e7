"""A machine that runs out of descriptors or disk, or has garbage on it: what callers see."""

from __future__ import annotations

import os
import random
import select
import socket
import time
from pathlib import Path

import numpy as np

import graphpipe
from tests.faults.callers import answers, until
from tests.faults.conftest import Fault
from tests.faults.servers import DOUBLE, Serve, X, limited, metric
from tests.serving import ROOT, Server, run_to_end, serving

ANYWHERE = ("--listen", "127.0.0.1:0")


def test_without_file_descriptors_new_callers_are_sent_away_and_old_ones_do_not_notice(fault: Fault) -> None:
    with serving(*ANYWHERE, *DOUBLE, code=limited("RLIMIT_NOFILE", 64), cwd=ROOT) as server:
        old = graphpipe.Client(server.url)
        assert np.array_equal(old.execute(X), X * 2)
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(120)]
        try:
            for _ in range(10):
                assert np.array_equal(old.execute(X), X * 2)
            cpu = process_seconds(server.process.pid)
            time.sleep(0.5)
            assert process_seconds(server.process.pid) - cpu < 0.25  # it does not spin
            sent_away = len(select.select(crowd, [], [], 0)[0])
        finally:
            for connection in crowd:
                connection.close()
        recovery_s = until(lambda: answers(server.url))
        old.close()
    saw = f"old callers: 10 answered rightly; new ones: {sent_away} of 120 closed at once; no CPU is burnt meanwhile"
    fault("120 idle connections to a server with 64 descriptors (ulimit -n 64)", saw, recovery_s)


def process_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the row cache ---


def remembering(folder: Path) -> tuple[str, ...]:
    return (*DOUBLE, "--cache", "--cache-dir", str(folder), "--cache-version", "1")


def remembered(server: Server, what: str) -> float:
    return metric(server.url, f'graphpipe_cache_{what}_total{{model="double"}}')


def test_a_full_disk_costs_the_row_cache_its_new_rows_and_no_caller_an_answer(tmp_path: Path, fault: Fault) -> None:
    arguments = (*ANYWHERE, *remembering(tmp_path))
    with serving(*arguments, code=limited("RLIMIT_FSIZE", 1 << 20), cwd=ROOT) as server:
        calls = 0
        with graphpipe.Client(server.url) as client:

            def call(seed: int) -> None:
                nonlocal calls
                sent = np.random.default_rng(seed).random(5_000, np.float32)
                np.testing.assert_array_equal(client.execute(sent), sent * 2)
                calls += 1

            def is_full() -> bool:
                call(calls)
                return "rows cannot be written to" in server.log

            until(is_full)
            for seed in range(10):  # old rows and new ones
                call(seed)
        assert remembered(server, "errors") >= 1
    fault(
        "the disk of the row cache becomes full (RLIMIT_FSIZE)",
        f"{calls} of {calls} calls of 5,000 rows answered rightly; a warning in the log, another try every 10 s",
    )


def test_a_disk_that_is_full_from_the_start_is_nobodys_business_but_the_logs(tmp_path: Path, fault: Fault) -> None:
    # A limit on file size is a full disk for whoever writes, the log included.
    arguments = (*ANYWHERE, *remembering(tmp_path), "--access-lines-per-s", "1000")
    with serving(*arguments, code=limited("RLIMIT_FSIZE", 0), cwd=ROOT) as server:
        for _ in range(50):
            assert answers(server.url)
    fault("the disk of log and row cache is full at the start", "50 answered rightly, without the cache and unlogged")


def test_a_row_cache_that_became_garbage_starts_anew_and_no_row_of_it_is_answered(
    serve: Serve, tmp_path: Path, fault: Fault
) -> None:
    rows = np.arange(1000, dtype=np.float32)
    first = serve(*remembering(tmp_path), cwd=ROOT)
    np.testing.assert_array_equal(graphpipe.remote.execute(first.url, rows), rows * 2)
    until(lambda: remembered(first, "stored") == len(rows))
    assert first.stop() == 0
    (file,) = tmp_path.rglob("data.mdb")
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))
    second = serve(*remembering(tmp_path), cwd=ROOT)
    assert "starts anew" in second.log
    calls = 0

    def knows_rows_again() -> bool:
        nonlocal calls
        np.testing.assert_array_equal(graphpipe.remote.execute(second.url, rows), rows * 2)
        calls += 1
        return remembered(second, "hits") > 0

    recovery_s = until(knows_rows_again)
    fault(
        "the row cache's file becomes garbage between two starts",
        f"{calls} of {calls} calls of 1,000 rows answered rightly; a warning in the log, and the cache starts anew",
        recovery_s,
    )


# --- the port ---


def test_a_second_server_on_a_taken_port_is_one_line(serve: Serve, fault: Fault) -> None:
    server = serve(*DOUBLE, cwd=ROOT)
    for workers in ("1", "2"):
        done = run_to_end("-m", "echo", "-l", f"127.0.0.1:{server.port}", "--workers", workers)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "already in use" in done.stderr
    assert answers(server.url)
    saw = "callers of the first: answered rightly; the second: one line on stderr, status 1"
    fault("a second server is started on a taken port", saw)
