"""What a shell offers when a command line is half written."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from graphpipe.cli.command import parser
from graphpipe.cli.completion import script

WORDS = ["metadata", "execute", "run", "serve", "completion"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (["graphpipe", ""], {*WORDS, "--help", "--version"}),
        (["graphpipe", "ex"], {"execute"}),
        (["graphpipe", "execute", "--in"], {"--input"}),
        (["graphpipe", "run", "--intra"], {"--intra-threads"}),
        (["graphpipe", "serve", "--body"], {"--body-bytes-max"}),
        (["graphpipe", "completion", "b"], {"bash"}),
        (["graphpipe", "execute", "digit"], set()),
    ],
)
def test_bash_completes(line, wanted):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    words = " ".join(f"'{word}'" for word in line)
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _graphpipe; printf '%s\\n' \"${{COMPREPLY[@]-}}\""
    done = subprocess.run(["bash", "-c", script(parser(), "bash") + ask], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) >= wanted
    assert not wanted or all(word.startswith(line[-1]) for word in done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_flag_is_in_the_script_and_the_shell_can_read_it(shell):
    text = script(parser(), shell)
    for word in [*WORDS, "input", "output", "timeout-s", "intra-threads", "json"]:
        assert word in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
