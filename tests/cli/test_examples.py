"""Every example that a --help shows is pasted into a shell, and works."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import graphpipe
from tests.processes import start
from tests.serving import environment, serving

COMMANDS = ("graphpipe", "graphpipe metadata", "graphpipe execute", "graphpipe run", "graphpipe completion")


def examples(help_text):
    """The command lines after "examples:", up to the first empty line."""
    block = re.search(r"^examples:\n(.*?)(?:\n\n|\Z)", help_text, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    assert block, help_text
    lines = [line.strip() for line in block[1].splitlines()]
    assert lines
    return lines


@pytest.fixture
def real(url, folder, serve):
    """A line with the addresses that are there in the place of those that it shows."""
    socket = folder / "graphpipe.sock"

    def replaced(line):
        if str(socket.name) in line and not socket.exists():
            serve("-m", "echo", listen=f"unix:{socket}")
        line = line.replace("/tmp/graphpipe.sock", str(socket)).replace("127.0.0.1:9000", url.removeprefix("http://"))
        # Where a shell looks for completions differs from one to the next.
        return line.replace("~/.config/fish/conf.d/", "").replace("~/", "")

    return replaced


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_graphpipe_works_as_it_is_shown(command, shell, real, folder):
    shown = shell(f"{command} --help")
    assert shown.returncode == 0, shown.stderr
    for line in examples(shown.stdout.decode()):
        if line.startswith("graphpipe serve"):
            served(line, folder, shell)
            continue
        if line.startswith("eval") and shutil.which("bash") is None:
            continue
        done = shell(real(line), "bash" if line.startswith("eval") else "sh")
        assert done.returncode == 0, (line, done.stderr.decode())
        assert done.stderr == b"", line
        if ">" not in line and "--output" not in line and not line.startswith("eval"):
            assert done.stdout.strip(), line


def test_every_example_of_graphpipe_serve_works_as_it_is_shown(shell, folder):
    for name in ("model", "cats"):
        (folder / f"{name}.onnx").write_bytes((folder / "digits.onnx").read_bytes())
    (folder / "serve.toml").write_text('[models.digits]\nsource = "digits.onnx"\n')
    shown = shell("graphpipe-serve --help").stdout.decode()
    for line in examples(shown):
        line = line.replace("unix:/tmp/graphpipe.sock", f"unix:{folder}/s.sock").replace("0.0.0.0:9000", "127.0.0.1:0")
        if "--print-config" in line:
            assert "source = " in shell(line).stdout.decode()
        else:
            served(line, folder, shell)


def served(line, folder, shell):
    """Run a line that serves, until it says that it listens."""
    words = re.sub(r"^(graphpipe serve|graphpipe-serve)", "", line)
    code = "from graphpipe.server.start import main; main()" if "graphpipe serve" in line else (
        "from graphpipe.server.start import serve_main; serve_main()")  # fmt: skip
    first = ["serve"] if "graphpipe serve" in line else []
    env = environment(GRAPHPIPE_LISTEN="127.0.0.1:0")
    with open(folder / "log", "wb") as log:
        process = start(code, [*first, *words.split()], cwd=folder, env=env, stderr=log)
    with process.stdout:
        try:
            assert b"listening on " in process.stdout.readline(), line
        finally:
            process.terminate()
            status = process.wait(timeout=30)
    assert status == 0, line


def test_every_example_of_graphpipe_cache_works_as_it_is_shown(shell, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    with serving("-m", folder / "digits.onnx", "--cache", "--cache-dir", folder / ".graphpipe") as server:
        for _ in range(2):
            graphpipe.remote.execute(server.url, np.load(folder / "digit.npy"))
    for line in examples(shell("graphpipe cache --help").stdout.decode()):
        done = shell(line.replace("/var/cache/graphpipe", str(folder / ".graphpipe")))
        assert done.returncode == 0, (line, done.stderr.decode())
        assert done.stdout.strip(), line
