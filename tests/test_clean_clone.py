"""What a newcomer does first, from nothing: a clone, an empty home, and two makes at once."""

import subprocess
from pathlib import Path

import pytest

from tests.test_make import ROOT, leave_nothing_running, make, plain_environment, read_until_serving

__all__ = ["leave_nothing_running"]  # pytest finds it here
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def test_serve_and_demo_at_once_in_a_clean_clone_both_answer_and_leave_it_clean(clone: Path, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    environment = plain_environment(HOME=str(home))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PIP_CACHE_DIR"):
        environment.pop(name, None)
    serve, demo = (make(target, "PORT=0", cwd=clone, env=environment) for target in ("serve", "demo"))
    read_until_serving(serve)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, output
    assert "says: 7" in output
    installed = subprocess.check_output([clone / ".venv/bin/python", "-m", "pip", "list"], text=True)
    assert "onnxruntime" in installed
    assert "torch" not in installed
    assert "tensorflow" not in installed
    serve.terminate()
    serve.communicate(timeout=60)
    # Everything is there now: no word of a set-up, and a moment's wait.
    again = make("demo", "PORT=0", cwd=clone, env=environment)
    output, _ = again.communicate(timeout=20)
    assert (again.returncode, "setting up" in output) == (0, False)
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=clone) == b""
    assert list(home.iterdir()) == []


def test_make_clean_leaves_what_git_tracks_and_nothing_else(clone: Path):
    for made in (".venv/bin/x", ".build/y", "graphpipe/__pycache__/z.pyc", ".ruff_cache/x", "dist/x"):
        (clone / made).parent.mkdir(parents=True, exist_ok=True)
        (clone / made).write_text("")
    subprocess.run(["make", "clean"], cwd=clone, env=plain_environment(), check=True, capture_output=True)
    assert subprocess.check_output(["git", "status", "--porcelain", "--ignored"], cwd=clone) == b""
