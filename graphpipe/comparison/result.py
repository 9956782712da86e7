"""What came of a comparison, in numbers; the table, the JSON and the picture are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.quantiles import percentiles
from graphpipe.bench.tally import Failure
from graphpipe.comparison.contest import TRUTH, Contender, Contest
from graphpipe.comparison.difference import Difference, Tolerance
from graphpipe.comparison.ratio import Ratio, median_ratio

__all__ = ["TRUTH", "Compared", "Comparison", "comparison_of"]

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
class Comparison:
    """Models of one problem beside one another. The first is the reference.

    ``differences`` has one entry for each output of each other model, against the reference's, and for each output of each
    model that the data say the right answer of, against that (``reference`` is then ``expected``).
    """

    models: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    problem: str
    data: str
    calls: int
    rows: int
    passes: int
    tolerance: Tolerance
    scores: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def max_abs(self) -> float:
        """The largest difference of a number from the reference's."""
        return max((each.max_abs for each in self.from_reference()), default=0.0)

    def from_reference(self) -> list[Difference]:
        """The differences from the first model."""
        return [each for each in self.differences if each.reference != TRUTH]

    def from_truth(self) -> list[Difference]:
        """The differences from what the data say is right."""
        return [each for each in self.differences if each.reference == TRUTH]

    def is_over(self, limit: float) -> bool:
        """Whether any model's number differs by more than ``limit`` from the reference's, a text at all, an answer in its
        shape, or whether a call failed that another model answered, or nothing could be compared.
        """
        found = self.from_reference()
        failed = any(model.errors for model in self.models)
        return failed or not found or any(each.is_over(limit) for each in found)

    def scores_of(self, difference: Difference) -> float | None:
        """The share of rows whose highest score is another one; None where an output has no class scores."""
        are_scores = difference.output in self.scores or (difference.are_probabilities and not self.scores)
        return difference.share_other_highest if are_scores else None

    def table(self) -> str:
        """All of it in words and tables, for a terminal."""
        from graphpipe.comparison.table import as_text

        return as_text(self)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; docs/comparing.md explains every name."""
        from graphpipe.comparison.document import as_document

        return as_document(self)

    def picture(self) -> str:
        """Latencies and differences side by side, as SVG."""
        from graphpipe.comparison.picture import svg

        return svg(self)

    def __str__(self) -> str:
        return self.table()


def comparison_of(contest: Contest, problem: str, interrupted: bool) -> Comparison:
    """What a contest has come to."""
    reference = contest.contenders[0]
    first = np.array(reference.seconds, np.float64)
    models = [_compared(each, None if each is reference else first) for each in contest.contenders]
    names = [each.name for each in contest.contenders]
    order = sorted(contest.differences.values(), key=lambda each: (each.reference == TRUTH, names.index(each.model)))
    return Comparison(
        tuple(models), tuple(order), problem, contest.source.title, contest.calls, max(model.rows for model in models),
        contest.passes, contest.tolerance, contest.scores, interrupted,
    )  # fmt: skip


def _compared(each: Contender, of_reference: NDArray[np.float64] | None) -> Compared:
    seconds = np.array(each.seconds, np.float64)
    ratio = None
    if of_reference is not None:
        pairs = min(len(seconds), len(of_reference))  # the last call may have been cut off
        ratio = median_ratio(seconds[:pairs], of_reference[:pairs])
    judge = each.judge
    metrics = judge.values() if judge is not None else {}
    failed, said = (judge.failed, judge.first) if judge is not None else (0, "")
    return Compared(
        each.name, each.source, seconds[~np.isnan(seconds)], each.rows, each.tally.failed, dict(each.tally.failures),
        each.first_failed, each.given_up, ratio, metrics, failed, said, each.names.notes,
    )  # fmt: skip


def metric_names(models: Sequence[Compared]) -> list[str]:
    """The names of all metrics, in the order that they came in."""
    return list(dict.fromkeys(name for model in models for name in model.metrics))
