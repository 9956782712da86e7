"""The short form of ``make soak``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.serving import ROOT, environment


@pytest.mark.slow
def test_after_mixed_traffic_the_server_is_as_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/soak.py", "--minutes", "0.25"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "soak: all as it should be" in done.stdout
