"""A checkout of this repository whose code serves: any commit's, so that two can be measured by one program.

What measures, and the models that it serves (``served/``), come from the checkout that the program is in; the server, and
the interpreter where it has one of its own, from the tree.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness.process import Running

__all__ = ["ROOT", "Tree"]

ROOT = Path(__file__).resolve().parents[2]
_SERVED = Path(__file__).resolve().parent / "served"
_SERVE = "from graphpipe.server.start import serve_main; serve_main()"


class Tree:
    """A checkout at ``path``. Raises ValueError if there is none, or if its interpreter would serve other code."""

    def __init__(self, path: Path = ROOT) -> None:
        self.path = path.resolve()
        own = self.path / ".venv" / "bin" / "python"
        self.python = str(own) if own.exists() else sys.executable
        found = subprocess.run(
            [self.python, "-c", "import graphpipe; print(graphpipe.__file__)"],
            env=self._environment(), cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if Path(found.stdout.strip()) != self.path / "graphpipe" / "__init__.py":
            raise ValueError(f"{path} has no graphpipe to serve: {found.stdout}{found.stderr}")

    @property
    def commit(self) -> str:
        """The commit that it is at, with a + if its package differs from it."""
        git = ["git", "-C", str(self.path)]
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run([*git, "status", "--porcelain", "graphpipe"], capture_output=True, text=True, check=False)
        return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")

    def has(self, module: str) -> bool:
        """Whether its interpreter has a module."""
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return subprocess.run([self.python, "-c", code], env=self._environment(), check=False).returncode == 0

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GP_", "GRAPHPIPE_"))}
        return {**inherited, "PYTHONPATH": f"{self.path}:{_SERVED}", "PYTHONUNBUFFERED": "1"}

    @contextlib.contextmanager
    def serving(self, *flags: str, cpu: int | None = None, descriptors: int | None = None) -> Iterator[Running]:
        """A server as an operator starts it, on a free port, ended by SIGTERM and, if that takes long, by SIGKILL.

        ``cpu`` is the one that it may use, ``descriptors`` how many files and sockets it may have open.
        """

        def confined() -> None:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        command = [self.python, "-c", _SERVE, "--listen", "127.0.0.1:0", "--drain-grace-s", "0", *flags]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            with log.open("wb") as written:
                process = subprocess.Popen(
                    command, cwd=folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=written, text=True, preexec_fn=confined,
                )  # fmt: skip
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                if "listening on" not in said:
                    raise RuntimeError(f"the server of {self.path} did not start: {said}{log.read_text()}")
                yield Running(process, int(said.rpartition(":")[2]), log)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                assert process.stdout is not None
                process.stdout.close()
