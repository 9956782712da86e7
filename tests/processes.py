"""Python processes for tests: forked from a template that has done the imports, or started afresh where that would show.

    process = start("print(1)", [], env=environment, stderr=log)
    process.stdout.read()

Either kind is used as ``subprocess.Popen`` is.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
_MESSAGE_BYTES_MAX = 1 << 16
# Read while an interpreter starts, before any line of ours.
_READ_AT_THE_START = ("PYTHON", "LD_", "LANG", "LC_", "MALLOC_", "GLIBC_", "OMP_", "OPENBLAS_", "MKL_")
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def start(
    code: str,
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    stderr: IO[bytes],
    cwd: str | os.PathLike[str] | None = None,
    afresh: bool = False,
) -> subprocess.Popen[bytes] | Forked:
    """``python -c code args`` with nothing to read, and with a pipe for its output."""
    if not (afresh or _inherits_what_a_fork_cannot()):
        template = _template()
        message = template.message(code, args, env, cwd)
        if message is not None:
            return template.fork(message, stderr)
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env=env, cwd=cwd,
    )  # fmt: skip


def _inherits_what_a_fork_cannot() -> bool:
    """Signals that are ignored stay so from parent to child, as after `nohup`."""
    return any(signal.getsignal(number) is signal.SIG_IGN for number in signal.valid_signals() - _IGNORED_BY_PYTHON)


class Forked:
    """A process that the template has forked. ``status`` is a pipe on which its exit status comes."""

    def __init__(self, pid: int, status: int, stdout: int) -> None:
        self.pid = pid
        self.stdout = os.fdopen(stdout, "rb")
        self.returncode: int | None = None
        self._status = status
        self._looking = threading.Lock()

    def __del__(self) -> None:
        os.close(self._status)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal, or None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended. Raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            with self._looking:
                if self.returncode is None:
                    self.returncode = int(os.read(self._status, 100))
        return self.returncode


@functools.cache
def _template() -> _Template:
    """The one of this process, from its first use on."""
    template = _Template()
    atexit.register(template.close)
    return template


class _Template:
    """``template.py`` at work."""

    def __init__(self) -> None:
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._asking = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "template.py"), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, env=self._env, cwd=ROOT, pass_fds=[theirs.fileno()],
            )  # fmt: skip

    def message(
        self, code: str, args: Sequence[str], env: Mapping[str, str], cwd: str | os.PathLike[str] | None
    ) -> bytes | None:
        """What it is asked for such a process, or None if a fork of it cannot become one."""
        if _read_at_the_start(env) != _read_at_the_start(self._env):
            return None
        wanted = {"code": code, "args": list(args), "env": dict(env), "cwd": os.fspath(cwd or os.getcwd())}
        message = json.dumps(wanted).encode()
        return message if len(message) <= _MESSAGE_BYTES_MAX else None

    def fork(self, message: bytes, stderr: IO[bytes]) -> Forked:
        stdout, their_stdout = os.pipe()
        status, their_status = os.pipe()
        try:
            with self._asking, open(os.devnull, "rb") as nothing:
                socket.send_fds(
                    self._control, [message], [nothing.fileno(), their_stdout, stderr.fileno(), their_status]
                )
                pid = int(self._control.recv(100))
        finally:
            os.close(their_stdout)
            os.close(their_status)
        return Forked(pid, status, stdout)

    def close(self) -> None:
        self._control.close()
        self._process.wait(30)


def _read_at_the_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_THE_START)}
