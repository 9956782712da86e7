"""The side that asks: a worker for each environment that the formats need, started when it is first asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

from benchmarks.harness.about import ROOT
from benchmarks.harness.environment import Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from benchmarks.serializing.catalogue import Format

__all__ = ["Workers"]


class Workers:
    """Use it in a with statement: its end is theirs. ``here`` is an interpreter to use for all instead."""

    def __init__(self, here: str = "") -> None:
        self._here = here
        self._running: dict[str, tuple[subprocess.Popen[str], IO[bytes]]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process, log in self._running.values():
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # which ends it
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            log.close()

    def ask(self, format: Format, side: str, rows: int) -> dict[str, float]:
        """Seconds to ``serialise`` and ``deserialise`` ``rows`` rows, and the ``bytes`` of the message.

        Raises Unavailable if the format cannot be had, or its round trip does not give the array back.
        """
        process, log = self._worker(format.environment)
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            asked = {"way": format.name, "module": format.module, "side": side, "rows": rows}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"its process ended with status {process.wait()}: {''.join(last)[:300]}")
        found = json.loads(line)
        if "error" in found:
            raise Unavailable(found["error"])
        return {key: float(value) for key, value in found.items()}

    def _worker(self, environment: str) -> tuple[subprocess.Popen[str], IO[bytes]]:
        name = "" if self._here else environment
        if name not in self._running:
            interpreter = Path(self._here) if self._here else ENVIRONMENTS[environment].make()
            log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the worker is)
            process = subprocess.Popen(
                [interpreter, "-m", "benchmarks.serializing.worker"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            self._running[name] = process, log
        return self._running[name]
