"""The command line that benchmarks share: ask, print the tables, and keep them with their chart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.harness.drawing import draw
from benchmarks.harness.result import Result

__all__ = ["answer"]


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
