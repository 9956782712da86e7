"""Four small panels: CPU against size and connections, memory against models and workers."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.chart import OURS, PALETTE, figure
from benchmarks.harness.result import Result, shown

LOOK: dict[str, dict[str, Any]] = {
    "GraphPipe": {"color": OURS, "marker": "o", "linewidth": 2.4, "zorder": 5},
    "aiohttp by hand": {"color": PALETTE[0], "marker": "v", "linewidth": 1.5},
    "FastAPI, raw bytes": {"color": PALETTE[2], "marker": "s", "linewidth": 1.5},
}


def draw(result: Result) -> Any:
    """Drawn from the tables size, connections, models and workers."""
    drawn, axes = figure(2, 2, height=6.0)
    size, connections, models, workers = axes.reshape(-1)
    tables = result.tables
    _panel(size, tables["size"].rows, "bytes", "cpu_s", "CPU by size of the request", "CPU s / 1,000 requests")
    size.set_yscale("log")
    size.yaxis.set_major_formatter(_plain)
    size.margins(y=0.15)
    size.set_xlabel("request, and answer (log scales)")
    ticks = {row["bytes"]: row["size"] for row in tables["size"].rows}
    size.set_xticks([*ticks], [*ticks.values()])
    _panel(
        connections, tables["connections"].rows, "connections", "cpu_s", "CPU by connections, 1 KB",
        "CPU s / 1,000 requests",
    )  # fmt: skip
    connections.set_xlabel("connections, all busy (log scale)")
    _panel(models, tables["models"].rows, "models", "memory_mb", "Memory by models", "MB")
    models.set_xlabel("ONNX models without weights (log scale)")
    _panel(workers, tables["workers"].rows, "workers", "memory_mb", "Memory by workers", "MB, shared pages once")
    workers.set_xlabel("workers, each with one ONNX model")
    for axis, name in ((connections, "connections"), (models, "models"), (workers, "workers")):
        counts = sorted({row[name] for row in tables[name].rows})
        axis.set_xticks(counts, map(str, counts))
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
    for axis in (size, connections, models):
        axis.minorticks_off()
    legend = size.legend(loc="lower left", bbox_to_anchor=(-0.03, 1.1), ncols=3, fontsize=9, frameon=False)
    legend.set_in_layout(False)  # it is wider than its panel; the title's second line keeps its place
    title = "What a request, a connection, a model and a worker cost the server"
    drawn.suptitle(f"{title}\n ", fontsize=11, x=0.01, ha="left")
    return drawn


def _panel(axis: Any, rows: list[dict[str, Any]], x: str, y: str, title: str, unit: str) -> None:
    for name, look in LOOK.items():
        of = [row for row in rows if row["server"] == name]
        if not of:
            continue
        axis.plot([row[x] for row in of], [row[y] for row in of], label=name, markersize=4, **look)
    _label(axis, rows, x, y)
    if x != "workers":
        axis.set_xscale("log")
    axis.set_title(title, fontsize=10)
    axis.set_ylabel(unit)
    axis.grid(axis="y", which="major", color="#e6e6e6", linewidth=0.7)
    axis.yaxis.set_major_formatter(_plain)


def _plain(value: float, _: object) -> str:
    return f"{value:,.4g}"


def _label(axis: Any, rows: list[dict[str, Any]], x: str, y: str) -> None:
    """The values at both ends, of ours and of what is written by hand: the higher one above its line."""
    compared = [row for row in rows if row["server"] in ("GraphPipe", "aiohttp by hand")]
    for end in (min(row[x] for row in rows), max(row[x] for row in rows)):
        of = sorted((row for row in compared if row[x] == end), key=lambda row: float(row[y]))
        for row in of:
            axis.annotate(
                shown(row[y]), (row[x], row[y]), xytext=(0, 6 if row is of[-1] else -13), ha="center", fontsize=8,
                textcoords="offset points", color=LOOK[row["server"]]["color"], annotation_clip=False,
            )  # fmt: skip
