"""Subjects measured in turn, in processes that live at the same time on the same machine."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.clients import Canned
from benchmarks.guarding.asked import NotThere
from benchmarks.guarding.counting import Method
from benchmarks.guarding.side import Side
from benchmarks.guarding.subjects import Subject
from benchmarks.guarding.verdict import Pair, is_clear
from benchmarks.harness.messages import foreign
from benchmarks.harness.tree import Tree

__all__ = ["Found", "compared"]

# By subject: the pairs of each life, and why there are none, where there are none.
Found = dict[str, tuple[list[list[Pair]], str]]
Cost = Callable[[int], float]
_FIRST_TIMES = 20  # enough to meet a layout, a head and a connection again


def compared(
    head: Tree, base: Tree | None, subjects: Sequence[Subject], method: Method, say: Callable[[str], None]
) -> Found:
    """Head beside base, or beside the yardstick of the same process where there is no base."""
    found: Found = {subject.name: ([], "") for subject in subjects}
    for life in range(method.lives):
        with _sides([head, base] if base else [head], method, subjects) as sides:
            for subject in subjects:
                pairs, why = found[subject.name]
                if why:
                    continue
                say(f"{subject.name} ({life + 1} of {method.lives})")
                try:
                    pairs.append(_pairs(sides, subject, method))
                except NotThere as error:
                    found[subject.name] = ([], str(error))
    return found


def _pairs(sides: Sequence[Side], subject: Subject, method: Method) -> list[Pair]:
    ours: Cost = lambda times: sides[0].cost(subject, times)  # noqa: E731
    if len(sides) > 1:
        others: Cost = lambda times: sides[1].cost(subject, times)  # noqa: E731
    else:
        others = lambda times: sides[0].yardstick(subject, times)  # noqa: E731
    own_times, other_times = _times(ours, method), _times(others, method)
    pairs: list[Pair] = []
    for number in range(method.batches_max):
        if number >= method.batches and is_clear(pairs):
            break
        # Who comes second may find warmer caches, or a busier neighbour: take turns.
        if number % 2:
            one = ours(own_times)
            other = others(other_times)
        else:
            other = others(other_times)
            one = ours(own_times)
        pairs.append(Pair(one / own_times, other / other_times))
    return pairs


def _times(cost: Cost, method: Method) -> int:
    """How many calls make a batch."""
    cost(_FIRST_TIMES)
    return max(1, math.ceil(method.batch_cost * _FIRST_TIMES / cost(_FIRST_TIMES)))


@contextlib.contextmanager
def _sides(trees: Sequence[Tree], method: Method, subjects: Sequence[Subject]) -> Iterator[list[Side]]:
    with (
        tempfile.TemporaryDirectory() as place,
        Canned(np.zeros(256, np.float32)) as canned,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(place)
        theirs = folder / "theirs"
        theirs.write_bytes(foreign(np.linspace(0, 1, 256, dtype=np.float32)))
        sides = []
        for number, tree in enumerate(trees):
            side = Side(tree, method, folder / str(number), subjects, canned.url, theirs)
            stack.callback(side.close)
            sides.append(side)
        for side in sides:
            side.ready()
        yield sides
