"""What signals do: whoever they reach, whenever they come, and what is left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.wire import encode_request
from tests.operation.conftest import Serve, get, until
from tests.processes import start as start_python
from tests.raw_http import Wire, call, request
from tests.serving import ROOT, Server, environment, run_to_end

X = np.arange(3, dtype=np.float32)
COMMAND = "from graphpipe.server.start import serve_main; serve_main()"
NOTED = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(server: Server) -> list[int]:
    return children(server.process.pid)


@contextlib.contextmanager
def busy(server: Server, folder: Path, path: str = "/", until_file: str = "go") -> Iterator[Wire]:
    """A connection with a request whose answer waits for a file."""
    with Wire(server.url) as wire:
        wire.send(request("POST", path, b"".join(encode_request([X], config=f"wait {until_file}"))))
        until((folder / f"{until_file}.begun").exists)
        yield wire


# --- one wish, said more than once ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "workers_first"),
    [
        (signal.SIGTERM, True),
        (signal.SIGINT, False),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_a_whole_group_of_processes_cuts_nothing(
    start: Serve, folder: Path, how: signal.Signals, workers_first: bool
) -> None:
    server = start("double", "--workers", "2", "--access-lines-per-s", "0")
    with busy(server, folder) as wire:
        everybody = [server.process.pid, *workers_of(server)]
        for pid in reversed(everybody) if workers_first else everybody:
            os.kill(pid, how)
        if workers_first:
            until(lambda: len(workers_of(server)) == 1)  # the idle one has drained
            os.kill(workers_of(server)[0], how)
            server.process.send_signal(signal.SIGCONT)  # as systemd does
        time.sleep(0.3)  # whatever it does in haste, it does now
        (folder / "go").touch()
        assert wire.answer().status == 200
    assert server.process.wait(30) == 0
    assert server.log.splitlines()[-1].endswith(" stopped")
    assert " WARNING " not in server.log
    assert "cut" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_that_is_passed_on_to_whoever_got_it_already_is_one(start: Serve, folder: Path, workers: str) -> None:
    server = start("double", "--workers", workers)
    with busy(server, folder) as wire:
        # As `timeout` does: its child, and then the whole group.
        subprocess.run(["sh", "-c", 'kill -TERM "$@"', "sh", *[str(server.process.pid)] * 3], check=True)
        time.sleep(0.3)
        (folder / "go").touch()
        assert wire.answer().status == 200
    assert server.process.wait(30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_after_shutdown_by_a_request_cuts_nothing(start: Serve, folder: Path, workers: str) -> None:
    """A preStop hook that asks for the end is followed by SIGTERM."""
    server = start("double", "--enable-shutdown", "--workers", workers, "--drain-grace-s", "1")
    with busy(server, folder) as wire:
        for _ in range(2):
            assert call(server.url, "POST", "/control/shutdown").status == 200
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        (folder / "go").touch()
        assert wire.answer().status == 200
    assert server.process.wait(30) == 0


@pytest.mark.parametrize(
    ("workers", "path"),
    [
        ("1", "/%61"),
        ("2", "/"),
        pytest.param("1", "/", marks=pytest.mark.slow),
        pytest.param("2", "/%61", marks=pytest.mark.slow),
    ],
)
def test_a_second_signal_ends_it_at_once_and_the_log_says_so(
    start: Serve, folder: Path, workers: str, path: str
) -> None:
    server = start("double", "--workers", workers, "--drain-timeout-s", "600", "-v")
    with busy(server, folder, path, "never") as wire:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: re.search("finishing 1 request; SIGTERM again to stop now|stopping; SIGTERM", server.log))
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert wire.ended()
    assert "cutting 1 request in flight: told to end at once" in server.log
    assert "--drain-timeout-s" not in server.log


# --- before it serves -------------------------------------------------------------------------------------------------

LOADING = {
    "importing": "import time; mark(); time.sleep(600)",
    "inside a library": "import ctypes; mark(); ctypes.CDLL(None).pause()\nwhile True: ctypes.CDLL(None).pause()",
    "warming up": "def f(x):\n  mark()\n  import time\n  time.sleep(600)\n  return x",
}
STARTS = [
    (signal.SIGTERM, "inside a library", "1"),
    (signal.SIGTERM, "warming up", "2"),
    (signal.SIGINT, "importing", "2"),
    (signal.SIGINT, "warming up", "1"),
    *(
        pytest.param(signal.SIGTERM, phase, workers, marks=pytest.mark.slow)
        for phase, workers in [("importing", "1"), ("importing", "2"), ("inside a library", "2"), ("warming up", "1")]
    ),
    pytest.param(signal.SIGINT, "importing", "1", marks=pytest.mark.slow),
]
MARK = "import os, pathlib\ndef mark(): pathlib.Path(os.environ['TEST_FOLDER'], f'begun.{os.getpid()}').touch()\n"
SIGNATURE = """
import graphpipe
if 'f' in globals():
    f = graphpipe.model(inputs={'x': 'float32[n]'}, outputs={'y': 'float32[n]'})(f)
