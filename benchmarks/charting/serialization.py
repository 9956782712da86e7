"""The first chart of 2018, again: a panel for each side and direction, a bar for each way, hollow those of then."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.chart import LIMIT, OURS, THEIRS, figure
from benchmarks.harness.result import Result

PANELS = tuple((side, direction) for side in ("request", "response") for direction in ("serialise", "deserialise"))
# In the table, and here one bar too many.
NOT_SHOWN = {"memcpy", "graphpipe-new", "graphpipe-warm"}
UNSEEN_S = 0.005  # what the chart of 2018 has as 0 was less than this


def draw(result: Result) -> Figure:
    """Bars of time on a log scale, the slowest way at the top, ours at the bottom; memcpy is a line through them."""
    request = {row["format"]: row for row in result.tables["request"].rows}
    order = sorted(
        (row for name, row in request.items() if name not in NOT_SHOWN),
        key=lambda row: row["serialise_ms"] + row["deserialise_ms"],
    )
    names = [row["format"] for row in order]
    then = {
        (row["format"], row["key"]): row["then_s"] for row in result.tables["then"].rows if row["then_s"] is not None
    }
    drawn, axes = figure(1, 4, width=9.4, height=max(2.6, 0.33 * len(names) + 1.5))
    for axis, (side, direction) in zip(axes, PANELS, strict=True):
        rows = {row["format"]: row for row in result.tables[side].rows}
        for at, name in enumerate(names):
            seconds = rows[name][f"{direction}_ms"] / 1e3
            was = then.get((name, f"{side}_{direction}"))
            place, height = (at, 0.62) if was is None else (at - 0.2, 0.4)
            axis.barh(place, seconds, height, color=_color(name), alpha=0.45 if name == "graphpipe-joined" else 1)
            _label(axis, seconds, place, time_text(seconds), bold=name == "graphpipe")
            if was is not None:
                edge = was or UNSEEN_S
                axis.barh(at + 0.2, edge, 0.32, facecolor="none", edgecolor=_color(name), linewidth=0.9, linestyle="--")
                _label(axis, edge, at + 0.2, f"2018: {time_text(was) if was else 'under 5 ms'}", faint=True)
        if "memcpy" in rows:
            limit = rows["memcpy"][f"{direction}_ms"] / 1e3
            axis.axvline(limit, color=LIMIT, linewidth=1, linestyle=":")
            axis.text(limit, len(names) - 0.35, "memcpy", fontsize=7, color="#777777", ha="center", va="bottom")
        axis.set_title(f"{side}, {direction}", fontsize=9, pad=14)
        axis.set_xscale("log")
        axis.set_xlim(3e-7, 2e4)
        axis.set_xticks([1e-6, 1e-3, 1], ["1 µs", "1 ms", "1 s"], fontsize=8)
        axis.minorticks_off()
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.set_yticks(range(len(names)), [row["way"] for row in order] if axis is axes[0] else [], fontsize=8)
        axis.tick_params(axis="y", length=0)
    for label, name in zip(axes[0].get_yticklabels(), names, strict=True):
        if name.startswith("graphpipe"):
            label.set_color(OURS)
            label.set_fontweight("bold" if name == "graphpipe" else "normal")
    stars = ". * scaled from fewer rows" if any(row["way"].endswith("*") for row in order) else ""
    what = "Time for one, log scale; dashed and hollow: this project's chart of 2018, on a machine of then"
    title = f"{result.title}\n{what}{stars}"
    drawn.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return drawn


def time_text(seconds: float) -> str:
    """Two figures, in the unit that fits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        value = seconds * factor
        if value >= 0.995 or unit == "µs":
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
    raise AssertionError


def _color(name: str) -> str:
    return OURS if name.startswith("graphpipe") else THEIRS


def _label(axis: Any, at: float, height: float, text: str, *, bold: bool = False, faint: bool = False) -> None:
    axis.text(
        at * 1.25,
        height,
        text,
        fontsize=6.5 if faint else 7.5,
        color="#777777" if faint else "#222222",
        va="center_baseline",
        fontweight="bold" if bold else "normal",
    )
