"""What a shell offers when a command line is half written."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess

import pytest

from graphpipe.shells import script
from tests.serving import environment

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")

MODEL = "def score(x):\n    return x\n\ndef _own():\n    pass\n\nclass Scale:\n    pass\n"
WORDS = {
    "metadata", "execute", "run", "bench", "compare", "explain", "fuse", "package", "problem", "serve",
    "keys", "venv", "cache",
    "completion",
}  # fmt: skip


@pytest.fixture
def offered(shell, folder):
    """What bash offers for a line, the last word of it half written, once it has read the script."""

    def offered(*words):
        name = words[0].replace("-", "_")
        line = f"{shlex.join(words[:-1])} {words[-1]}"
        ask = (
            f"{script('bash')}\nCOMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; "
            # Whether files are offered in place of words is said by compopt, which exists only where a key was pressed.
            f'compopt() {{ echo "$@"; }}; _{name}_completion {words[0]} {shlex.quote(re.split("[:=]", words[-1])[-1])}; '
            'printf "%s\\n" "${COMPREPLY[@]-}"'
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
        (["graphpipe", "ex"], {"execute", "explain"}),
        (["graphpipe", "execute", "--in"], {"--input"}),
        (["graphpipe", "run", "--intra"], {"--intra-threads"}),
        (["graphpipe", "bench", "--conc"], {"--concurrency"}),
        (["graphpipe", "bench", "http://h", "http:"], {"//127.0.0.1:9000"}),
        (["graphpipe", "serve", "--body"], {"--body-bytes-max", "--body-timeout-s"}),
        (["graphpipe", "serve", "--log-format", "j"], {"json"}),
        (["graphpipe", "completion", "b"], {"bash"}),
        (["graphpipe", "cache", ""], {"stats", "clear"}),
        (["graphpipe-serve", "--batch-s"], {"--batch-sizes"}),
        (["graphpipe-serve", "--log-format", ""], {"human", "json"}),
        (["graphpipe", "run", "dig"], {"-o default"}),
        (["graphpipe-serve", "--model", "dig"], {"-o default"}),
        (["graphpipe-serve", "--tls-cert", ""], {"-o default"}),
        (["graphpipe", "execute", ""], {"http://127.0.0.1:9000"}),
        (["graphpipe", "metadata", "http:"], {"//127.0.0.1:9000"}),  # bash puts it behind the colon
        (["graphpipe", "execute", "http://127.0.0.1:9000", "--ti"], {"--timeout-s"}),
        (["graphpipe", "execute", "http://h", "--input", "arrays.npz:"], {"digit", "other"}),
        (["graphpipe", "execute", "http://h", "--input", "x=arrays.npz:d"], {"digit"}),
        (["graphpipe", "execute", "http://h", "--input", "x=dig"], {"-o default"}),
        (["graphpipe", "run", "model:"], {"score", "Scale"}),
        (["graphpipe", "run", "package.model:"], set()),
        (["graphpipe", "serve", "--model", "m=model.py:sc"], {"score"}),
        (["graphpipe", "execute", "http://h", "--image-preset", "im"], {"imagenet", "imagenet-caffe"}),
    ],
)
def test_bash_completes(offered, folder, line, wanted):
    (folder / "model.py").write_text(MODEL)
    assert offered(*line) == wanted


# What is typed before the tab key, and what then stands on the line.
TYPED = [
    ("graphpipe exec", "graphpipe execute "),
    ("graphpipe-serve --access-l", "graphpipe-serve --access-lines-per-s "),
    ("graphpipe run digits.o", "graphpipe run digits.onnx "),
    ("graphpipe run model:sc", "graphpipe run model:score "),
    ("graphpipe-serve --model m=model.py:sc", "graphpipe-serve --model m=model.py:score "),
    ("graphpipe execute ht", "graphpipe execute http://127.0.0.1:9000 "),
    ("graphpipe execute http:", "graphpipe execute http://127.0.0.1:9000 "),
    ("graphpipe execute http://h:9 --ti", "graphpipe execute http://h:9 --timeout-s "),
    ("graphpipe execute http://h:9 -i arrays.npz:d", "graphpipe execute http://h:9 -i arrays.npz:digit "),
    ("graphpipe execute http://h:9 -i x=digit.n", "graphpipe execute http://h:9 -i x=digit.npy "),
    (
        "graphpipe execute http://h:9 -i arrays.npz:digit --as",
        "graphpipe execute http://h:9 -i arrays.npz:digit --ask ",
    ),
]
STARTS = {
    "bash": (
        ["--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; eval \"$(graphpipe completion bash)\"",
    ),
    "zsh": (
        ["-f", "-i"],
        "unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source <(graphpipe completion zsh); PS1='$ '",
    ),
}


@pytest.mark.parametrize("shell_name", STARTS)
def test_the_tab_key_completes_commands_flags_files_and_values_with_colons(commands, folder, shell_name):
    """A shell on a terminal: keys go in, and what stands on the line comes out."""
    if shutil.which(shell_name) is None:
        pytest.skip(f"there is no {shell_name} here")
    (folder / "model.py").write_text(MODEL)
    ours, theirs = pty.openpty()
    env = environment(PATH=f"{commands}{os.pathsep}{os.environ['PATH']}", TERM="dumb", PS1="$ ")
    arguments, start = STARTS[shell_name]
    process = subprocess.Popen(
        [shell_name, *arguments],
        cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)

    def typed(keys, expected):
        os.write(ours, keys.encode())
        said = ""
        while not re.search(expected, said):
            assert select.select([ours], [], [], 60)[0], f"{keys!r}: {said!r}"
            said += os.read(ours, 4096).decode(errors="replace")

    try:
        typed(f"{start}; stty columns 200; echo re''ady\n", "ready\r\n")
        for keys, line in TYPED:
            # Shells redraw only what they need to: the line is printed, by an echo in front of it.
            typed(f"\x15{keys}\t", "")
            typed("\x01echo '\x05'\n", f"\n{re.escape(line.strip())} ?\r\n")  # zsh's space goes with the next key
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_fish_completes_the_same(commands, folder):
    (folder / "model.py").write_text(MODEL)
    asked = "; ".join(f"complete -C {shlex.quote(keys)} | string split -f 1 \\t" for keys, _ in TYPED)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"graphpipe completion fish | source; {asked}"],
        cwd=folder, env=environment(PATH=f"{commands}{os.pathsep}{os.environ['PATH']}", HOME=str(folder)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [line.split()[-1] for _, line in TYPED]


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_script_is_what_click_gives_for_both_commands_and_the_shell_can_read_it(shell, shell_name):
    text = script(shell_name)
    for command in ("graphpipe", "graphpipe-serve"):
        variable = f"_{command.replace('-', '_').upper()}_COMPLETE={shell_name}_source"
        assert shell(f"{variable} {command}").stdout.decode().strip() in text
    if shutil.which(shell_name):
        done = subprocess.run([shell_name, "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
