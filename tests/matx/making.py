"""Where MATXScript is, and what was scripted there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphpipe.venvs.environment import RECORD, environment_at
from tests.venvs.interpreters import ROOT, environment

__all__ = ["EXAMPLE", "Made", "made"]

EXAMPLE = ROOT / "examples" / "text2ids"
HERE = Path(__file__).parent
_SOURCES = (HERE / "modules.py", HERE / "commas.cc", HERE / "sums.cc", EXAMPLE / "script.py", EXAMPLE / "text2ids.py")
_NEWEST = (3, 12)
_PACKAGE = "matxscript==1.8.1"


@dataclass(frozen=True)
class Made:
    """``python`` has MATXScript; ``folder`` has a saved module in each of its folders."""

    python: str
    folder: Path

    def module(self, name: str) -> str:
        return str(self.folder / name)

    def named(self, folder: Path) -> Path:
        """A folder of environments with this one in it, under the name matx."""
        place = folder / "matx"
        place.mkdir(parents=True)
        for each in ("bin", "lib", "pyvenv.cfg"):
            (place / each).symlink_to(Path(self.python).parent.parent / each)
        about = environment_at(self.python)
        (place / RECORD).write_text(json.dumps({"schema": 1, "python": about.version, "packages": about.packages}))
        return folder


def made(*, make: bool) -> Made:
    """Skips the test where it cannot be made, or is not there and must not be made."""
    python = environment("matx", ".".join(map(str, min(_NEWEST, sys.version_info[:2]))), _PACKAGE, make=make)
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in _SOURCES) + python.encode()).hexdigest()[:16]
    folder = ROOT / ".build" / "matx" / digest
    if not folder.is_dir():
        if not make:
            pytest.skip("the modules are not scripted yet; `make test-all` does it")
        if shutil.which("g++") is None:
            pytest.skip("there is no g++ to script with")
        _script(python, folder)
    return Made(python, folder)


def _script(python: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        new = Path(place, "new")
        new.mkdir()
        for command in (
            [HERE / "modules.py", new, HERE / "commas.cc", HERE / "sums.cc"],
            [EXAMPLE / "script.py", new / "text2ids"],
        ):
            done = subprocess.run(
                [python, *map(str, command)], cwd=place, env={**os.environ, "MATX_DSO_DIR": f"{place}/dso"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        if not folder.is_dir():  # somebody else may have been quicker
            new.rename(folder)
