"""The server's CPU for a small call, the time of a large one, and JSON beside FastAPI: a panel each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.chart import OURS, PALETTE, THEIRS, figure
from benchmarks.harness.result import Result, shown

__all__ = ["draw"]

WIRE, PAUSED = "GraphPipe's own wire, HTTP", "GraphPipe's own wire, with pauses"


def draw(result: Result) -> Figure:
    """Drawn from the tables grpc, large and json; one that was not asked for leaves its panel empty."""
    drawn, axes = figure(columns=3, width=11.5, height=4.2)
    small, large, text = axes
    tables = {name: table.rows for name, table in result.tables.items()}
    by_callers: dict[int, list[dict[str, Any]]] = {}
    for row in tables.get("grpc", []):
        by_callers.setdefault(row["callers"], []).append(row)
    bars: dict[str, tuple[float, str]] = {}
    for callers, rows in by_callers.items():
        for row in rows:
            if row["server"] == PAUSED:
                continue
            bars[f"{_short(row['server'])}, {callers}"] = row["cpu_us"], _colour(row["server"])
    _panel(small, bars, "1 KB: CPU us of the server a call, by callers")
    bars = {_short(row["server"]): (row["ms"], _colour(row["server"])) for row in tables.get("large", [])}
    _panel(large, bars, "77 MB there and back: ms a call")
    bars = {}
    for row in tables.get("json", []):
        for name, key, colour in (("ours", "ours_us", OURS), ("FastAPI", "theirs_us", THEIRS)):
            bars[f"{row['form'].partition(',')[0]}, {row['size']}: {name}"] = row[key] / 1000, colour
    _panel(text, bars, "JSON: CPU ms a call, logarithmic")
    if bars:
        text.set_xscale("log")
        text.set_xlim(0.3 * min(value for value, _ in bars.values()), 6 * max(value for value, _ in bars.values()))
        text.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    drawn.suptitle("Other protocols beside our own, and beside servers that are written for them", x=0.01, ha="left")
    return drawn


def _short(server: str) -> str:
    return "own wire" if server == WIRE else server.removeprefix("GraphPipe, ").partition(", generated")[0]


def _colour(server: str) -> str:
    if not server.startswith("GraphPipe"):
        return THEIRS
    return PALETTE[2] if server == WIRE else OURS


def _panel(ax: Any, bars: Mapping[str, tuple[float, str]], title: str) -> None:
    ax.set_title(title, fontsize=9)
    ax.barh(range(len(bars)), [value for value, _ in bars.values()], color=[colour for _, colour in bars.values()])
    for place, (value, _) in enumerate(bars.values()):
        ax.annotate(shown(value), (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(bars)), [*bars], fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.18)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
