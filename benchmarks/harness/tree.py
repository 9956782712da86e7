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
from functools import cached_property
from pathlib import Path

from benchmarks.harness.process import Running

__all__ = ["ROOT", "SERVE", "Tree"]

ROOT = Path(__file__).resolve().parents[2]
_SERVED = Path(__file__).resolve().parent / "served"
# What the command graphpipe-serve runs, where it is now and where it was once.
SERVE = """
try:
    from graphpipe.server.start import serve_main
except ImportError:
    from graphpipe.commands import serve_main
serve_main()
"""


class Tree:
    """What ``where`` names: a folder with a checkout, or a commit of this repository, which is unpacked for the while.

    Raises ValueError if it is neither, or if its interpreter would serve other code.
    """

    def __init__(self, where: str = str(ROOT)) -> None:
        self.path, self._commit = Path(where).resolve(), ""
        if not self.path.is_dir():
            self.path = self._unpacked(where)
        own = self.path / ".venv" / "bin" / "python"
        self.python = str(own) if own.exists() else sys.executable
        found = subprocess.run(
            [self.python, "-c", "import graphpipe; print(graphpipe.__file__)"],
            env=self.environment(), cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if Path(found.stdout.strip()) != self.path / "graphpipe" / "__init__.py":
            raise ValueError(f"{where} has no graphpipe to serve: {found.stdout}{found.stderr}")

    def _unpacked(self, commit: str) -> Path:
        git = ["git", "-C", str(ROOT)]
        found = subprocess.run([*git, "rev-parse", "--short", f"{commit}^{{commit}}"], capture_output=True, text=True)
        if found.returncode:
            raise ValueError(f"{commit} is neither a folder nor a commit of {ROOT}")
        self._commit = found.stdout.strip()
        self._folder = tempfile.TemporaryDirectory()
        archive = subprocess.run(
            [*git, "archive", self._commit, "graphpipe", "pyproject.toml"], capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", self._folder.name], input=archive.stdout, check=True)
        return Path(self._folder.name).resolve()

    @cached_property
    def commit(self) -> str:
        """The commit that it was at when it was first asked, with a + if its package differs from it."""
        if self._commit:
            return self._commit
        git = ["git", "-C", str(self.path)]
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "graphpipe"], capture_output=True, text=True, check=False
        )
        return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")

    def has(self, module: str) -> bool:
        """Whether its interpreter has a module."""
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return subprocess.run([self.python, "-c", code], env=self.environment(), check=False).returncode == 0

    def environment(self) -> dict[str, str]:
        """What its processes see: its package, the models of ``served/``, none of the settings that the shell may hold."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GP_", "GRAPHPIPE_"))}
        return {**inherited, "PYTHONPATH": f"{self.path}:{_SERVED}", "PYTHONUNBUFFERED": "1"}

    @contextlib.contextmanager
    def serving(
        self, *flags: str, listen: str = "127.0.0.1:0", cpu: int | None = None, descriptors: int | None = None
    ) -> Iterator[Running]:
        """A server as an operator starts it, on a free port, ended by SIGTERM and, if that takes long, by SIGKILL.

        ``listen`` may be unix:PATH; the server's port is 0 then. ``cpu`` is the one that it may use, ``descriptors`` how
        many files and sockets it may have open.
        """

        def confined() -> None:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        command = [self.python, "-c", SERVE, "--listen", listen, "--drain-grace-s", "0", *flags]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            with log.open("wb") as written:
                process = subprocess.Popen(
                    command, cwd=folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=written, text=True, preexec_fn=confined,
                )  # fmt: skip
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                if "listening on" not in said:
                    raise RuntimeError(f"the server of {self.path} did not start: {said}{log.read_text()}")
                yield Running(process, 0 if listen.startswith("unix:") else int(said.rpartition(":")[2]), log)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                assert process.stdout is not None
                process.stdout.close()
