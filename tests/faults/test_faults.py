"""What a caller sees while things go wrong. docs/reliability.md has the table."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphpipe
import graphpipe.wire
from graphpipe import errors
from tests.faults.callers import Callers, answers, until
from tests.serving import ROOT, Server, environment, run_to_end, serving

DOUBLE = ("--model", "double=tests.faults.models:double", "--access-lines-per-s", "0")
X = np.array([1, 2, 3], np.float32)
Serve = Callable[..., Server]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(url: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", get(f"{url}/metrics")[1], re.MULTILINE)
    assert found, name
    return float(found[1])


def worker_pids(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


# --- workers ---


def test_a_killed_worker_takes_only_its_own_requests_along_and_is_back_soon(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "2", cwd=ROOT)
    with Callers([server.url], 4) as callers:
        until(lambda: callers.seen["ok"] > 20)
        for kills in (1, 2):
            os.kill(worker_pids(server)[0], signal.SIGKILL)
            until(
                lambda kills=kills: (
                    metric(server.url, "graphpipe_worker_restarts_total") == kills  # type: ignore[misc]
                    and get(f"{server.url}/readyz")[0] == 200
                )
            )
            enough = callers.seen["ok"] + 20
            until(lambda enough=enough: callers.seen["ok"] > enough)  # type: ignore[misc]
    assert callers.wrong == 0
    # Each kill may break what each caller had under way there, and nothing else.
    assert callers.seen["closed"] + callers.seen["NoAnswer"] <= 2 * 4
    assert set(callers.seen) <= {"ok", "closed", "NoAnswer"}


def test_a_model_that_crashes_its_process_costs_its_caller_the_answer_and_nobody_else_the_server(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "2", cwd=ROOT)
    with pytest.raises(errors.NoAnswer):
        graphpipe.Client(server.url).execute(X, config="segfault")
    assert until(lambda: answers(server.url)) < 5
    assert until(lambda: get(f"{server.url}/readyz")[0] == 200) < 20


def test_while_no_worker_is_up_callers_are_told_so_at_once(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "2", cwd=ROOT)
    for pid in worker_pids(server):
        os.kill(pid, signal.SIGKILL)
    refused: errors.ServiceError | None = None

    def see() -> bool:
        nonlocal refused
        try:
            graphpipe.Client(server.url, timeout=5).execute(X)
        except errors.ServiceError as error:
            refused = error
        except errors.NoAnswer:
            return False
        return True

    until(see)
    if refused is not None:  # unless a new one was quicker
        assert refused.http_status == 503
    assert until(lambda: answers(server.url)) < 20


def test_readiness_is_gone_while_a_worker_is(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "2", cwd=ROOT)
    assert get(f"{server.url}/readyz")[0] == 200
    os.kill(worker_pids(server)[0], signal.SIGKILL)
    until(
        lambda: (
            get(f"{server.url}/readyz?verbose")
            == (503, "models: ok\ndraining: ok\nworkers: not ready: 1 of 2 are up\nnot ready\n")
        )
    )
    until(lambda: get(f"{server.url}/readyz")[0] == 200)


def test_workers_whose_parent_is_gone_go_too() -> None:
    with pytest.raises(AssertionError, match="status -9"), serving(*DOUBLE, "--workers", "2", cwd=ROOT) as server:
        pids = worker_pids(server)
        assert len(pids) == 2
        server.process.kill()
        until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids), 20)


def test_workers_that_cannot_start_end_the_server_with_one_line() -> None:
    done = run_to_end("--model", "no_such_module:function", "--listen", "127.0.0.1:0", "--workers", "2")
    assert done.returncode == 1
    assert done.stderr.count("graphpipe-serve: ") == 1
    assert "Traceback" not in done.stderr


def test_a_worker_over_its_memory_limit_is_replaced_and_no_request_notices(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "1", "--memory-limit-bytes", "400MB", "--drain-grace-s", "0.2", cwd=ROOT)
    (before,) = worker_pids(server)
    with Callers([server.url], 2) as callers:
        until(lambda: callers.seen["ok"] > 20)
        graphpipe.Client(server.url).execute(X, config=f"leak {500_000_000}")
        until(lambda: worker_pids(server) != [before] and len(worker_pids(server)) == 1)
        enough = callers.seen["ok"] + 20
        until(lambda: callers.seen["ok"] > enough)
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}
    assert metric(server.url, "graphpipe_memory_bytes") < 400e6


def test_all_workers_count_into_one_page(serve: Serve) -> None:
    server = serve(*DOUBLE, "--workers", "2", "--metrics-listen", "127.0.0.1:0", cwd=ROOT)
    for _ in range(40):
        graphpipe.Client(server.url).execute(X)
    until(lambda: metric(server.url, 'graphpipe_rows_total{model="double"}') == 120)
    assert metric(server.url, 'graphpipe_requests_total{code="200",model="double",protocol="graphpipe"}') == 40
    assert metric(server.url, "graphpipe_workers") == 2


# --- models ---


def test_a_model_that_hangs_costs_its_caller_its_deadline_and_no_more(serve: Serve) -> None:
    server = serve(*DOUBLE, "--threads", "2", "--drain-timeout-s", "1", cwd=ROOT)
    with pytest.raises((errors.DeadlineExceeded, errors.TimedOut)):
        graphpipe.Client(server.url, timeout=1).execute(X, config="hang")
    # The other thread goes on.
    for _ in range(10):
        assert answers(server.url)


def test_behind_a_model_that_hangs_the_queue_is_bounded_and_says_so(serve: Serve) -> None:
    server = serve(*DOUBLE, "--threads", "1", "--queue-requests-max", "2", "--drain-timeout-s", "1", cwd=ROOT)

    def hang() -> None:
        pytest.raises(errors.GraphPipeError, graphpipe.Client(server.url, timeout=8).execute, X, config="hang")

    # One in the model, two behind it; one after the other, lest the last be refused in favour of nobody.
    stuck = [threading.Thread(target=hang) for _ in range(3)]
    for number, thread in enumerate(stuck):
        thread.start()
        until(lambda: metric(server.url, 'graphpipe_longest_run_seconds{model="double"}') > 0)
        until(lambda number=number: metric(server.url, 'graphpipe_queue_requests{model="double"}') == number)
    with pytest.raises(errors.Overloaded, match="--queue-requests-max"):
        graphpipe.Client(server.url).execute(X)
    for thread in stuck:
        thread.join()


@pytest.mark.parametrize("config", ["raise", "nothing", "text", "complex"])
def test_a_model_that_gives_nonsense_is_500_without_its_words_and_serves_on(config: str) -> None:
    with serving(*DOUBLE, cwd=ROOT, tracebacks=True) as server:
        with pytest.raises(errors.ModelFailed) as failed:
            graphpipe.Client(server.url).execute(X, config=config)
        assert failed.value.http_status == 500
        assert "secret" not in failed.value.message
        assert answers(server.url)
        assert "secret" in server.log or config != "raise"


def test_a_model_file_that_becomes_garbage_changes_nothing_until_the_next_start_and_then_says_so(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "digits.onnx"
    shutil.copy(ROOT / "examples/digits/digits.onnx", path)
    server = serve("--model", path, "--workers", "2")
    pixels = np.zeros((1, 64), np.float32)
    before = graphpipe.Client(server.url).infer({"pixels": pixels})
    path.write_bytes(b"garbage")
    after = graphpipe.Client(server.url).infer({"pixels": pixels})
    assert np.array_equal(before["probabilities"], after["probabilities"])
    os.kill(worker_pids(server)[0], signal.SIGKILL)
    until(lambda: "cannot load it" in server.log)
    # One is left, answers, and readiness says that something is the matter.
    until(lambda: np.array_equal(
        graphpipe.Client(server.url).infer({"pixels": pixels})["probabilities"], before["probabilities"]))  # fmt: skip
    assert get(f"{server.url}/readyz")[0] == 503
    shutil.copy(ROOT / "examples/digits/digits.onnx", path)
    until(lambda: get(f"{server.url}/readyz")[0] == 200)


# --- the machine ---


def test_without_file_descriptors_new_callers_wait_and_old_ones_do_not_notice() -> None:
    # exec, so that the signal at the end reaches the server.
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
    code += "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
    with serving("--listen", "127.0.0.1:0", *DOUBLE, code=code, cwd=ROOT) as server:
        old = graphpipe.Client(server.url)
        assert np.array_equal(old.execute(X), X * 2)
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(120)]
        try:
            for _ in range(10):
                assert np.array_equal(old.execute(X), X * 2)
        finally:
            for connection in crowd:
                connection.close()
        until(lambda: answers(server.url))
        cpu = process_seconds(server.process.pid)
        time.sleep(1)
        assert process_seconds(server.process.pid) - cpu < 0.5  # it does not spin
        old.close()


def process_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_full_disk_is_nobodys_business_but_the_logs(tmp_path: Path) -> None:
    # A limit on file size is a full disk for whoever writes.
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, {resource.RLIM_INFINITY})); "
    code += "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
    arguments = ("--listen", "127.0.0.1:0", "-m", "double=tests.faults.models:double", "--access-lines-per-s", "1000")
    with serving(*arguments, code=code, cwd=ROOT) as server:
        for _ in range(50):
            assert answers(server.url)


# --- the end ---


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_under_load_loses_no_request_that_was_begun(how: signal.Signals, workers: int) -> None:
    with serving(*DOUBLE, "--workers", str(workers), "--drain-grace-s", "0.5", cwd=ROOT) as server:
        with Callers([server.url], 4) as callers:
            until(lambda: callers.seen["ok"] > 50)
            assert server.stop(how) == 0
        # Afterwards nobody listens; until then every call that reached the server was answered.
        assert callers.wrong == 0
        assert set(callers.seen) <= {"ok", "Unreachable", "closed"}


def test_a_rolling_restart_of_two_servers_loses_no_request() -> None:
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    arguments = [(*DOUBLE, "--drain-grace-s", "0.5")] * 2
    first = serving(*arguments[0], listen=f"127.0.0.1:{ports[0]}", cwd=ROOT)
    second = serving(*arguments[1], listen=f"127.0.0.1:{ports[1]}", cwd=ROOT)
    first.__enter__()
    second.__enter__()
    with Callers(urls, 6, patient=True) as callers:
        until(lambda: callers.seen["ok"] > 50)
        for context, port in ((first, ports[0]), (second, ports[1])):
            context.__exit__(None, None, None)
            again = serving(*arguments[0], listen=f"127.0.0.1:{port}", cwd=ROOT)
            again.__enter__()
            if context is first:
                first_again = again
            else:
                second_again = again
            enough = callers.seen["ok"] + 50
            until(lambda enough=enough: callers.seen["ok"] > enough)  # type: ignore[misc]
    first_again.__exit__(None, None, None)
    second_again.__exit__(None, None, None)
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_second_signal_ends_it_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from graphpipe.server.cli import main; main()", "-l", "127.0.0.1:0", *DOUBLE],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    caller = threading.Thread(
        target=lambda: pytest.raises(errors.GraphPipeError, graphpipe.Client(url).execute, X, config="sleep 20")
    )
    caller.start()
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert time.monotonic() - began < 5
    caller.join()
    process.stdout.close()


def test_old_connections_are_closed_with_an_answer_so_that_balancers_can_do_their_work(serve: Serve) -> None:
    server = serve(*DOUBLE, "--connection-age-max-s", "1", cwd=ROOT)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = b"".join(graphpipe.wire.encode_request([X]))
        request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        closing = b""
        for _ in range(100):
            connection.sendall(request)
            closing = connection.recv(65536)
            if b"\r\nConnection: close\r\n" in closing:
                break
            time.sleep(0.05)
        assert b"\r\nConnection: close\r\n" in closing
        assert connection.recv(1) == b""


def test_a_second_server_on_a_taken_port_is_one_line(serve: Serve) -> None:
    server = serve(*DOUBLE, cwd=ROOT)
    for workers in ("1", "2"):
        done = run_to_end("-m", "echo", "-l", f"127.0.0.1:{server.port}", "--workers", workers)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "already in use" in done.stderr
    assert answers(server.url)
