"""The codec and the clients of the tree that this runs in, called as often as lines on standard input say.

A line is a name, a tab and how often. The answer to a line is one of JSON: the marks before and after, or what went wrong.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

import client
import codec
from marks import mark
from yardstick import Yardstick

__all__ = ["main"]

Batch = Callable[[int], object]


def main(url: str, theirs: str) -> None:
    """``url`` is that of a server with an answer for the clients, ``theirs`` a message of another writer."""
    makers: dict[str, Callable[[], Batch]] = {
        **{name: _batched(maker) for name, maker in codec.calls(Path(theirs)).items()},
        **client.batches(url),
        "yardstick": _batched(Yardstick),
    }
    made: dict[str, Batch] = {}
    gc.collect()
    gc.freeze()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        name, _, times = line.rstrip("\n").partition("\t")
        try:
            if name not in made:
                made[name] = makers[name]()
            batch, count = made[name], int(times)
            began = mark()
            batch(count)
            answer: object = {"marks": [began, mark()]}
        except Exception as error:  # an older commit may lack what is called
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _batched(maker: Callable[[], Callable[[], object]]) -> Callable[[], Batch]:
    def make() -> Batch:
        call = maker()

        def batch(times: int) -> None:
            for _ in range(times):
                call()

        return batch

    return make
