"""Which questions the documents show, and the chart of each."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.harness.result import RESULTS, Result

__all__ = ["QUESTIONS", "draw"]

QUESTIONS = (
    "serialization",
    "throughput",
    "latency",
    "peers",
    "protocols",
    "cost",
)  # those of docs/performance.md, in its order


def draw(result: Result, folder: Path = RESULTS) -> list[Path]:
    """Draw the chart of a result, by the file of its question in benchmarks/charting/."""
    from benchmarks.harness import chart

    drawn = importlib.import_module(f"benchmarks.charting.{result.question}").draw(result)
    return chart.save(drawn, result, folder)
