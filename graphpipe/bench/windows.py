"""A stretch of a measurement, and when some of them in a row say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.quantiles import percentiles

__all__ = ["Window", "agree", "are_stable"]

IN_A_ROW = 3
_RATE_WITHIN = 0.05
_P50_WITHIN = 0.05
# The slow end is made of few answers, and moves more.
_P99_WITHIN = 0.2
# Of fewer answers the p99 is the slowest one.
_ANSWERS_FOR_P99 = 100


@dataclass(frozen=True, slots=True)
class Window:
    """What came in ``seconds``: the latencies of good answers [n], in seconds, the bytes of their bodies, and how many calls
    went wrong. ``cpu_s`` is what this process itself used.
    """

    seconds: float
    latencies: NDArray[np.float64]
    received: int
    failed: int
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Good answers a second."""
        return len(self.latencies) / self.seconds if self.seconds > 0 else 0.0


def are_stable(windows: Sequence[Window]) -> bool:
    """Whether the last three windows agree: answers a second and the median within 5 % of their means, p99 within 20 %."""
    last = windows[-IN_A_ROW:]
    if len(last) < IN_A_ROW or not all(len(window.latencies) for window in last):
        return False
    if not agree([window.per_s for window in last], _RATE_WITHIN):
        return False
    p50s, p99s = zip(*(percentiles(window.latencies, (50, 99)) for window in last), strict=True)
    enough = all(len(window.latencies) >= _ANSWERS_FOR_P99 for window in last)
    return agree(p50s, _P50_WITHIN) and (not enough or agree(p99s, _P99_WITHIN))


def agree(values: Sequence[float], within: float = _RATE_WITHIN) -> bool:
    """Whether each of some positive values is at most so far (0.05: 5 %) from their mean."""
    mean = sum(values) / len(values)
    return all(abs(value - mean) <= within * mean for value in values)
