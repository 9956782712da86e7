"""A fuzzer and what came of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scripts.run_tests import BUILD, ROOT, environment

__all__ = ["FOLDER", "ROOT", "Fuzzer", "Outcome", "failed", "run", "table"]

# What fuzzers keep from run to run, in a folder for each.
FOLDER = BUILD / "fuzz"


@dataclass
class Outcome:
    """What a fuzzer did. ``coverage`` and ``corpus`` are in its own words; ``findings`` are files, or what it said."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    coverage: str = ""
    corpus: str = ""
    findings: Sequence[str] = ()
    not_run: str = ""


class Fuzzer(Protocol):
    """One target of one fuzzing engine."""

    @property
    def name(self) -> str: ...

    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""

    def fuzz(self, seconds: int) -> Outcome:
        """Run it for so long."""


def run(
    command: Sequence[str], log: Path, folder: Path = ROOT, more: Mapping[str, str] | None = None
) -> tuple[int, str, float]:
    """Run a command with its output in a log: its status, the output, and the seconds it took."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        done = subprocess.run(
            command, cwd=folder, env={**environment(), **(more or {})}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    return done.returncode, log.read_text(errors="replace"), time.monotonic() - began


def failed(name: str, said: str, log: Path) -> Outcome:
    """A fuzzer that ended otherwise than it should."""
    sys.stderr.write(said[-3000:])
    return Outcome(name, findings=[f"it failed: {log.relative_to(ROOT)}"])


def table(outcomes: Sequence[Outcome]) -> str:
    """What all did, a line each, with what they found at the end."""
    lines = [f"{'target':<16}{'executions':>12}{'a second':>10}{'seconds':>9}{'coverage':>10}{'corpus':>9}  findings"]
    for each in outcomes:
        if each.not_run:
            lines.append(f"{each.name:<16}NOT RUN: {each.not_run}")
            continue
        pace = each.executions / each.seconds if each.seconds else 0.0
        numbers = f"{each.executions:>12,}{pace:>10,.0f}{each.seconds:>9.0f}{each.coverage:>10}{each.corpus:>9}"
        lines.append(f"{each.name:<16}{numbers}  {len(each.findings)}")
    lines += [f"{each.name}: {finding}" for each in outcomes for finding in each.findings]
    return "\n".join(lines)
