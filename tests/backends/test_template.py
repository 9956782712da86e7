"""examples/backend-template, as somebody who installed it has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest

import graphpipe
from tests.serving import ROOT, environment

TEMPLATE = ROOT / "examples" / "backend-template"


@pytest.fixture
def installed(tmp_path):
    """A folder with what pip would put there: the module, and the metadata with its entry point."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    shutil.copy(TEMPLATE / "graphpipe_npz.py", tmp_path)
    metadata = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    [(group, entries)] = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_its_own_tests_pass(installed):
    shutil.copy(TEMPLATE / "test_npz.py", installed)
    variables = environment()
    variables["PYTHONPATH"] += f":{installed}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(installed)],
        cwd=installed, env=variables, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_its_models_are_served(installed, tmp_path, serve):
    np.savez(tmp_path / "model.npz", weights=np.eye(3), bias=np.ones(3))
    server = serve("--model", tmp_path / "model.npz", env={"PYTHONPATH": f"{ROOT}:{installed}"})
    assert graphpipe.remote.execute(server.url, np.zeros((2, 3))).tolist() == [[1.0] * 3] * 2
    assert len(graphpipe.remote.metadata(server.url).version) == 64
