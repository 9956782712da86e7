"""What systemd is told, and the sockets that it hands over: by the protocols of sd_notify(3) and sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from tests.serving import environment, run_to_end

X = np.ones(3, np.float32)
ECHO = (sys.executable, "-m", "graphpipe.server.cli", "-m", "echo", "--drain-grace-s", "0")


@contextlib.contextmanager
def hearing(path: Path) -> Iterator[socket.socket]:
    """The end at which a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(path))
        hears.settimeout(30)
        yield hears


@contextlib.contextmanager
def started(*more: str, fds: tuple[int, ...] = (), **env: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*ECHO, *more], env=environment(**env), pass_fds=fds, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_manager_hears_ready_that_it_lives_and_that_it_stops(tmp_path: Path, workers: str) -> None:
    url = f"unix:{tmp_path}/s"
    with (
        hearing(tmp_path / "notify") as hears,
        started(
            "-l", url, "--workers", workers, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000"
        ) as process,
    ):
        said = []
        while not said or not said[-1].startswith("READY=1"):
            said.append(hears.recv(4096).decode())
        assert said[-1] == f"READY=1\nSTATUS=serving at {url}"
        assert set(said[:-1]) <= {"WATCHDOG=1"}
        assert graphpipe.remote.execute(url, X).tolist() == X.tolist()  # not before it can be asked
        assert [hears.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        process.send_signal(signal.SIGTERM)
        while (last := hears.recv(4096)) == b"WATCHDOG=1":
            pass
        assert last.startswith(b"STOPPING=1\n")
        assert process.wait(30) == 0


def test_who_is_not_named_is_told_nothing_and_who_does_not_listen_keeps_nobody_up(tmp_path: Path) -> None:
    with (
        hearing(tmp_path / "notify") as hears,
        started(
            "-l", f"unix:{tmp_path}/s", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000", WATCHDOG_PID="1"
        ),
    ):
        assert hears.recv(4096).startswith(b"READY=1")
        hears.settimeout(0.3)
        with pytest.raises(TimeoutError):  # the watchdog is another process's
            hears.recv(4096)
    with started("-l", f"unix:{tmp_path}/t", NOTIFY_SOCKET=str(tmp_path / "nobody"), WATCHDOG_USEC="1000") as process:
        while not (tmp_path / "t").exists():
            assert process.poll() is None
        assert graphpipe.Client(f"unix:{tmp_path}/t", timeout=20).url


@pytest.mark.parametrize(
    ("family", "workers"),
    [
        pytest.param(socket.AF_INET, "2", id="tcp-2"),
        pytest.param(socket.AF_UNIX, "1", id="unix-1"),
        pytest.param(socket.AF_INET, "1", id="tcp-1", marks=pytest.mark.slow),
        pytest.param(socket.AF_UNIX, "2", id="unix-2", marks=pytest.mark.slow),
    ],
)
def test_a_socket_that_is_handed_over_outlives_its_servers_and_keeps_callers_meanwhile(
    tmp_path: Path, family: socket.AddressFamily, workers: str
) -> None:
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
        listener.listen(16)
        port = listener.getsockname()
        url = f"http://127.0.0.1:{port[1]}" if family == socket.AF_INET else f"unix:{port}"
        number = listener.fileno()
        for _ in range(2):
            answers: list[object] = []
            # Before there is a server, and between two.
            caller = threading.Thread(target=lambda: answers.append(graphpipe.remote.execute(url, X)))  # noqa: B023
            caller.start()
            with started("-l", f"fd:{number}", "--workers", workers, fds=(number,)) as process:
                caller.join(60)
                assert len(answers) == 1
                process.terminate()
                assert process.wait(30) == 0
        assert family == socket.AF_INET or (tmp_path / "s").exists()


def test_what_is_no_socket_to_listen_on_is_refused_in_one_line(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for number, words in (
            (file.fileno(), "is no socket"),
            (datagrams.fileno(), "is no stream socket (ListenStream=)"),
        ):
            os.set_inheritable(number, True)
            with started("-l", f"fd:{number}", fds=(number,)) as process:
                assert process.stderr is not None
                said = process.stderr.read().decode()
                assert process.wait(30) == 1
            assert words in said
            assert said.count("\n") == 1
    for text in ("fd:", "fd:x", "fd:1", "fd:99999999999"):
        ended = run_to_end("-m", "echo", "-l", text)
        assert ended.returncode == 1
        assert "expected fd:N" in ended.stderr
