"""How many times as many answers ours gives, beside each peer: identity and squeezenet, on logarithmic axes."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.harness.chart import OURS, THEIRS, figure
from benchmarks.harness.result import Result

__all__ = ["draw"]

TITLES = {
    "identity": "1 KB there and back, {} callers",
    "squeezenet": "Squeezenet, {} callers",
}
# As many callers as are shown, if they were measured: else the most that were.
CALLERS = {"identity": 16, "squeezenet": 8}
TICKS = (0.3, 1, 3, 10, 30, 100, 300, 1000)


def draw(result: Result) -> Figure:
    """A panel for each model, the peers in the order of how near they come on squeezenet."""
    panels = {name: _shown(result.tables[name].rows, callers) for name, callers in CALLERS.items()}
    order = [row["peer"] for row in sorted(panels["squeezenet"], key=lambda row: row["x"])]
    drawn, axes = figure(columns=2, width=9.5, height=1.5 + 0.33 * (len(order) + 1))
    for ax, (name, rows) in zip(axes, panels.items(), strict=True):
        _panel(ax, {row["peer"]: row for row in rows}, order)
        callers = rows[0]["callers"] if rows else CALLERS[name]
        ax.set_title(TITLES[name].format(callers), loc="left", fontsize=11)
    axes[1].set_yticks(range(len(order) + 1), [""] * (len(order) + 1))  # the rows are those of the first panel
    drawn.suptitle(
        "Answers a second of GraphPipe, as a multiple of each server's: same model, same runtime, same minute",
        x=0.01, ha="left", fontsize=12,
    )  # fmt: skip
    return drawn


def _shown(rows: list[dict[str, Any]], callers: int) -> list[dict[str, Any]]:
    measured = {row["callers"] for row in rows}
    shown = callers if callers in measured or not measured else max(measured)
    return [row for row in rows if row["callers"] == shown]


def _panel(ax: Any, rows: dict[str, dict[str, Any]], order: list[str]) -> None:
    names = ["GraphPipe", *order]
    low = min([0.9, *(row["between"][0] * 0.9 for row in rows.values())])
    high = max([2.0, *(row["x"] for row in rows.values())])
    ax.set_xscale("log")
    ax.set_xlim(low, high * 2.2)
    ax.axvline(1, color=OURS, linewidth=2)
    ax.plot(1, 0, "o", color=OURS, markersize=8)
    ax.annotate("1x: ours", (1, 0), (8, 0), textcoords="offset points", va="center", color=OURS, weight="bold")
    for place, name in enumerate(order, start=1):
        if (row := rows.get(name)) is None:
            continue
        x, (least, most) = row["x"], row["between"]
        ax.barh(place, x - 1, left=1, height=0.62, color=THEIRS)
        ax.plot([least, most], [place, place], color="#333333", linewidth=1)
        label = f"{x:.2f}x" if x < 10 else f"{x:,.0f}x"
        ax.annotate(label, (max(x, most, 1), place), (5, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(names)), [_label(name, rows.get(name)) for name in names])
    ax.get_yticklabels()[0].set_color(OURS)
    ax.get_yticklabels()[0].set_weight("bold")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xticks([tick for tick in TICKS if low <= tick <= high * 2.2])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("ours by theirs, logarithmic; thin line: 95 %", fontsize=8)
    ax.tick_params(axis="y", length=0)


def _label(name: str, row: dict[str, Any] | None) -> str:
    return f"{name}, {row['form']}" if row and row["form"] != "bytes" else name
