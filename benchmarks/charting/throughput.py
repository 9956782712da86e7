"""Rows a second by way: 2018's chart, the same today, and the models of other sizes."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

from benchmarks.harness.chart import LIMIT, OURS, PALETTE, STYLE, THEIRS, figure
from benchmarks.harness.result import Result, Table, shown

__all__ = ["draw"]

Bar = tuple[str, str, list[float]]  # its name, its colour, and what it shows of 1 and of 5 callers

TITLES = {
    "then": "2018, as published",
    "vgg16": "Now: VGG16's convolutions, TensorFlow",
    "squeezenet": "Squeezenet, ONNX",
    "mlp": "Perceptron, ONNX, 8 rows each",
    "identity": "Identity, ONNX, 1 KB each",
}
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
_FAR = 3  # a limit that is so many times what any way reaches is cut off, and only its number stands there


def draw(result: Result) -> Any:
    """Above then and now, below the other models; what was not measured is not drawn."""
    above, below = ([name for name in names if name in result.tables] for names in (list(TITLES)[:2], list(TITLES)[2:]))
    rows = [names for names in (above, below) if names]
    drawn, axes = figure(width=9.0, height=0.7 + 2.8 * len(rows))
    axes.remove()
    with mpl.rc_context(STYLE):
        for names, part in zip(rows, drawn.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True):
            for number, name in enumerate(names):
                table = result.tables[name]
                bars = _then(table) if name == "then" else _now(table)
                _bars(part.add_subplot(1, len(names), number + 1), bars, named=number == 0 or name == "vgg16")
                part.axes[-1].set_title(TITLES[name], fontsize=9.5)
        drawn.suptitle(
            "Rows a second from caller to model and back, with 1 caller (light) and 5 callers (dark)",
            x=0.01, ha="left", fontsize=11.5,
        )  # fmt: skip
    return drawn


def _then(table: Table) -> list[Bar]:
    names = {"json": "JSON + Python server", "prediction": "TF-Serving", "http": "GraphPipe"}
    return [
        (name, COLOURS[way], [row["then_1"], row["then_5"]])
        for (way, name), row in zip(names.items(), table.rows, strict=True)
    ]


def _now(table: Table) -> list[Bar]:
    return [
        (NAMES[row["way"]], COLOURS[row["way"]], [row[f"rows_{n}"] for n in (1, 5) if f"rows_{n}" in row])
        for row in table.rows
    ]


def _bars(axes: Any, bars: list[Bar], *, named: bool) -> None:
    top = max(value for _, _, values in bars for value in values)
    reached = max((value for _, colour, values in bars if colour != LIMIT for value in values), default=top)
    if top > _FAR * reached:
        top = reached * 1.1
    for place, (_, colour, values) in enumerate(bars):
        for number, value in enumerate(values):
            where = place + 0.4 * number - 0.2
            alpha = 0.55 if number == 0 and len(values) > 1 else 1.0
            axes.barh(where, min(value, top), 0.36, color=colour, alpha=alpha)
            text = shown(value) if value <= top else f"… {shown(value)}"
            axes.text(min(value, top) + 0.02 * top, where, text, va="center", fontsize=7.5)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars] if named else [""] * len(bars), fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, top * 1.25)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("rows a second", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
