"""The answer to a benchmark's question: tables, with where they come from. What documents and charts show is made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.about import ROOT

__all__ = ["RESULTS", "Result", "Table", "shown"]

RESULTS = ROOT / "benchmarks" / "results"


@dataclass
class Table:
    """Rows of one kind. ``columns`` has the label of each key, in order; a key that a row lacks was not measured."""

    caption: str
    columns: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as documents have it; ours is bold."""
        lines = ["| " + " | ".join(self.columns.values()) + " |", "|---" * len(self.columns) + "|"]
        for row in self.rows:
            cells = [shown(row.get(key), label) for key, label in self.columns.items()]
            if cells[0].startswith("GraphPipe"):
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def row(self, **named: Any) -> dict[str, Any]:
        """The first row with these values. Raises KeyError if there is none."""
        for row in self.rows:
            if all(row.get(key) == value for key, value in named.items()):
                return row
        raise KeyError(f"no row with {named} in {self.caption!r}")


@dataclass
class Result:
    """What one question was answered with. ``command`` is what to run to ask it again."""

    question: str
    title: str
    command: str
    about: dict[str, str]
    tables: dict[str, Table] = field(default_factory=dict)

    def write(self, folder: Path = RESULTS) -> Path:
        """Write ``QUESTION.json`` and return its path."""
        path = folder / f"{self.question}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, question: str, folder: Path = RESULTS) -> Result:
        """What was written last. Raises FileNotFoundError if nothing was."""
        found: Mapping[str, Any] = json.loads((folder / f"{question}.json").read_text())
        tables = {name: Table(**table) for name, table in found["tables"].items()}
        return cls(**{**found, "tables": tables})

    def digest(self) -> str:
        """What a chart that was drawn from this bears, so that one that was not is found."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def source(self) -> str:
        """One line that says where the figures come from."""
        return f"{self.about['machine']}; commit {self.about['commit']}; `{self.command}`"


def shown(value: Any, label: str = "") -> str:
    """A cell: three figures are enough. A column whose label ends in x has ratios."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, Sequence):
        return " to ".join(shown(each, label) for each in value)
    if label.endswith(" x") or label == "x":
        return f"{_small(value)}x" if 0 < value < 0.1 else f"{value:.2f}x" if value < 100 else f"{value:,.0f}x"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else _small(value)


def _small(value: float) -> str:
    """Two figures, and no exponent for what stands beside numbers without one."""
    return f"{float(f'{value:.1e}'):.12f}".rstrip("0")
