"""The console scripts: what they say where the server extra is not installed, and where it is."""

import subprocess
import sys

import pytest

import graphpipe.commands


@pytest.mark.parametrize(("function", "command"), [("serve_main", "graphpipe-serve"), ("main", "graphpipe")])
def test_a_missing_extra_is_named_in_one_line(monkeypatch, function, command):
    monkeypatch.setattr(graphpipe.commands, "SERVER_MODULES", ("aiohttp", "no_such_module_at_all"))
    with pytest.raises(SystemExit) as exit_:
        getattr(graphpipe.commands, function)()
    assert exit_.value.code == f"{command} needs the server extra: pip install 'graphpipe-rpc[server]'"


@pytest.mark.parametrize("function", ["serve_main", "main"])
def test_the_base_install_alone_reaches_that_line(function):
    """A fresh interpreter that sees the package and the standard library only."""
    root = str(sys.modules["graphpipe"].__path__[0]).rsplit("/", 1)[0]
    code = f"import sys; sys.path.insert(0, {root!r}); from graphpipe.commands import {function} as run; run()"
    process = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert "graphpipe-rpc[server]" in process.stderr


def test_with_the_extra_graphpipe_serve_runs():
    code = "import sys; from graphpipe.commands import serve_main; sys.argv = ['', '--version']; serve_main()"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"graphpipe-serve {graphpipe.__version__}\n"
