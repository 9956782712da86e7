"""A program that says what it has to say in lines of JSON: a server its port, callers what they counted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.harness.environment import Unavailable

__all__ = ["Program"]

_HERE = Path(__file__).resolve().parent
_END_S = 5.0


class Program:
    """A file of this folder, run by ``python``; a context, at whose end nothing of it is left."""

    def __init__(self, python: str | Path, file: str, arguments: Sequence[object], pythonpath: str = "") -> None:
        self.file = file
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GP_", "GRAPHPIPE_", "PYTHONPATH"))}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(python), str(_HERE / file), *map(str, arguments)],
            env={**inherited, **({"PYTHONPATH": pythonpath} if pythonpath else {})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(_END_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file is not None
            file.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self) -> dict[str, Any]:
        """The next line. Raises Unavailable, with the last that it wrote to stderr, if it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            wrote = [each.strip() for each in self._errors if each.strip()] or ["it said nothing"]
            raise Unavailable(f"{self.file} ended: {wrote[-1][:300]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def asked(self, **told: Any) -> dict[str, Any]:
        """What it answers to a line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and what it wrote says why
            self._process.stdin.write(json.dumps(told) + "\n")
        return self.said()
