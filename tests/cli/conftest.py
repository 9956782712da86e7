"""The commands as a user has them: on the PATH, in a folder with some files, and with a server that is up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphpipe.cli import main
from tests.serving import environment, serving

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """A folder with the console scripts, as an installation makes them."""
    folder = tmp_path_factory.mktemp("bin")
    for name, function in (("graphpipe", "main"), ("graphpipe-serve", "serve_main")):
        script = folder / name
        script.write_text(
            f"#!{sys.executable}\nimport sys\nfrom graphpipe.server.start import {function}\n"
            f"sys.argv[0] = {name!r}\n{function}()\n"
        )
        script.chmod(0o755)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model and an input, to work in."""
    for name in ("digits.onnx", "digit.npy"):
        shutil.copy(DIGITS / name, tmp_path)
    np.savez(tmp_path / "arrays.npz", digit=np.load(DIGITS / "digit.npy"), other=np.zeros(3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shell(commands, folder):
    """Runs a line of shell there; gives the finished process."""

    def run(line, shell="sh"):
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [shell, "-euc", line], cwd=folder, env=environment(PATH=path), capture_output=True, timeout=60, check=False
        )

    return run


@pytest.fixture(scope="session")
def url():
    """A server with the digits and with echo."""
    with serving("-m", DIGITS / "digits.onnx", "-m", "echo") as server:
        yield server.url


@pytest.fixture
def graphpipe(capsys):
    """Runs `graphpipe` in this process; gives its status, what it printed and what it complained of."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        said = capsys.readouterr()
        # A text as status is what Python prints to stderr, with status 1.
        return (1, said.out, f"{code}\n") if isinstance(code, str) else (code, said.out, said.err)

    return run
