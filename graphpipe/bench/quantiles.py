"""What a heap of latencies looks like: its percentiles, and how many there are of each size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PERCENTS", "Bin", "bins", "percentiles"]

Numbers = NDArray[np.float64]

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)


def percentiles(values: Numbers, percents: Sequence[float] = PERCENTS) -> list[float]:
    """For each percent the least of the values that so many percent of them do not exceed: one that did occur.

    ``values`` are [n], in any order; none of them gives NaN.
    """
    if not len(values):
        return [float("nan")] * len(percents)
    found: Any = np.percentile(values, percents, method="inverted_cdf")
    return [float(each) for each in found]


@dataclass(frozen=True, slots=True)
class Bin:
    """``count`` values from ``low`` up to, and but for the last without, ``high``."""

    low: float
    high: float
    count: int


def bins(values: Numbers, most: int) -> list[Bin]:
    """The values in at most so many bins that are equally wide on a logarithmic scale, without gaps.

    ``values`` are [n] and positive. The scale goes in even steps, so that the edges of two heaps are comparable.
    """
    if not len(values):
        return []
    least, greatest = max(float(values.min()), 1e-9), max(float(values.max()), 1e-9)
    # 48, 24, ... bins to a factor of ten, as many as there is room for.
    for per_decade in (96, 48, 24, 16, 12, 8, 6, 4, 3, 2, 1):
        first = int(np.floor(np.log10(least) * per_decade))
        last = int(np.floor(np.log10(greatest) * per_decade)) + 1
        if last - first <= most:
            break
    edges = 10.0 ** (np.arange(first, last + 1) / per_decade)
    inner = np.digitize(np.maximum(values, 1e-9), edges[1:-1])
    counts = np.bincount(inner, minlength=len(edges) - 1)
    return [Bin(float(a), float(b), int(n)) for a, b, n in zip(edges, edges[1:], counts, strict=False)]
