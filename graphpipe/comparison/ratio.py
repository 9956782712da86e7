"""How many times as long one takes as another, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ratio", "median_ratio"]

Numbers = NDArray[np.float64]

_SURE = 0.95
# With fewer pairs even the least and the greatest ratio enclose the median less often than that.
_PAIRS_MIN = 6


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of ``pairs`` ratios. With 95 % confidence the true one is from ``low`` to ``high``; None for too few."""

    median: float
    low: float | None
    high: float | None
    pairs: int


def median_ratio(times: Numbers, of_other: Numbers) -> Ratio | None:
    """The median of ``times / of_other``, both [n] and positive; NaN where there is no time. None if no pair is whole.

    Each pair was measured at nearly one moment: what slows a machine down for a while slows down both. The interval is
    that of order statistics: it supposes nothing of how times are distributed, and draws nothing at random.
    """
    ratios = times / of_other
    ratios = np.sort(ratios[np.isfinite(ratios)])
    count = len(ratios)
    if not count:
        return None
    median = float(np.median(ratios))
    if count < _PAIRS_MIN:
        return Ratio(median, None, None, count)
    outside = _outside(count)
    return Ratio(median, float(ratios[outside]), float(ratios[count - 1 - outside]), count)


def _outside(count: int) -> int:
    """How many of so many sorted values may be left out at either end, so that the rest encloses the median as surely."""
    tail = (1 - _SURE) / 2
    if count > 1000:  # the binomial distribution is a normal one by then, and its terms too small for a float
        return math.floor(count / 2 - 1.959964 * math.sqrt(count) / 2) - 1
    term, total, outside = 0.5**count, 0.0, -1
    for k in range(count):
        total += term
        if total > tail:
            break
        outside = k
        term *= (count - k) / (k + 1)
    return max(outside, 0)
