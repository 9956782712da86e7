"""What a type checker says of a user's program: of each planted mistake something, at its line; of good use, nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.type_checked import mypy_errors

HERE = Path(__file__).parent
PROGRAMS = ("planted.py", "clean.py")
Findings = set[tuple[str, int]]


def by_mypy(folder: Path) -> Findings:
    return mypy_errors(folder, *PROGRAMS)


def by_pyright(folder: Path) -> Findings:
    """As pyright finds it, in the strictness that it has by itself."""
    settings = {"include": PROGRAMS, "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    said = json.loads(run(folder, "basedpyright", "--outputjson", "--pythonpath", sys.executable))
    assert said["summary"]["filesAnalyzed"] == len(PROGRAMS)
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in said["generalDiagnostics"]}


def run(folder: Path, checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1), f"{done.stdout}{done.stderr}"
    return done.stdout


# basedpyright is pyright with everything that it needs in wheels; the one called pyright fetches itself by npm.
@pytest.mark.parametrize(("checker", "find"), [("mypy", by_mypy), ("basedpyright", by_pyright)])
def test_a_type_checker_finds_five_planted_mistakes_and_nothing_else(
    tmp_path: Path, checker: str, find: Callable[[Path], Findings]
):
    if importlib.util.find_spec(checker) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{checker} is not installed")
    planted = set()
    for name in PROGRAMS:
        shutil.copy(HERE / name, tmp_path)
        lines = (HERE / name).read_text().splitlines()
        planted |= {(name, number) for number, line in enumerate(lines, 1) if line.endswith("# planted")}
    assert len(planted) == 5
    assert find(tmp_path) == planted
