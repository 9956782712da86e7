"""The command line that benchmarks share: ask, print the tables, and keep them with their chart."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.result import RESULTS, Result

__all__ = ["answer", "draw"]

QUESTIONS = ("serialization", "throughput", "latency", "peers", "cost")  # those of docs/performance.md, in its order


def answer(
    measure: Callable[[argparse.Namespace], Result],
    doc: str,
    flags: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
) -> None:
    """Read the command line, measure, print. ``measure`` is told ``full`` (more rounds, and what takes long) by it.

    With --save the result goes to benchmarks/results/ with its charts, and the documents that show it are written anew.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full", action="store_true", help="more rounds, and what takes long; minutes instead of one or three"
    )
    parser.add_argument(
        "--save", action="store_true", help="keep it in benchmarks/results/, with its charts, and in the documents"
    )
    flags(parser)
    options = parser.parse_args()
    result = measure(options)
    print(f"\n# {result.title}\n{result.source()}")
    for table in result.tables.values():
        print(f"\n{table.caption}\n\n{table.markdown()}")
    if options.save:
        saved = [result.write(), *draw(result)]
        print("\nsaved " + ", ".join(path.name for path in saved), file=sys.stderr)
        from benchmarks import page

        page.write()


def draw(result: Result, folder: Path = RESULTS) -> list[Path]:
    """Draw the chart of a result, by the file of its question in benchmarks/charting/."""
    from benchmarks.harness import chart

    drawn = importlib.import_module(f"benchmarks.charting.{result.question}").draw(result)
    return chart.save(drawn, result, folder)