"""


def write_slow(folder: Path, phase: str) -> str:
    """A model that leaves a sign that it is in this phase of its start, and stays there; its source, seen from there."""
    (folder / "slow.py").write_text(MARK + LOADING[phase] + SIGNATURE)
    return "slow:f"


@contextlib.contextmanager
def loading(
    folder: Path, phase: str, *arguments: str, before: tuple[str, ...] = (), code: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is in this phase of its start, for ever."""
    source = write_slow(folder, phase)
    command = [sys.executable, "-c", code] if code else [sys.executable, "-c", COMMAND, "-m", source, *arguments]
    process = subprocess.Popen(
        [*before, *command], cwd=folder, env=environment(TEST_FOLDER=str(folder)), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or list(folder.glob("begun.*")))
        yield process
    finally:
        process.kill()
        process.communicate()


as_process_1 = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
UNSHARED = ("unshare", "--pid", "--fork", "--kill-child")


@as_process_1
@pytest.mark.parametrize(("how", "phase", "workers"), STARTS)
def test_process_1_of_a_container_can_be_ended_while_it_starts(
    folder: Path, phase: str, workers: str, how: signal.Signals
) -> None:
    with loading(folder, phase, "-l", "127.0.0.1:0", "--workers", workers, before=UNSHARED) as process:
        os.kill(children(process.pid)[0], how)
        assert process.wait(10) == 128 + how


