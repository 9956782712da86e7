"""README and docs are run as a reader would run them: top to bottom, each block in turn, its output compared.

What is run, in every Markdown file of the repository:

- ``sh`` blocks, by sh in the root of the repository. One that starts a server is left running until the document ends,
  on a free port instead of the one it names, if it is none on a Unix socket; later blocks are pointed there.
- ``python`` blocks, in one namespace per document. One that calls ``graphpipe.serve`` is a server, as above.
- a ``text`` block right after one of those is what it prints; ``...`` stands for anything.

``<!-- not run: REASON -->`` on the line before a block excuses it. Other languages are left to their own suites.
"""

import contextlib
import doctest
import io
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_PORT = 9000
START_S_MAX = 60
SAME = doctest.OutputChecker()
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXCUSE = re.compile(r"<!-- not run: \S.* -->\n\Z")
STARTS_A_SERVER = re.compile(
    r"^(?:graphpipe-(?:serve|tf|onnx|echo|batcher) (?!.*--(?:help|version|print-config))|make serve\b)|graphpipe\.serve\(",
    re.MULTILINE,
)


@dataclass
class Block:
    language: str
    text: str
    line: int
    is_excused: bool = False
    expected: str | None = None


def documents():
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return sorted(name for name in listing.stdout.decode().split() if (ROOT / name).is_file())


def blocks_of(markdown):
    """The blocks to run, each with the output it promises."""
    blocks, end = [], 0
    for match in FENCE.finditer(markdown):
        between = markdown[end : match.start()]
        if match[1] in ("sh", "python"):
            line = markdown.count("\n", 0, match.start()) + 1
            blocks.append(Block(match[1], match[2], line, EXCUSE.search(between) is not None))
        elif match[1] == "text" and blocks and blocks[-1].expected is None:
            blocks[-1].expected = match[2]
        end = match.end()
    return blocks


class Reader:
    """Somebody who works through a document, with the servers and the names that it has brought up so far."""

    def __init__(self, home):
        self.home = home  # what a document leaves there is nobody's
        self.ports = {}  # as the document has them -> as they are
        self.servers = []
        self.names = {"__name__": "__main__"}

    def read(self, block):
        if STARTS_A_SERVER.search(block.text):
            return self.start(block)
        text = self.with_real_ports(block.text)
        if block.language == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(text, f"line {block.line}", "exec"), self.names)
            return self.with_shown_ports(output.getvalue())
        process = subprocess.run(
            ["sh", "-euc", text], cwd=ROOT, env=self.environment(), check=False, capture_output=True
        )
        assert process.returncode == 0, f"line {block.line}: status {process.returncode}\n{process.stderr.decode()}"
        return self.with_shown_ports(process.stdout.decode())

    def start(self, block):
        """Start the server of a block, and return what it has said when it is up."""
        assert block.text.count("\n") == 1 or block.language == "python", (
            f"line {block.line}: a server, and nothing else"
        )
        named = re.search(r"127\.0\.0\.1:(\d+)", block.text)
        shown = int(named[1]) if named else DEFAULT_PORT
        port = free_port()
        has_port = "unix:" not in block.text
        if has_port:
            self.ports[shown] = port
        text = self.with_real_ports(block.text)
        if has_port and not named and text.startswith("graphpipe-serve"):
            text = f"{text.rstrip()} --listen 127.0.0.1:{port}"
        command = ["sh", "-euc", f"exec {text}"] if block.language == "sh" else [sys.executable, "-c", text]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**self.environment(), "PORT": str(port)}, stdout=subprocess.PIPE, process_group=0
        )
        self.servers.append(process)
        deadline = time.monotonic() + START_S_MAX
        last_line = re.compile(r"listening on|Serving on .* until")
        said = ""
        while not last_line.search(said):
            assert time.monotonic() < deadline, f"line {block.line}: no server within {START_S_MAX} s"
            line = process.stdout.readline().decode()
            assert line, f"line {block.line}: the server ended with status {process.wait()}"
            said += line
        return self.with_shown_ports(said)

    def with_real_ports(self, text):
        for shown, real in self.ports.items():
            text = text.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{real}")
        return text

    def with_shown_ports(self, text):
        for shown, real in self.ports.items():
            text = text.replace(f"127.0.0.1:{real}", f"127.0.0.1:{shown}")
        return text

    def environment(self):
        """Commands are found where this Python is, as in an activated .venv."""
        mine = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PORT")}
        return {
            **mine,
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{mine['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }

    def leave(self):
        for process in self.servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.communicate(timeout=START_S_MAX)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def reader(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


def plain(text):
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


# They measure, or load frameworks again and again.
LONG = {
    "docs/bench.md", "docs/comparing.md", "docs/first-hour/texts.md", "examples/detection/README.md",
    "examples/embedding/README.md", "examples/text-and-image/README.md",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in documents()]
)
def test_what_a_document_shows_is_what_a_reader_gets(name, reader):
    blocks = blocks_of((ROOT / name).read_text())
    for block in blocks:
        if block.is_excused:
            continue
        got = reader.read(block)
        if block.expected is not None:
            want = plain(block.expected)
            assert SAME.check_output(want, plain(got), doctest.ELLIPSIS), f"line {block.line} printed:\n{got}"


@pytest.mark.parametrize("name", documents())
def test_links_inside_the_repository_lead_somewhere(name):
    prose = FENCE.sub("", (ROOT / name).read_text())
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", prose):
        assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_readme_is_run_at_all():
    assert len([block for block in blocks_of((ROOT / "README.md").read_text()) if not block.is_excused]) >= 6
