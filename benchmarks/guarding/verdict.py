"""What a subject's pairs of costs say: it grew, or it did not, or they do not tell."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

__all__ = ["ALLOWED", "Pair", "Verdict", "is_clear", "judged"]

ALLOWED = 0.05
_DRAWS = 1000


@dataclass(frozen=True)
class Pair:
    """What one call costs now, and what it is compared with, counted one right after the other."""

    head: float
    base: float


@dataclass(frozen=True)
class Verdict:
    """``ratio`` is head to base, with the interval that 95 of 100 draws from the same pairs lie in."""

    subject: str
    says: str
    why: str = ""
    base: float = 0.0
    head: float = 0.0
    ratio: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value != ""}


def judged(
    subject: str, lives: Sequence[Sequence[Pair]], lives_min: int, expected: float = 1.0, allowed: float = ALLOWED
) -> Verdict:
    """``lives`` has the pairs of each life of the processes, ``expected`` is the ratio that there should be."""
    ratios = [[pair.head / pair.base / expected for pair in life] for life in lives]
    low, high = _interval(ratios)
    if low > 1 + allowed and len(lives) >= lives_min:
        says = "GREW"
    elif high > 1 + allowed:
        says = "cannot tell"
    else:
        says = "shrank" if high < 1 - allowed else "as it was"
    pairs = [pair for life in lives for pair in life]
    return Verdict(
        subject,
        says,
        base=median(pair.base for pair in pairs),
        head=median(pair.head for pair in pairs),
        ratio=median(ratio for life in ratios for ratio in life),
        low=low,
        high=high,
    )


def is_clear(pairs: Sequence[Pair]) -> bool:
    """Whether more of them would hardly move the median: it is known to a hundredth."""
    low, high = _interval([[pair.head / pair.base for pair in pairs]])
    return high <= 1.01 * low


def _interval(ratios: Sequence[Sequence[float]]) -> tuple[float, float]:
    draw = random.Random(0)
    # Batches of one life have its luck in common, so lives are drawn first.
    drawn = sorted(
        median(ratio for life in draw.choices(ratios, k=len(ratios)) for ratio in draw.choices(life, k=len(life)))
        for _ in range(_DRAWS)
    )
    return drawn[_DRAWS * 25 // 1000], drawn[_DRAWS * 975 // 1000 - 1]
