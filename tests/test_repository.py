"""The repository itself: what is tracked, how it is written, and that its promises about imports hold."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_BYTES_MAX = 200_000
FILE_LINES_MAX = 700
# Long by nature, or written by a program.
LONG_FILES = re.compile(r"CHANGELOG\.md|(.*/)?generated/.*|.*\.(json|csv|svg)")
BINARY_FILES = re.compile(r".*\.(onnx|npy|npz|bin|png|pt|pb|jar|gz)")

# Built from pieces, so that this file does not hold what it forbids.
HOME_FOLDERS = "|".join(("home", "Users", "root", "work", "mnt"))
FORBIDDEN = {
    # Where Kubernetes' model servers find their models is nobody's machine.
    "a path of somebody's machine": re.compile(
        rf"""(?:^|[\s"'`(=:])/(?!mnt/models\b)(?:{HOME_FOLDERS})/[A-Za-z0-9_.-]"""
    ),
    "a merge that was not finished": re.compile("^(?:<{7} |={7}$|>{7} )", re.MULTILINE),
    "a note to do something later": re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b"),
    "a private key": re.compile("BEGIN (?:[A-Z]+ )?PRIVATE KEY"),
}


def git_ls_files(*options: str) -> list[str]:
    command = ["git", "ls-files", "-z", "--exclude-standard", *options]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return [name for name in listing.stdout.decode().split("\0") if name]


def tracked() -> list[str]:
    """Every file that git tracks here, or would after `git add`."""
    return sorted(name for name in git_ls_files("--cached", "--others") if (ROOT / name).is_file())


def texts() -> list[tuple[str, str]]:
    return [(name, (ROOT / name).read_bytes().decode()) for name in tracked() if not BINARY_FILES.fullmatch(name)]


def test_text_is_utf8_with_plain_line_ends_and_a_last_one():
    for name, text in texts():
        assert "\r" not in text, f"{name} has carriage returns"
        assert not text or text.endswith("\n"), f"{name} ends without a newline"
        assert not text.endswith("\n\n"), f"{name} ends in empty lines"
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name} has spaces at the end of a line"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what):
    found = [name for name, text in texts() if FORBIDDEN[what].search(text)]
    assert not found, f"{what}: {found}"


def test_no_file_is_big_or_too_long_to_read_in_one_go():
    for name in tracked():
        content = (ROOT / name).read_bytes()
        assert len(content) <= FILE_BYTES_MAX, f"{name} has {len(content)} bytes"
        if not LONG_FILES.fullmatch(name) and not BINARY_FILES.fullmatch(name):
            assert content.count(b"\n") <= FILE_LINES_MAX, f"{name} has {content.count(10)} lines: it wants to be two"


def test_nothing_tracked_is_ignored():
    assert git_ls_files("--cached", "--ignored") == []


@pytest.mark.parametrize("place", [".venv/x", ".build/x", "graphpipe/__pycache__/x.pyc", ".hypothesis/x", "dist/x"])
def test_what_the_targets_make_is_ignored(place):
    assert subprocess.run(["git", "check-ignore", "-q", place], cwd=ROOT, check=False).returncode == 0


def test_every_python_file_compiles_and_says_what_it_is_for():
    for name, text in texts():
        if name.endswith(".py") and not name.startswith("tests/generated/"):
            tree = ast.parse(text, name)
            assert not text or ast.get_docstring(tree), f"{name} opens without a docstring"


def test_no_module_is_called_utils():
    vague = re.compile(r"(?:^|/)(?:utils?|helpers?|misc|common)(?:/|\.\w+$)")
    assert [name for name in tracked() if vague.search(name)] == []


def test_make_help_explains_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    explained = dict(re.findall(r"^  make (\S+)\s+(\S.*)$", shown.stdout, re.MULTILINE))
    assert set(explained) == targets
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony[1].split()) == targets


HEAVY = ["aiohttp", "click", "httptools", "lmdb", "onnxruntime", "prometheus_client", "tensorflow", "torch", "uvloop"]


@pytest.mark.parametrize(
    ("code", "may_load"),
    [
        ("import graphpipe", []),
        ("import graphpipe; graphpipe.remote; graphpipe.Client", []),
        ("import graphpipe; graphpipe.load", []),
        ("import graphpipe.server.start", []),
        ("import graphpipe; graphpipe.load('echo')", []),
    ],
)
def test_imports_stay_light(code, may_load):
    code += "\nimport sys; print(' '.join(sorted(name for name in sys.modules if '.' not in name)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert set(run.stdout.split()) & set(HEAVY) <= set(may_load)
