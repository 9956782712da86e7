"""graphpipe-serve with some models, until the block ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.about import ROOT

__all__ = ["Served"]


class Served:
    """Enters with the server's URL."""

    def __init__(self, models: Mapping[str, Path | str], *flags: str) -> None:
        self._command = [str(Path(sys.executable).with_name("graphpipe-serve")), "--listen", "127.0.0.1:0"]
        for name, source in models.items():
            self._command += ["--model", f"{name}={source}"]
        self._command += flags

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "listening on " in line:
                return line.rpartition("listening on ")[2].strip()
        raise RuntimeError(f"the server ended with status {self._process.wait()}: {' '.join(self._command)}")

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate()
