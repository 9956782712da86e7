"""Other interpreters than ours, and environments of them: where they are, and what is said where there are none."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.harness.environment import Environment, Unavailable

__all__ = ["ROOT", "environment", "interpreter"]

ROOT = Path(__file__).resolve().parent.parent.parent
NUMPY_1 = "numpy==1.26.4"


def interpreter(version: str) -> str:
    """A Python of this version, ``3.9`` say: beside ours, as pyenv keeps them, or on PATH. Skips the test without one."""
    if version == ".".join(map(str, sys.version_info[:2])):
        return sys.executable
    beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python{version}"))
    found = str(beside[-1]) if beside else shutil.which(f"python{version}", path=os.environ.get("PATH"))
    if found is None:
        pytest.skip(f"there is no Python {version} here")
    return found


def environment(name: str, version: str, *packages: str, make: bool) -> str:
    """The interpreter of an environment with these packages, kept below .build. Skips the test where it cannot be made,
    or must not be: without ``make`` only one that is there is taken, since nothing is fetched.
    """
    found = Environment(f"venvs-{name}", packages, interpreter(version))
    if not make and not found.is_there():
        pytest.skip(f"the environment {name} is not made yet; `make test-all` makes it")
    try:
        return str(found.make())
    except Unavailable as why:
        pytest.skip(str(why))
