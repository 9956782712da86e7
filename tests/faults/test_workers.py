"""Worker processes that are killed, crash, grow, or cannot start: what their callers see."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import graphpipe
from graphpipe import errors
from tests.faults.callers import Callers, answers, until
from tests.faults.conftest import Fault, in_words
from tests.faults.servers import DOUBLE, Serve, X, get, is_ready, metric, worker_pids
from tests.serving import ROOT, Server, run_to_end, serving


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """While there is this file, no new worker gets warm."""
    return tmp_path / "hold"


@pytest.fixture
def two_workers(serve: Serve, hold: Path) -> Server:
    return serve(*DOUBLE, "--workers", "2", cwd=ROOT, env={"TEST_HOLD": str(hold)})


def test_a_killed_worker_takes_only_its_own_requests_along_and_readiness_is_gone_until_it_is_back(
    two_workers: Server, hold: Path, fault: Fault
) -> None:
    not_ready = (503, "models: ok\ndraining: ok\nworkers: not ready: 1 of 2 are up\nnot ready\n")
    assert is_ready(two_workers)
    with Callers([two_workers.url], 4) as callers:
        callers.enough()
        hold.touch()
        began = time.monotonic()
        os.kill(worker_pids(two_workers)[0], signal.SIGKILL)
        gone_s = until(lambda: get(f"{two_workers.url}/readyz?verbose") == not_ready)
        hold.unlink()
        until(lambda: is_ready(two_workers))
        recovery_s = time.monotonic() - began
        callers.enough()
    assert metric(two_workers.url, "graphpipe_worker_restarts_total") == 1
    assert callers.wrong == 0
    # It may break what each caller had under way there, and nothing else.
    assert callers.seen["closed"] + callers.seen["NoAnswer"] <= 4
    assert set(callers.seen) <= {"ok", "closed", "NoAnswer"}
    saw = f"{callers}; /readyz is 503 after {in_words(gone_s)}"
    fault("one of 2 workers gets SIGKILL, under load", saw, recovery_s)


def test_a_model_that_crashes_its_process_costs_its_caller_the_answer_and_nobody_else_the_server(
    two_workers: Server, fault: Fault
) -> None:
    with pytest.raises(errors.NoAnswer, match="without an answer"):
        graphpipe.Client(two_workers.url).execute(X, config="segfault")
    began = time.monotonic()
    answered_s = until(lambda: answers(two_workers.url))
    until(lambda: metric(two_workers.url, "graphpipe_worker_restarts_total") == 1 and is_ready(two_workers))
    recovery_s = time.monotonic() - began
    saw = f"its caller: 1 closed before an answer; the next one: answered rightly after {in_words(answered_s)}"
    fault("a model crashes its process (SIGSEGV), 2 workers", saw, recovery_s)


def test_while_no_worker_is_up_callers_are_told_so_at_once(two_workers: Server, hold: Path, fault: Fault) -> None:
    pids = worker_pids(two_workers)
    hold.touch()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    refused: list[errors.NotReady] = []

    def is_refused() -> bool:
        try:
            graphpipe.Client(two_workers.url, timeout=5).execute(X)
        except errors.NotReady as error:
            refused.append(error)
        except errors.NoAnswer:  # from a worker that the signal has not reached yet
            pass
        return len(refused) == 5

    until(is_refused)
    assert {error.http_status for error in refused} == {503}
    assert "0 of 2 workers are up" in refused[0].message
    hold.unlink()
    recovery_s = until(lambda: answers(two_workers.url))
    fault("all workers get SIGKILL, and new ones take long to start", "5 of 5 refused with 503, at once", recovery_s)


def test_workers_whose_parent_is_gone_go_too(fault: Fault) -> None:
    with pytest.raises(AssertionError, match="status -9"), serving(*DOUBLE, "--workers", "2", cwd=ROOT) as server:
        pids = worker_pids(server)
        assert len(pids) == 2
        server.process.kill()
        gone_s = until(lambda: not any(runs(pid) for pid in pids))
    saw = f"the workers drain and end by themselves, after {in_words(gone_s)}: nothing is left that holds the port"
    fault("the parent of 2 workers gets SIGKILL", saw)


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what nobody has collected of it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_workers_that_cannot_start_end_the_server_with_one_line(fault: Fault) -> None:
    done = run_to_end("--model", "no_such_module:function", "--listen", "127.0.0.1:0", "--workers", "2")
    assert done.returncode == 1
    assert done.stderr.count("graphpipe-serve: ") == 1
    assert "Traceback" not in done.stderr
    fault("no worker can start, for want of the model", "it never listens; one line on stderr, status 1")


def test_a_worker_over_its_memory_limit_is_replaced_and_no_request_notices(serve: Serve, fault: Fault) -> None:
    limits = ("--memory-limit-bytes", "250MB", "--drain-grace-s", "0.2")
    server = serve(*DOUBLE, "--workers", "1", *limits, cwd=ROOT)
    (before,) = worker_pids(server)
    with Callers([server.url], 2) as callers:
        callers.enough()
        graphpipe.Client(server.url).execute(X, config=f"leak {300_000_000}")
        recovery_s = until(lambda: before not in (pids := worker_pids(server)) and len(pids) == 1)
        callers.enough()
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}
    assert metric(server.url, "graphpipe_memory_bytes") < 250e6
    fault("a model leaks until --memory-limit-bytes is passed, under load", str(callers), recovery_s)


def test_all_workers_count_into_one_page(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "2", cwd=ROOT)
    for _ in range(40):
        graphpipe.Client(server.url).execute(X)
    until(lambda: metric(server.url, 'graphpipe_rows_total{model="double"}') == 120)
    assert metric(server.url, 'graphpipe_requests_total{code="200",model="double",protocol="graphpipe"}') == 40
    assert metric(server.url, "graphpipe_workers") == 2
