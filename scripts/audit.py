"""`make audit`: what is known against the versions that are pinned here, asked of those who keep such lists.

pip-audit looks at constraints.txt, govulncheck at what the Go client calls, osv-scanner at every lock file. Each asks a
database on the Internet. Where a tool is not installed, or its database is out of reach, its line says NOT RUN, and why;
that is no failure, and no all-clear either. Status 1 is for what was found, and for a tool that failed for another reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 600

# What the tools say where there is no way to their database.
_OUT_OF_REACH = re.compile(
    r"connection|could not resolve|no such host|name resolution|getaddrinfo|timed? ?out|unreachable|dial tcp|proxy|"
    r"tls handshake|certificate verify|max retries|fetching|temporary failure|HTTP 403|403 Forbidden|502|503",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Tool:
    """A program that audits: ``found`` says by its status and its output whether it found anything."""

    name: str
    command: Sequence[str]
    folder: str
    found: Callable[[int, str], bool]
    how: str


def _pip_found(status: int, output: str) -> bool:
    """pip-audit ends with 1 for findings and for failures; only findings are JSON."""
    start = output.find("{")
    try:
        report, _ = json.JSONDecoder().raw_decode(output[max(start, 0) :])
        return status != 0 and any(each.get("vulns") for each in report["dependencies"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


TOOLS = (
    Tool(
        "pip-audit",
        ("pip-audit", "--format", "json", "--progress-spinner", "off", "--disable-pip", "--no-deps",
         "-r", "constraints.txt"),
        ".",
        _pip_found,
        "pip install pip-audit",
    ),
    Tool(
        "govulncheck",
        ("govulncheck", "./..."),
        "clients/go",
        lambda status, output: status == 3,
        "go install golang.org/x/vuln/cmd/govulncheck@latest",
    ),
    Tool(
        "osv-scanner",
        ("osv-scanner", "scan", "source", "--recursive", "."),
        ".",
        lambda status, output: status == 1,
        "go install github.com/google/osv-scanner/v2/cmd/osv-scanner@latest",
    ),
)  # fmt: skip


def audited(tool: Tool) -> tuple[str, str, bool]:
    """What came of a tool: a line, what it printed if that matters, and whether it is bad."""
    beside = str(Path(sys.executable).parent)  # a tool may be installed in .venv
    program = shutil.which(tool.name, path=f"{os.environ.get('PATH', '')}{os.pathsep}{beside}")
    if program is None:
        return f"NOT RUN: it is not installed ({tool.how})", "", False
    try:
        run = subprocess.run(
            [program, *tool.command[1:]],
            cwd=ROOT / tool.folder,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"NOT RUN: no answer in {WAIT_S} s", "", False
    except OSError as error:
        return f"NOT RUN: {error.strerror}", "", False
    output = f"{run.stdout}\n{run.stderr}"
    if tool.found(run.returncode, run.stdout):
        return "FOUND something", output, True
    if run.returncode == 0:
        return "nothing known", "", False
    lines = [line.strip() for line in output.splitlines() if _OUT_OF_REACH.search(line)]
    if lines:
        return f"NOT RUN: its database is out of reach: {lines[-1][:160]}", "", False
    return f"FAILED with status {run.returncode}", output, True


def main() -> int:
    """Run each, and say what came of it."""
    bad = False
    for tool in TOOLS:
        line, output, is_bad = audited(tool)
        print(f"{tool.name:12} {line}", flush=True)
        if output:
            print(output.strip(), flush=True)
        bad |= is_bad
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
