"""What charts of ours have in common: their look, and how they are written, as SVG and PNG, the same to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.harness.result import RESULTS, Result

mpl.use("Agg")

from matplotlib.figure import Figure

__all__ = ["LIMIT", "OURS", "PALETTE", "THEIRS", "figure", "save"]

OURS = "#0b6e4f"  # ours is green wherever it stands
LIMIT = "#9a9a9a"  # what the machine could do
THEIRS = "#c8553d"
PALETTE = ("#c8553d", "#e09f3e", "#3d5a80", "#8d6a9f", "#5fa8d3", "#b56576", "#6b705c", "#bc8034")

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "graphpipe",
    "svg.fonttype": "none",
}


def figure(rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 4.5) -> tuple[Figure, Any]:
    """A figure in our style and its axes, an array where there are several. Sizes are inches."""
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        axes = drawn.subplots(rows, columns)
    return drawn, axes


def save(drawn: Figure, result: Result, folder: Path = RESULTS) -> list[Path]:
    """Write ``QUESTION.svg`` and ``QUESTION.png``; both say below what was measured where, and bear the result's digest."""
    with mpl.rc_context(STYLE):
        drawn.supxlabel(result.source().replace("`", ""), fontsize=7, color="#666666", x=0.01, ha="left")
        paths = [folder / f"{result.question}.{kind}" for kind in ("svg", "png")]
        drawn.savefig(paths[0], metadata={"Date": None, "Title": result.title, "Description": result.digest()})
        # matplotlib ends some lines with a space.
        paths[0].write_text("".join(f"{line.rstrip()}\n" for line in paths[0].read_text().splitlines()))
        drawn.savefig(paths[1], dpi=110, metadata={"Software": None, "Description": result.digest()})
    return paths
