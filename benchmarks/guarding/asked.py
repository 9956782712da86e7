"""A process of a tree that does things when it is asked, and what they cost it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.guarding.counting import Method
from benchmarks.harness.tree import SERVE, Tree

__all__ = ["CALLED", "SERVED", "Asked", "NotThere"]

WITHIN = Path(__file__).resolve().parent / "within"
CALLED = "import sys, called; called.main(*sys.argv[1:])"
SERVED = f"import attended; attended.start()\n{SERVE}"


class NotThere(Exception):
    """The tree cannot do what it was asked for."""


class Asked:
    """A process with the tree's code, started at once. ``folder`` is its own."""

    def __init__(self, tree: Tree, method: Method, folder: Path, code: str, arguments: Sequence[str]) -> None:
        self._method, self._folder, self._tree = method, folder, tree
        self._marks: list[float] = []
        folder.mkdir()
        environment = tree.environment()
        # The same sets and the same order of them, whenever it is started; the programs of within/ behind the tree's.
        environment |= {"PYTHONHASHSEED": "0", "PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}{WITHIN}"}
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*method.under(folder), tree.python, "-c", code, *arguments], cwd=folder, env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1,
            )  # fmt: skip

    def ready(self) -> str:
        """The line it says when it is there; from then on it is counted. Raises NotThere if it ended instead."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise NotThere(f"a process of {self._tree.commit} did not start: {self._log.read_text()[-2000:]}")
        self._method.begin(self._process.pid)
        return said

    def ask(self, line: str) -> None:
        """Have it do something. Raises NotThere if it cannot."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        for said in self._process.stdout:
            if said.startswith("{"):
                break
        else:
            raise NotThere(f"a process of {self._tree.commit} ended: {self._log.read_text()[-2000:]}")
        answer = json.loads(said)
        if "error" in answer:
            raise NotThere(answer["error"])
        self._marks = [*self._marks, *answer["marks"]][-2:]

    def cost(self) -> float:
        """Of what was done between the last two marks, in the unit of the method."""
        return self._method.cost(self._folder, self._marks)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # ends the thread or loop that reads it
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
