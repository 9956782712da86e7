"""The figures of attacks, in words: a line for whoever waits, and tables for docs/reliability.md and SECURITY.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.attacking.attack import Attack
from benchmarks.harness.tree import ROOT

__all__ = [
    "BEGIN",
    "END",
    "HEAD",
    "PAGE",
    "RESULTS",
    "SECURITY",
    "line",
    "saved",
    "table",
    "with_figures",
    "write_docs",
]

PAGE = ROOT / "docs" / "reliability.md"
SECURITY = ROOT / "SECURITY.md"
RESULTS = ROOT / "benchmarks" / "results" / "attacks.json"
BEGIN = "<!-- attacks: written by python benchmarks/attacks.py --docs -->"
END = "<!-- end of attacks -->"
# Of the table in SECURITY.md, whose rows name what they were measured as; the two cells behind that are written from it.
HEAD = "| attack | what happens | measured as | memory, MB: before, peak, after | p99, ms: alone, meanwhile | test |"
_MEASURED, _MEMORY, _P99 = 3, 4, 5
Figures = Mapping[str, Mapping[str, float]]


def line(name: str, found: Figures) -> str:
    """One attack, as it was just seen."""
    p50, failed, saw = _rest(found)
    return (
        f"{name} ({found['time']['attack_s']:.1f} s)\n    memory, MB: {_memory(found)}; "
        f"innocent p99, ms: {_p99(found)}; p50 {p50}, failed {failed}\n    saw: {saw}"
    )


def _memory(found: Figures) -> str:
    return " → ".join(f"{found['memory'][when] / 1e6:,.0f}" for when in ("before", "peak", "after"))


def _p99(found: Figures) -> str:
    if "innocent" not in found:
        return "nobody waits"
    return f"{number(found['alone'].get('p99_ms'))} / {number(found['innocent'].get('p99_ms'))}"


def _rest(found: Figures) -> tuple[str, str, str]:
    """The innocent caller's median, how many of his calls failed, and what the others saw."""
    innocent = found.get("innocent", {"calls": 0, "failed": 0})
    calls, failed = innocent["calls"], innocent["failed"]
    saw = ", ".join(f"{what}: {number(value)}" for what, value in found["saw"].items()) or "nothing"
    return number(innocent.get("p50_ms")), f"{100 * failed / calls:.0f} %" if calls else "-", saw


def number(value: float | None) -> str:
    """As many digits as mean something; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def table(kept: Mapping[str, Any], attacks: Mapping[str, Attack]) -> str:
    """What is kept, a line for each attack."""
    found = {name: kept["attacks"][name] for name in attacks if name in kept["attacks"]}
    loads = [each["load average"] for each in found.values()]
    lines = [
        f"{_commits(found)}, on {kept['machine']} with load averages of {min(loads):g} to {max(loads):g}.",
        "",
        "| attack | memory, MB: before, peak, after | p99, ms: alone, meanwhile | p50 | failed | the others saw |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| **{name}**: {attacks[name].does} | {_memory(each)} | {_p99(each)} | {' | '.join(_rest(each))} |"
        for name, each in found.items()
    ]
    return "\n".join(lines)


def _commits(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Which commit was attacked, and what was attacked by those that are not like most."""
    attacked: dict[str, list[str]] = {}
    for name, each in found.items():
        attacked.setdefault(each["commit"], []).append(name)
    most, *others = sorted(attacked, key=lambda commit: -len(attacked[commit]))
    return f"Commit {most}" + "".join(f" (commit {commit}: {', '.join(attacked[commit])})" for commit in others)


def with_figures(text: str, kept: Mapping[str, Any]) -> str:
    """SECURITY.md's text with the figures of what is kept in the rows that name it."""
    front, head, rest = text.partition(HEAD)
    rows, end, behind = rest.partition("\n\n")
    return front + head + "\n".join(_row(row, kept["attacks"]) for row in rows.split("\n")) + end + behind


def _row(row: str, attacks: Mapping[str, Figures]) -> str:
    cells = row.split("|")
    if len(cells) > _P99 and (found := attacks.get(cells[_MEASURED].strip())):
        cells[_MEMORY], cells[_P99] = f" {_memory(found)} ", f" {_p99(found)} "
    return "|".join(cells)


def saved() -> dict[str, Any]:
    """What is kept."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text())
    return kept


def write_docs(attacks: Mapping[str, Attack]) -> None:
    """Bring the tables up to date with what is kept."""
    kept = saved()
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(kept, attacks)}\n\n{END}{rest.partition(END)[2]}")
    SECURITY.write_text(with_figures(SECURITY.read_text(), kept))
