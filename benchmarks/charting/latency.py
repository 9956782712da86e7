"""p50 and p99 against offered load, a panel for each size."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.chart import LIMIT, OURS, PALETTE, figure
from benchmarks.harness.result import Result, shown

LOOK: dict[str, dict[str, Any]] = {
    "GraphPipe": {"color": OURS, "marker": "o", "linewidth": 2.4, "zorder": 5},
    "GraphPipe, foreign writer": {"color": "#4fae8a", "marker": "s", "linewidth": 1.6, "zorder": 4},
    "GraphPipe, nothing repeats": {"color": "#8fbf5a", "marker": "^", "linewidth": 1.6, "zorder": 4},
    "Go": {"color": PALETTE[4], "marker": "D", "linewidth": 1.4},
    "aiohttp": {"color": PALETTE[0], "marker": "v", "linewidth": 1.4},
    "bare uvloop": {"color": LIMIT, "marker": "", "linewidth": 1.4},
}


def draw(result: Result) -> Any:
    """A column for each size, p50 above p99; a line that ends in a cross could not keep up with more."""
    rows = result.tables["all"].rows
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    drawn, axes = figure(2, max(2, len(sizes)), height=6.4)
    for column, size in enumerate(sizes):
        of_size = [row for row in rows if row["size"] == size]
        for line, (key, name) in enumerate((("p50_ms", "p50"), ("p99_ms", "p99"))):
            axis = axes[line][column]
            for server, look in LOOK.items():
                _line(axis, [row for row in of_size if row["server"] == server], key, server, look)
            axis.set_yscale("log")
            axis.set_title(f"{size} in and out: {name}")
            axis.grid(axis="y", which="major", color="#e6e6e6", linewidth=0.7)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_xlim(0, 100)
            if column == 0:
                axis.set_ylabel("ms (log scale)")
            if line == 1:
                full = max(100 * row["rate"] / row["share"] for row in of_size)
                axis.set_xlabel(f"offered load, % of GraphPipe's capacity ({full:,.0f} requests/s)")
        top = max(axes[line][column].get_ylim()[1] for line in (0, 1))
        bottom = min(axes[line][column].get_ylim()[0] for line in (0, 1))
        for line in (0, 1):
            axes[line][column].set_ylim(bottom, top)
    # Ours above the one column, what it is measured beside above the other.
    by_name = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    for axis, names in zip(axes[0], ([*LOOK][:3], [*LOOK][3:]), strict=False):
        some = {name: by_name[name] for name in names if name in by_name}
        axis.legend(
            some.values(), some.keys(), loc="lower left", bbox_to_anchor=(-0.03, 1.1), fontsize=9, frameon=False
        )
    arrivals = result.about.get("arrivals", "")
    drawn.suptitle(
        f"What callers wait at a given load: requests due {arrivals}, latency from when they were due\n"
        "(servers on one core; a line that ends in a cross could not keep up with more)",
        fontsize=10, x=0.01, ha="left",
    )  # fmt: skip
    return drawn


def _line(axis: Any, rows: list[dict[str, Any]], key: str, name: str, look: dict[str, Any]) -> None:
    kept = [row for row in rows if row["kept_up"]]
    if not kept:
        return
    shares = [row["share"] for row in kept]
    values = [row[key] for row in kept]
    axis.plot(shares, values, label=name, markersize=4, **look)
    if len(kept) < len(rows):
        axis.plot(shares[-1:], values[-1:], marker="x", markersize=9, markeredgewidth=2, color=look["color"], zorder=6)
    if name == "GraphPipe":
        for at, beside in ((0, (-26, -3)), (-1, (5, -3))):
            axis.annotate(
                shown(values[at]), (shares[at], values[at]), xytext=beside, textcoords="offset points",
                color=look["color"], fontsize=8, annotation_clip=False,
            )  # fmt: skip
