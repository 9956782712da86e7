"""The user's own measure: one function, or one class, that judges every model by the same rule.

A function ``metric(inputs, outputs, truth)`` is asked once for each call that a model has answered, and gives a number, or
a dict of numbers by name; what it gave is averaged, weighted by the calls' rows. What is no mean over rows (F1, AUC, mean
average precision) is a class: one of it is made for each model, ``update(inputs, outputs, truth)`` is called for each call,
and ``result()`` at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from graphpipe.backends.failure import ends_the_program, in_words
from graphpipe.errors import LoadError

__all__ = ["Judge", "judge_of"]

Arrays = Mapping[str, NDArray[Any]]
Look = Callable[[Arrays, Arrays, Arrays, int], None]


def judge_of(metric: Any, name: str) -> Judge:
    """A judge for one more model. ``name`` is what a single number is called. Raises LoadError for what cannot judge."""
    if not isinstance(metric, type):
        if not callable(metric):
            raise LoadError(f"metric {name}: expected a function or a class; a {type(metric).__name__} came")
        mean = _Mean(metric, name)
        return Judge(mean.look, mean.result, name)
    try:
        made = metric()
    except Exception as error:
        raise LoadError(f"metric {name}: making one raised {in_words(error)}") from error
    update, result = (getattr(made, each, None) for each in ("update", "result"))
    if not callable(update) or not callable(result):
        raise LoadError(
            f"metric {name}: a class has update(inputs, outputs, truth) and result(); {metric.__name__} has not both"
        )
    return Judge(lambda inputs, outputs, truth, rows: update(inputs, outputs, truth), result, name)


class Judge:
    """What judges one model. ``failed`` counts how often the metric raised; ``first`` is what it said the first time."""

    def __init__(self, look: Look, result: Callable[[], Any], name: str) -> None:
        self.failed, self.first = 0, ""
        self._look, self._result, self._name = look, result, name
        self._has_seen = False

    def see(self, inputs: Arrays, outputs: Arrays, truth: Arrays, rows: int) -> None:
        """Look at one call. Whatever the metric raises is counted."""
        try:
            self._look(inputs, outputs, truth, rows)
            self._has_seen = True
        except BaseException as error:
            self._count(error)

    def values(self) -> dict[str, float]:
        """What came of it, by name; nothing where no call was judged. To be asked once."""
        if not self._has_seen:
            return {}
        try:
            return _numbers(self._result(), self._name)
        except BaseException as error:
            self._count(error)
            return {}

    def _count(self, error: BaseException) -> None:
        if ends_the_program(error):
            raise error
        self.failed += 1
        self.first = self.first or in_words(error)


class _Mean:
    """A function's numbers, averaged over rows."""

    def __init__(self, metric: Callable[[Arrays, Arrays, Arrays], Any], name: str) -> None:
        self._metric, self._name = metric, name
        self._sums: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def look(self, inputs: Arrays, outputs: Arrays, truth: Arrays, rows: int) -> None:
        for name, value in _numbers(self._metric(inputs, outputs, truth), self._name).items():
            self._sums[name] = self._sums.get(name, 0.0) + rows * value
            self._rows[name] = self._rows.get(name, 0) + rows

    def result(self) -> dict[str, float]:
        return {name: total / self._rows[name] for name, total in self._sums.items() if self._rows[name]}


def _numbers(value: Any, name: str) -> dict[str, float]:
    """What a metric gave, as numbers by name. Raises TypeError or ValueError for what is none."""
    if isinstance(value, Mapping):
        return {str(each): _number(number, str(each)) for each, number in value.items()}
    return {name: _number(value, name)}


def _number(value: Any, name: str) -> float:
    if isinstance(value, str | bytes):
        raise TypeError(f"the metric gave text for {name!r} where a number was expected")
    number = float(value)
    return number if math.isfinite(number) else math.nan
