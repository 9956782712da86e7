"""What came of one model, and what all of them were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.quantiles import percentiles
from graphpipe.bench.tally import Failure
from graphpipe.comparison.difference import Tolerance
from graphpipe.comparison.ratio import Ratio

__all__ = ["About", "Compared", "metric_names"]

_PERCENTS = (50.0, 90.0, 99.0)


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the models. ``seconds`` are the times of its good answers [n], in the order that they came in.

    ``ratio`` is how many times as long it takes as the reference, None for that itself. ``metrics`` are the user's, by name;
    ``metric_failed`` counts how often the metric raised, and ``metric_said`` is what it said first.
    """

    name: str
    source: str
    seconds: NDArray[np.float64]
    rows: int
    errors: int
    errors_by_kind: dict[str, Failure]
    first_failed: str
    given_up: bool
    ratio: Ratio | None
    metrics: dict[str, float]
    metric_failed: int = 0
    metric_said: str = ""
    notes: tuple[str, ...] = ()

    @property
    def calls_per_s(self) -> float:
        """Good answers a second, of one caller who asks again as soon as he is answered."""
        total = float(self.seconds.sum())
        return len(self.seconds) / total if total else 0.0

    @property
    def rows_per_s(self) -> float:
        """The rows of these."""
        total = float(self.seconds.sum())
        return self.rows / total if total else 0.0

    def percentiles(self) -> dict[float, float]:
        """p50, p90 and p99 in seconds; NaN where there was no answer."""
        return dict(zip(_PERCENTS, percentiles(self.seconds, _PERCENTS), strict=True))


@dataclass(frozen=True, slots=True)
class About:
    """What was asked and how. ``calls`` and ``rows`` are of one model, in all ``passes`` over the data together."""

    problem: str
    data: str
    calls: int
    rows: int
    passes: int
    tolerance: Tolerance
    scores: tuple[str, ...] = ()
    interrupted: bool = False


def metric_names(models: Sequence[Compared]) -> list[str]:
    """The names of all metrics, in the order that they came in."""
    return list(dict.fromkeys(name for model in models for name in model.metrics))
