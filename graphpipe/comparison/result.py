"""What came of a comparison: in numbers, and as a table, JSON and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.comparison.compared import About, Compared
from graphpipe.comparison.contest import Contender, Contest
from graphpipe.comparison.difference import Difference
from graphpipe.comparison.document import as_document
from graphpipe.comparison.picture import svg
from graphpipe.comparison.ratio import median_ratio
from graphpipe.comparison.table import as_text
from graphpipe.words import counted, visible

__all__ = ["Comparison", "comparison_of"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models of one problem beside one another. The first is the reference.

    ``differences`` has one entry for each output of each other model, against the reference's, and for each output of each
    model that the data say the right answer of, against that (``reference`` is then ``expected``). ``about`` is what they
    were asked.
    """

    models: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    about: About

    @property
    def max_abs(self) -> float:
        """The largest difference of a number from the reference's."""
        return max((each.max_abs for each in self.differences if not each.is_from_truth), default=0.0)

    def over(self, limit: float) -> list[str]:
        """In words, every output that differs by more than ``limit`` from the reference's (text: at all), every answer that
        could not be compared, every model with a failed call; and that there was nothing to compare, if so.
        """
        found = [each for each in self.differences if not each.is_from_truth]
        words = [f"{model.name} failed on {counted(model.errors, 'call')}" for model in self.models if model.errors]
        words += [line for each in found if (line := each.over(limit))]
        if not found:
            words.append("nothing was compared")
        return [visible(line) for line in words]

    def table(self) -> str:
        """All of it in words and tables, for a terminal."""
        return as_text(self.models, self.differences, self.about)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; docs/comparing.md explains every name."""
        return as_document(self.models, self.differences, self.about)

    def picture(self) -> str:
        """Latencies and differences side by side, as SVG."""
        return svg(self.models, self.differences, self.about)

    def __str__(self) -> str:
        return self.table()


def comparison_of(contest: Contest, problem: str, interrupted: bool) -> Comparison:
    """What a contest has come to."""
    reference = contest.contenders[0]
    first = np.array(reference.seconds, np.float64)
    models = [_compared(each, None if each is reference else first) for each in contest.contenders]
    names = [each.name for each in contest.contenders]
    order = sorted(contest.differences.values(), key=lambda each: (each.is_from_truth, names.index(each.model)))
    about = About(
        problem, contest.source.title, contest.calls, contest.rows, contest.passes, contest.tolerance, contest.scores,
        interrupted,
    )  # fmt: skip
    return Comparison(tuple(models), tuple(order), about)


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
