"""A stranger's path: every step of scripts/stranger.py ends with the right answer. How long it takes is no test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import ROOT
from tests.test_make import plain_environment


def table(*arguments: str) -> list[str]:
    command = [sys.executable, "scripts/stranger.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=plain_environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return [line for line in done.stdout.splitlines() if " to " in line]


def test_a_function_and_a_notebook_come_to_their_answers():
    assert len(table("function", "notebook", "--times", "1")) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_clone_and_a_wheel_come_to_their_answers():
    assert len(table("clone", "wheel")) == 2
