"""The figures of attacks, in words: a line for whoever waits, a table for docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.attacking.attack import Attack
from benchmarks.harness.tree import ROOT

__all__ = ["BEGIN", "END", "PAGE", "RESULTS", "line", "saved", "table", "write_docs"]

PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results" / "attacks.json"
BEGIN = "<!-- attacks: written by python benchmarks/attacks.py --docs -->"
END = "<!-- end of attacks -->"


def line(name: str, found: Mapping[str, Mapping[str, float]]) -> str:
    """One attack, as it was just seen."""
    peak, left, alone, p50, p99, failed, saw = cells(found)
    return (
        f"{name} ({found['time']['attack_s']:.1f} s)\n    memory: peak {peak} MB, left {left} MB; "
        f"innocent: p50 {p50} ms, p99 {p99} ms (alone {alone}), failed {failed}\n    saw: {saw}"
    )


def cells(found: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """One attack's figures, as they are shown."""
    memory, innocent = found["memory"], found["innocent"]
    calls, failed = innocent["calls"], innocent["failed"]
    return (
        number(max(0.0, memory["peak"] / 1e6)),
        number(max(0.0, memory["left"] / 1e6)),
        number(found["alone"].get("p99_ms")),
        number(innocent.get("p50_ms")),
        number(innocent.get("p99_ms")),
        f"{100 * failed / calls:.0f} %" if calls else "-",
        ", ".join(f"{what}: {number(value)}" for what, value in found["saw"].items()) or "nothing",
    )


def number(value: float | None) -> str:
    """As many digits as mean something; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def table(columns: Mapping[str, Any], attacks: Mapping[str, Attack]) -> str:
    """Both columns as a table, an attack in two lines: before, and after."""
    heads = [
        f"{column}: commit {found['commit']}, on {found['machine']} with a load average of {found['load average']}"
        for column, found in columns.items()
    ]
    lines = [
        "; ".join(heads) + ".",
        "",
        "| attack | | peak MB | left MB | p99 alone, ms | p50 | p99 | failed | the others saw |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, attack in attacks.items():
        told = f"**{name}**: {attack.does}"
        for column, found in columns.items():
            if name in found["attacks"]:
                lines.append(f"| {told} | {column} | {' | '.join(cells(found['attacks'][name]))} |")
                told = ""
    return "\n".join(lines)


def saved() -> dict[str, Any]:
    """The columns that the docs show, of those that are saved."""
    columns = json.loads(RESULTS.read_text())
    return {column: columns[column] for column in ("before", "after") if column in columns}


def write_docs(attacks: Mapping[str, Attack]) -> None:
    """Bring the table in docs/reliability.md up to date with what is saved."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(saved(), attacks)}\n\n{END}{rest.partition(END)[2]}")
