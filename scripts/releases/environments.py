"""Clean environments, and a wheel that is installed there and has to serve."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from scripts.one_version import current
from scripts.releases.build import NotARelease

__all__ = ["Python", "lower_bounds", "pythons", "try_out"]

ROOT = Path(__file__).resolve().parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
# What a user of ONNX models installs; TensorFlow and PyTorch have their only version as their lower bound.
EXTRAS = ("server", "onnx")


@dataclass(frozen=True)
class Python:
    """An interpreter of this machine."""

    version: str  # 3.11
    program: str

    @property
    def is_ours(self) -> bool:
        return self.version == f"{sys.version_info.major}.{sys.version_info.minor}"


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def pythons() -> list[Python]:
    """One of each version that pyproject.toml names, oldest first, as far as this machine has them."""
    classifiers = project()["classifiers"]
    assert isinstance(classifiers, list)
    versions = [match[1] for each in classifiers if (match := re.fullmatch(r".*:: (3\.\d+)", each))]
    found = [Python(version, program) for version in versions if (program := program_of(version))]
    if not any(python.is_ours for python in found):
        raise NotARelease(f"{sys.executable} is none of the versions that pyproject.toml names")
    return found


def program_of(version: str) -> str | None:
    """The interpreter of a version: on PATH, or one that pyenv has."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return getattr(sys, "_base_executable", sys.executable)
    candidates = [f"python{version}"]
    if root := os.environ.get("PYENV_ROOT") or said_by("pyenv", "root"):
        candidates += sorted(map(str, Path(root).glob(f"versions/{version}.*/bin/python{version}")))
    return next((each for each in candidates if said_by(each, "-c", "import venv, ensurepip; print(1)")), None)


def said_by(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def lower_bounds() -> list[str]:
    """Every lower bound of what is installed without a framework, or with ONNX Runtime, as a pin."""
    table = project()
    optional = table["optional-dependencies"]
    assert isinstance(optional, dict)
    lines = [*map(str, table["dependencies"]), *(line for extra in EXTRAS for line in optional[extra])]  # type: ignore[call-overload]
    pins = []
    for requirement in map(Requirement, lines):
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                pins.append(f"{requirement.name}=={specifier.version}")
    return sorted(pins)


def try_out(python: Python, folder: Path, wheel: Path, pinned: Path) -> None:
    """Install as users do, first alone and then with ONNX Runtime, and run the smoke test after each."""
    must([python.program, "-m", "venv", str(folder)], "an environment")
    program = str(folder / "bin" / "python")
    cache = [] if "PIP_CACHE_DIR" in os.environ else ["--no-cache-dir"]
    pip = [program, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *cache]
    for extra in ("", "[onnx]"):
        must([*pip, "--constraint", str(pinned), f"{wheel}{extra}"], f"pip install {wheel.name}{extra}")
        scratch = folder / f"smoke{extra}"
        scratch.mkdir()
        shutil.copytree(ROOT / "examples" / "digits", scratch / "digits")
        # -I: nothing of this clone is on its path.
        must([program, "-I", str(SMOKE), current(), "onnx" if extra else "base"], f"{wheel.name}{extra}", scratch)
    must([program, "-m", "pip", "--disable-pip-version-check", "check"], "pip check")


def must(command: list[str], what: str, folder: Path = ROOT) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GP_", "GRAPHPIPE_", "PYTHON"))
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotARelease(f"{what} failed with {command[0]}:\n{done.stdout}{done.stderr}")
