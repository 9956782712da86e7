"""Faults are noted as they are tried; ``python -m pytest tests/faults --write-table`` puts them into docs/reliability.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.serving import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- faults: written by python -m pytest tests/faults --write-table -->"
END = "<!-- end of faults -->"
_ROWS = pytest.StashKey[list["Row"]]()

Fault = Callable[..., None]


@dataclass(frozen=True)
class Row:
    """One fault: what was done, what callers saw, how long recovery took (None: there was nothing to recover)."""

    done: str
    saw: str
    recovery_s: float | None
    test: str

    def as_markdown(self) -> str:
        recovery = "nothing to recover" if self.recovery_s is None else in_words(self.recovery_s)
        return f"| {self.done} | {self.saw} | {recovery} | `{self.test}` |"


def in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else "less than 0.1 s"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="bring the table in docs/reliability.md up to date")


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """Notes a fault, once its test has seen all of it: ``fault(what was done, what callers saw, recovery_s)``."""
    rows = request.config.stash.setdefault(_ROWS, [])
    function: pytest.Function = request.node

    def note(done: str, saw: str, recovery_s: float | None = None) -> None:
        assert not set("|\n") & set(done + saw)
        rows.append(Row(done, saw, recovery_s, function.originalname))

    return note


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The table is that of one whole run in which all was well, or stays as it is."""
    if exitstatus == pytest.ExitCode.OK and session.config.getoption("write_table", False):
        write_table(session.config.stash.get(_ROWS, []))


def write_table(rows: list[Row]) -> None:
    machine = f"{os.cpu_count()} CPUs ({platform.machine()}, Python {platform.python_version()})"
    head = f"One run, on {machine} with a load average of {os.getloadavg()[0]:.1f}:"
    lines = [head, "", "| fault | what callers saw | recovery | test |", "|---|---|---|---|"]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table = "\n".join([*lines, *(row.as_markdown() for row in rows)])
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")
