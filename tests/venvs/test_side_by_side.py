"""Two versions of numpy, or of Python, behind one server: each model says in which it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.venvs import making
from graphpipe.venvs.environment import environments, named, root_folder
from tests.serving import serving
from tests.venvs.interpreters import NUMPY_1, environment
from tests.venvs.interpreters import interpreter as interpreter_of

_CODE = """
import sys

import numpy as np


def versions(x: np.ndarray):
    return {
        "y": x + 1,
        "numpy": np.array([np.__version__.encode()], object),
        "python": np.array(sys.version_info[:2]),
    }
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "versions.py").write_text(_CODE)
    return f"{tmp_path / 'versions.py'}:versions"


def answers(source: str, python: str) -> dict[str, tuple[str, list[int]]]:
    """What two models of one server say: the one in it, and the one under ``python``."""
    models = ["--model", f"new={source}", "--model", f"old={source}", "--python", f"old={python}"]
    said = {}
    with serving(*models, env={"GRAPHPIPE_VENVS": str(root_folder())}, tracebacks=True) as server:
        for name in ("new", "old", "new", "old"):
            with graphpipe.Client(f"{server.url}/models/{name}") as client:
                for rows in (1, 100_000):
                    x = np.arange(rows, dtype=np.float32)
                    answer = client.infer({"x": x}, ["y", "numpy", "python"])
                    assert np.array_equal(answer["y"], x + 1)
                said[name] = (answer["numpy"][0].decode(), answer["python"].tolist())
    return said


def assert_both(said: dict[str, tuple[str, list[int]]], version: str) -> None:
    assert said["new"] == (np.__version__, list(sys.version_info[:2]))
    assert said["old"] == ("1.26.4", [int(part) for part in version.split(".")])
    assert int(np.__version__.partition(".")[0]) >= 2


def test_an_older_python_and_numpy_answer_beside_ours(source):
    assert_both(answers(source, environment("numpy1-3.9", "3.9", NUMPY_1, make=False)), "3.9")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12"])
def test_an_environment_is_made_and_its_name_is_enough(source, tmp_path, monkeypatch, version):
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "venvs"))
    said: list[str] = []
    made = making.create("numpy1", [NUMPY_1], python=interpreter_of(version), say=said.append)
    assert made == named("numpy1")
    assert made.packages["numpy"] == "1.26.4"
    assert "numpy" in " ".join(said)
    assert not any(name.startswith("graphpipe") for name in made.packages)
    assert_both(answers(source, "numpy1"), version)
    making.remove("numpy1")
    assert list(environments()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_uv_pip_makes_it(source, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "venvs"))
    monkeypatch.setattr(making, "_uv", lambda: None)
    (tmp_path / "wanted.txt").write_text("numpy == 1.26.*  # the last of its kind\n")
    made = making.create("numpy1", files=[tmp_path / "wanted.txt"])
    assert made.packages["numpy"] == "1.26.4"
    with graphpipe.load(source, python="numpy1") as model:
        assert model.infer({"x": np.ones(2)})["numpy"][0] == b"1.26.4"
    with pytest.raises(graphpipe.LoadError, match=r"cannot be installed:\n(?s:.*)no-such-package-graphpipe"):
        making.create("other", ["no-such-package-graphpipe==1"])
    assert [each.name for each in environments()] == ["numpy1"]


def test_an_interpreter_that_lacks_numpy_is_said(source):
    python = interpreter_of("3.9")
    with pytest.raises(graphpipe.LoadError, match="numpy"):
        graphpipe.load(source, python=python)


def test_a_name_that_is_none_is_said_before_anything_starts(source):
    with pytest.raises(graphpipe.LoadError, match=r"--python nowhere: there is no environment of this name"):
        graphpipe.load(source, python="nowhere")
