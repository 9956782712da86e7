"""The model without a server, called by as many threads as servers have, or as there are callers.

python in_process.py INPUTS NAME=PATH...

The limit of every server.
"""

from __future__ import annotations

import sys

import callers
import runtime


def main() -> None:
    models = runtime.named(sys.argv[2:])

    def ask(model: str, array: object) -> object:
        return models[model](array)

    def many(model: str, array: object, count: int, seconds: float) -> dict[str, float]:
        return callers.in_threads(ask, model, array, count, seconds)

    callers.answer_lines(sys.argv[1], ask, many, limit=runtime.THREADS)


if __name__ == "__main__":
    main()
