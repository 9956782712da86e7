"""What a shell offers when a command line is half written."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess

import pytest

from graphpipe.cli.completion import script
from tests.serving import environment

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")

WORDS = {"metadata", "execute", "run", "serve", "cache", "completion"}


@pytest.fixture
def offered(shell, folder):
    """What bash offers for a line, the last word of it half written, once it has read the script."""

    def offered(*words):
        name = words[0].replace("-", "_")
        line = " ".join(f"'{word}'" for word in words)
        ask = (
            f"{script('bash')}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            # Whether files are offered in place of words is said by compopt, which exists only where a key was pressed.
            f'compopt() {{ echo "$@"; }}; _{name}_completion {words[0]}; printf "%s\\n" "${{COMPREPLY[@]-}}"'
        )
        done = shell(ask, "bash")
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        return set(done.stdout.decode().split("\n")) - {""}

    return offered


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (["graphpipe", ""], WORDS),
        (["graphpipe", "--"], {"--help", "--version"}),
        (["graphpipe", "ex"], {"execute"}),
        (["graphpipe", "execute", "--in"], {"--input"}),
        (["graphpipe", "run", "--intra"], {"--intra-threads"}),
        (["graphpipe", "serve", "--body"], {"--body-bytes-max", "--body-timeout-s"}),
        (["graphpipe", "serve", "--log-format", "j"], {"json"}),
        (["graphpipe", "completion", "b"], {"bash"}),
        (["graphpipe", "cache", ""], {"stats", "clear"}),
        (["graphpipe-serve", "--batch-s"], {"--batch-sizes"}),
        (["graphpipe-serve", "--log-format", ""], {"human", "json"}),
        (["graphpipe", "run", "dig"], {"-o default"}),
        (["graphpipe-serve", "--model", "dig"], {"-o default"}),
        (["graphpipe-serve", "--tls-cert", ""], {"-o default"}),
    ],
)
def test_bash_completes(offered, line, wanted):
    assert offered(*line) == wanted


def test_the_tab_key_completes_commands_flags_and_files(commands, folder):
    """A bash on a terminal: keys go in, and what stands on the line comes out."""
    ours, theirs = pty.openpty()
    env = environment(PATH=f"{commands}{os.pathsep}{os.environ['PATH']}", TERM="dumb", PS1="$ ")
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""

    def typed(keys, expected):
        nonlocal seen
        os.write(ours, keys.encode())
        said = ""
        while not re.search(expected, said):
            assert select.select([ours], [], [], 60)[0], f"{keys!r}: {said!r}"
            said += os.read(ours, 4096).decode(errors="replace")
        seen += said

    try:
        typed("bind 'set enable-bracketed-paste off'; eval \"$(graphpipe completion bash)\"; echo re''ady\n", "ready")
        typed("graphpipe exec\t", r"execute ")
        typed("\x15graphpipe-serve --access-l\t", r"--access-lines-per-s ")
        typed("\x15graphpipe run digits.o\t", r"digits\.onnx ")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_script_is_clicks_own_for_both_commands_and_the_shell_can_read_it(shell, shell_name):
    text = script(shell_name)
    for command in ("graphpipe", "graphpipe-serve"):
        variable = f"_{command.replace('-', '_').upper()}_COMPLETE={shell_name}_source"
        assert shell(f"{variable} {command}").stdout.decode().strip() in text
    if shutil.which(shell_name):
        done = subprocess.run([shell_name, "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