@as_process_1
@pytest.mark.parametrize("phase", ["importing", "inside a library"])
def test_a_program_that_serves_as_process_1_can_be_ended_while_it_loads(folder: Path, phase: str) -> None:
    code = "import graphpipe; graphpipe.serve('slow:f', '127.0.0.1:0')"
    with loading(folder, phase, before=UNSHARED, code=code) as process:
        os.kill(children(process.pid)[0], signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM


@pytest.mark.parametrize(("how", "phase", "workers"), STARTS)
def test_a_signal_at_the_start_ends_it_as_if_there_were_no_handler_and_leaves_no_file(
    folder: Path, phase: str, workers: str, how: signal.Signals
) -> None:
    addresses = ["-l", f"unix:{folder}/s", "--metrics-listen", f"unix:{folder}/m"]
    arguments = ["-m", write_slow(folder, phase), *addresses, "--workers", workers]
    with (folder / "log").open("wb") as log:
        process = start_python(COMMAND, arguments, env=environment(TEST_FOLDER=str(folder)), stderr=log, cwd=folder)
    try:
        until(lambda: process.poll() is not None or list(folder.glob("begun.*")))
        assert (folder / "s").exists()
        assert (folder / "m").exists()
        process.send_signal(how)
        status = process.wait(10)
        assert -status == how or status == 128 + how
        assert process.stdout is not None
        assert (process.stdout.read(), (folder / "log").read_bytes()) == (b"", b"")
        assert not (folder / "s").exists()
        assert not (folder / "m").exists()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# --- signals that mean something else ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_other_signals_are_a_line_in_the_log(start: Serve, folder: Path, workers: str) -> None:
    server = start("double", "--workers", workers)
    everybody = [server.process.pid, *workers_of(server)]
    with busy(server, folder) as wire:
        for pid in everybody:
            for how in NOTED:
                os.kill(pid, how)
        until(lambda: all(server.log.count(how.name) == len(everybody) for how in NOTED))
        (folder / "go").touch()
        assert wire.answer().status == 200
    assert [server.process.pid, *workers_of(server)] == everybody


def test_what_is_ignored_stays_ignored(start: Serve, folder: Path) -> None:
    """``nohup graphpipe-serve``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = start("double")
    finally:
        signal.signal(signal.SIGHUP, before)
    ignored = next(
        line
        for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
        if line.startswith("SigIgn")
    )
    assert int(ignored.split()[1], 16) & 1 << signal.SIGHUP - 1
    server.process.send_signal(signal.SIGHUP)
    assert get(f"{server.url}/readyz")[0] == 200


def test_how_a_worker_ended_is_known_even_where_whoever_started_the_server_ignores_sigchld(start: Serve) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        server = start("double", "--workers", "2")
    finally:
        signal.signal(signal.SIGCHLD, before)
    os.kill(workers_of(server)[0], signal.SIGKILL)
    until(lambda: "killed by SIGKILL" in server.log)


# --- after it served --------------------------------------------------------------------------------------------------

AFTERWARDS = """
import faulthandler, os, signal, socket, sys, threading, urllib.request
import graphpipe

names = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
ours, theirs = socket.socketpair()
theirs.setblocking(False)
if "own" in sys.argv[1]:
    for name in names:
        signal.signal(name, lambda *_: None)
    signal.set_wakeup_fd(theirs.fileno())
def found():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return [signal.getsignal(name) for name in names], wakeup
before = found()

def stop(url):
    if "raise" in sys.argv[1]:
        raise LookupError
    if "signal" in sys.argv[1]:
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        request = urllib.request.Request(url + "/control/shutdown", method="POST")
        threading.Thread(target=lambda: urllib.request.urlopen(request)).start()

for _ in range(2):
    try:
        graphpipe.serve("echo", "127.0.0.1:0", on_ready=stop, enable_shutdown=True, drain_grace_s=0.0)
    except LookupError:
        pass
    try:
        graphpipe.serve("echo", "256.0.0.1:0")
    except (graphpipe.GraphPipeError, OSError):
        pass
assert found() == before, (found(), before)
print("as before")
"""


@pytest.mark.parametrize("how", ["request", "signal", "raise", "own request", "own signal", "own raise"])
def test_after_serve_every_handler_is_what_it_was(how: str) -> None:
    done = run_to_end(how, code=AFTERWARDS)
    assert (done.returncode, done.stdout) == (0, "as before\n"), done.stderr


def test_handlers_that_the_program_has_for_other_signals_stay_at_work() -> None:
    code = """if True:
        import faulthandler, os, signal, sys, graphpipe
        faulthandler.register(signal.SIGUSR1, chain=False)  # Python does not know of this handler
        signal.signal(signal.SIGHUP, lambda *_: print("reload", flush=True))
        graphpipe.serve("echo", "127.0.0.1:0", drain_grace_s=0.0)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == b"reload\n"
    process.send_signal(signal.SIGUSR1)
    assert b"most recent call first" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


# --- the file of a Unix socket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("--metrics-listen",)])
def test_the_file_of_a_unix_socket_is_gone_after_the_end(
    start: Serve, folder: Path, arguments: tuple[str, ...]
) -> None:
    more = (*arguments, f"unix:{folder}/metrics") if "--metrics-listen" in arguments else arguments
    assert start("double", *more, listen=f"unix:{folder}/s").stop() == 0
    assert not (folder / "s").exists()
    assert not (folder / "metrics").exists()


def test_it_is_gone_too_where_the_model_cannot_be_loaded(folder: Path) -> None:
    for workers in ("1", "2"):
        done = run_to_end("-m", "no_such_module:f", "-l", f"unix:{folder}/s", "--workers", workers)
        assert done.returncode == 1
        assert not (folder / "s").exists()


def test_a_second_signal_leaves_no_file_either(start: Serve, folder: Path) -> None:
    server = start("double", "--drain-timeout-s", "600", listen=f"unix:{folder}/s")
    with busy(server, folder, until_file="never"):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.stop() == 0
    assert not (folder / "s").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_file_of_a_server_that_came_later_stays(start: Serve, folder: Path, workers: str) -> None:
    path = folder / "s"
    first = start("double", "--workers", workers, listen=f"unix:{path}")
    path.unlink()  # so that the next one can have it
    second = start("double", listen=f"unix:{path}")
    assert first.stop() == 0
    assert graphpipe.remote.execute(second.url, X).tolist() == (2 * X).tolist()


def test_a_server_that_loads_its_models_keeps_its_address(folder: Path) -> None:
    with loading(folder, "importing", "-l", f"unix:{folder}/s"):
        done = run_to_end("-m", "echo", "-l", f"unix:{folder}/s")
        assert done.returncode == 1
        assert "already in use" in done.stderr
        assert (folder / "s").exists()


def test_the_file_of_a_dead_server_is_taken_over(start: Serve, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "s"))
    assert graphpipe.remote.execute(start("double", listen=f"unix:{folder}/s").url, X).tolist() == (2 * X).tolist()
