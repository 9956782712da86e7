"""Rounds: everything is measured in turn, again and again, so that a noisy machine is noisy for all."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

__all__ = ["Measured", "Ratio", "interleaved", "middle", "ratio"]

Measured = dict[str, list[dict[str, float]]]


def interleaved(ways: Mapping[str, Callable[[], dict[str, float]]], rounds: int, said: str = "") -> Measured:
    """Ask every way in turn, forwards and backwards by turns; ``said`` names what is measured where people look on.

    Returns for each way what each round found, so that entries of one number are neighbours in time.
    """
    found: Measured = {way: [] for way in ways}
    for number in range(rounds):
        if said and sys.stderr.isatty():
            print(f"\r{said}: round {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for way in [*ways] if number % 2 else [*ways][::-1]:
            found[way].append(ways[way]())
    if said and sys.stderr.isatty():
        print(file=sys.stderr)
    return found


def middle(found: Sequence[Mapping[str, float]], key: str) -> float:
    """The median over the rounds."""
    return median(each[key] for each in found)


class Ratio:
    """The median of the ratios of neighbours, and between what it lies with 95 % (a bootstrap of the pairs)."""

    def __init__(self, ours: Sequence[float], theirs: Sequence[float]) -> None:
        self.pairs = [a / b for a, b in zip(ours, theirs, strict=True) if b]
        self.value = median(self.pairs) if self.pairs else float("nan")
        draw = random.Random(0)
        again = sorted(median(draw.choices(self.pairs, k=len(self.pairs))) for _ in range(400)) if self.pairs else []
        self.low, self.high = (again[9], again[-10]) if again else (float("nan"), float("nan"))

    def __repr__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(found: Mapping[str, Sequence[Mapping[str, Any]]], ours: str, theirs: str, key: str) -> Ratio:
    """``ours`` by ``theirs``, of neighbouring rounds."""
    return Ratio([each[key] for each in found[ours]], [each[key] for each in found[theirs]])
