"""An environment of its own for what cannot be installed beside us: a peer's server, a format's library.

Below .build/bench, which git ignores; made by uv, which takes seconds where pip takes minutes, and made again only where
what it is to hold has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.about import ROOT

__all__ = ["BUILD", "Environment", "Unavailable"]

BUILD = ROOT / ".build" / "bench"
LIMIT_S = 900


class Unavailable(Exception):
    """It will not install, or not run, here; the text says why. Whoever measures leaves it out, and says so."""


@dataclass(frozen=True)
class Environment:
    """A Python environment with ``packages`` in it, as requirements are written.

    ``python`` is the interpreter to make it with, ours unless named.
    """

    name: str
    packages: Sequence[str]
    python: str = sys.executable

    @property
    def folder(self) -> Path:
        return BUILD / "environments" / self.name

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    def is_there(self) -> bool:
        stamp = self.folder / "made"
        return stamp.exists() and stamp.read_text() == self._state()

    def make(self) -> Path:
        """The path of its interpreter, installed first if need be. Raises Unavailable."""
        with _locked(BUILD / f"{self.name}.lock"):
            if not self.is_there():
                shutil.rmtree(self.folder, ignore_errors=True)
                uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
                if uv is None:
                    raise Unavailable("uv is not installed: `make bench-setup` brings it")
                self._run([uv, "venv", "--quiet", "--python", self.python, str(self.folder)])
                self._run([uv, "pip", "install", "--quiet", "--python", str(self.interpreter), *self.packages])
                (self.folder / "made").write_text(self._state())
        return self.interpreter

    def versions(self, *names: str) -> dict[str, str]:
        """The versions that it holds, of those named that it has."""
        code = (
            "import importlib.metadata as m, json, sys\n"
            "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
        )
        done = subprocess.run([str(self.make()), "-c", code], capture_output=True, text=True, check=True)
        have = json.loads(done.stdout)
        return {name: have[key] for name in names if (key := name.lower().replace("_", "-")) in have}

    def megabytes(self) -> float:
        """What it holds on disk, in 10^6 bytes."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*") if not path.is_symlink()) / 1e6

    def _state(self) -> str:
        return hashlib.sha256(json.dumps([*self.packages, self.python]).encode()).hexdigest()

    def _run(self, command: Sequence[str]) -> None:
        environment = {**os.environ, "UV_CACHE_DIR": str(BUILD / "uv"), "UV_LINK_MODE": "hardlink"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self.name} was not installed within {LIMIT_S} s") from None
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise Unavailable(f"{self.name} will not install: {' '.join(said)[:300]}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
