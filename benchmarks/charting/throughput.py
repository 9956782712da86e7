"""Rows a second by way: 2018's chart, the same today, and the models of other sizes."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.chart import LIMIT, OURS, PALETTE, THEIRS, figure
from benchmarks.harness.result import Result, Table, shown

__all__ = ["draw"]

NAMES = {
    "json": "JSON + Python server",
    "prediction": "TF-Serving's gRPC, in Python",
    "tf-serving": "TF-Serving",
    "http": "GraphPipe, HTTP",
    "unix": "GraphPipe, Unix socket",
    "limit": "in process: the limit",
}
COLOURS = {
    "json": THEIRS,
    "prediction": PALETTE[1],
    "tf-serving": PALETTE[2],
    "http": OURS,
    "unix": OURS,
    "limit": LIMIT,
}
SMALL = ("squeezenet", "mlp", "identity")


def draw(result: Result) -> Any:
    """Above then and now, below the other models; what was not measured is not drawn."""
    above = [name for name in ("then", "vgg16") if name in result.tables]
    below = [name for name in SMALL if name in result.tables]
    panels = [names for names in (above, below) if names]
    drawn, _ = figure(width=9.0, height=0.6 + 2.9 * len(panels))
    drawn.clear()
    for names, part in zip(panels, drawn.subfigures(len(panels), 1, squeeze=False)[:, 0], strict=True):
        for number, name in enumerate(names):
            axes = part.add_subplot(1, len(names), number + 1)
            table = result.tables[name]
            bars = _then(table) if name == "then" else _now(table)
            title = "2018, as the project published it" if name == "then" else table.caption.rstrip(".")
            _bars(axes, title.replace(", ", ",\n", 1), bars, named=number == 0 or name == "vgg16")
    drawn.suptitle("Rows a second from caller to model and back: 1 caller (light), 5 callers (dark)", x=0.01, ha="left")
    return drawn


def _then(table: Table) -> list[tuple[str, str, list[float]]]:
    ways = ("json", "prediction", "http")
    labels = ("JSON + Python server", "TF-Serving", "GraphPipe")
    return [
        (label, COLOURS[way], [row["then_1"], row["then_5"]])
        for label, way, row in zip(labels, ways, table.rows, strict=True)
    ]


def _now(table: Table) -> list[tuple[str, str, list[float]]]:
    return [
        (NAMES[row["way"]], COLOURS[row["way"]], [row[f"rows_{n}"] for n in (1, 5) if f"rows_{n}" in row])
        for row in table.rows
    ]


def _bars(axes: Any, title: str, bars: list[tuple[str, str, list[float]]], *, named: bool) -> None:
    top = max(value for _, _, values in bars for value in values)
    for place, (_, colour, values) in enumerate(bars):
        for number, value in enumerate(values):
            where = place + 0.4 * number - 0.2
            axes.barh(where, value, 0.36, color=colour, alpha=0.55 if number == 0 and len(values) > 1 else 1.0)
            axes.text(value + 0.015 * top, where, shown(value), va="center", fontsize=7.5)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars] if named else [""] * len(bars), fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, top * 1.18)
    axes.set_xlabel("rows a second", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(title, fontsize=9.5)
