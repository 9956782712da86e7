"""Real servers for tests: `graphpipe-serve` as a process of its own, on a free port, ended the way an operator ends it.

    with serving("--model", "echo") as server:      # or the fixture: server = serve("--model", "echo")
        graphpipe.remote.execute(server.url, array)

Leaving sends SIGTERM and asserts exit status 0 and a log without a traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.processes import ROOT, Forked, start

__all__ = ["ROOT", "Server", "environment", "run_to_end", "serving"]

_COMMAND = "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
_ANNOUNCEMENT = "listening on "


def environment(**more: str) -> dict[str, str]:
    """What server processes see: this checkout first, and none of the settings that the caller's shell may hold."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GP_", "GRAPHPIPE_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


class Server:
    """A server process that announced its URL."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log_path: Path) -> None:
        self.process = process
        self.log_path = log_path
        self.url = ""
        # Everything until then is kept: a server may say more than its URL.
        self.said = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.said += line.decode()
            if _ANNOUNCEMENT in self.said:
                self.url = self.said.partition(_ANNOUNCEMENT)[2].strip()
                return
        status = process.wait()
        raise AssertionError(f"the server ended with status {status} before it listened: {self.said}{self.log}")

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait until it has, and give its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def serving(
    *args: str | os.PathLike[str],
    listen: str = "127.0.0.1:0",
    code: str = _COMMAND,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    tracebacks: bool = False,
    afresh: bool = False,
) -> Iterator[Server]:
    """A server with these command-line arguments; ``code`` runs another program than ``graphpipe-serve``.

    It ends without the grace that load balancers need, unless it is given one. ``tracebacks`` says that the log may
    hold some: the causes of a model's failures belong there. ``afresh`` starts an interpreter of its own, where a fork
    of one that has done the imports will not do.
    """
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder, "stderr")
        arguments = [str(arg) for arg in args]
        if code == _COMMAND:
            arguments = ["--listen", listen, "--drain-grace-s", "0", *arguments]
        with log_path.open("wb") as log:
            process = start(code, arguments, env=environment(**(env or {})), stderr=log, cwd=cwd, afresh=afresh)
        try:
            server = Server(process, log_path)
            yield server
            status = server.stop()
            assert status == 0, f"the server ended with status {status}: {server.log}"
            assert tracebacks or "Traceback" not in server.log, server.log
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def run_to_end(
    *args: str | os.PathLike[str],
    code: str = _COMMAND,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`graphpipe-serve` where it is expected to end by itself; ``code`` runs another program."""
    arguments = [str(arg) for arg in args]
    with tempfile.TemporaryFile() as log:
        process = start(code, arguments, env=environment(**(env or {})), stderr=log, cwd=cwd)
        assert process.stdout is not None
        overdue = threading.Timer(100, process.kill)
        overdue.start()
        with process.stdout:
            said = process.stdout.read().decode()
        status = process.wait()
        assert overdue.is_alive(), f"it did not end by itself: {said}"
        overdue.cancel()
        log.seek(0)
        return subprocess.CompletedProcess(arguments, status, said, log.read().decode())
