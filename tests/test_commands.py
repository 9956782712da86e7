"""The console scripts: what they say where the server extra is not installed, and where it is."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import graphpipe.server.start


def test_a_missing_extra_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(graphpipe.server.start, "SERVER_MODULES", ("aiohttp", "no_such_module_at_all"))
    with pytest.raises(SystemExit) as exit_:
        graphpipe.server.start.serve_main()
    assert exit_.value.code == "graphpipe-serve needs the server extra: pip install 'graphpipe-rpc[server]'"


@pytest.mark.parametrize("call", ["serve_main()", "main(['serve', '--model', 'echo'])"])
def test_the_base_install_alone_reaches_that_line(call):
    """A fresh interpreter that sees the package and the standard library only."""
    root = str(sys.modules["graphpipe"].__path__[0]).rsplit("/", 1)[0]
    imports = "from graphpipe.server.start import *; from graphpipe.cli import *"
    code = f"import sys; sys.path.insert(0, {root!r}); {imports}; {call}"
    process = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert "graphpipe-rpc[server]" in process.stderr


def test_what_the_commands_look_for_is_what_the_extra_brings():
    project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in project["optional-dependencies"]["server"]]
    assert sorted(graphpipe.server.start.SERVER_MODULES) == sorted(name.replace("-", "_") for name in names)


def run(function, *arguments):
    code = f"import sys; from graphpipe.server.start import {function} as run; sys.argv[0] = ''; run()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("function", "command"), [("serve_main", "graphpipe-serve"), ("main", "graphpipe")])
def test_with_the_extra_both_commands_know_their_version(function, command):
    process = run(function, "--version")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{command} {graphpipe.__version__}\n"


def test_graphpipe_serve_is_also_a_command_of_graphpipe():
    assert "--model" in run("main", "serve", "--help").stdout


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense"])
def test_no_metadata_is_one_line_and_status_1(url):
    process = run("main", "metadata", url)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.count("\n") == 1
    assert url in process.stderr
