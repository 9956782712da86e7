"""The user's own measure: averaged, gathered, and counted where it fails."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphpipe.comparison.metric import judge_of
from graphpipe.errors import LoadError


def judged(metric, *calls):
    judge = judge_of(metric, "mine")
    for outputs, rows in calls:
        judge.see({}, {"y": np.asarray(outputs)}, {}, rows)
    return judge, judge.values()


def test_a_functions_numbers_are_averaged_over_rows():
    _, values = judged(lambda inputs, outputs, truth: outputs["y"].mean(), ([1, 1, 1], 3), ([5], 1))
    assert values == {"mine": 2.0}
    _, values = judged(
        lambda i, o, t: {"low": o["y"].min(), "high": np.float32(o["y"].max())}, ([1, 2], 1), ([3, 4], 1)
    )
    assert values == {"low": 2.0, "high": 3.0}


def test_a_class_sees_every_call_and_is_asked_at_the_end():
    class Largest:
        def __init__(self):
            self.values = []

        def update(self, inputs, outputs, truth):
            self.values.append(outputs["y"].max())

        def result(self):
            return {"largest": max(self.values), "calls": len(self.values)}

    assert judged(Largest, ([1, 7], 2), ([3], 1))[1] == {"largest": 7.0, "calls": 2.0}
    assert judged(Largest)[1] == {}  # nothing was seen, and nothing is asked


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), BaseException("odd")])
def test_a_metric_that_raises_is_counted_whatever_it_raises(error):
    def metric(inputs, outputs, truth):
        if outputs["y"][0] == 0:
            raise error
        return 4.0

    judge, values = judged(metric, ([0], 1), ([1], 1), ([0], 1))
    assert (judge.failed, values) == (2, {"mine": 4.0})
    assert judge.first.startswith(type(error).__name__)


@pytest.mark.parametrize("given", ["0.5", None, [1, 2], {"a": "b"}])
def test_what_is_no_number_is_an_error_of_the_metric(given):
    judge, values = judged(lambda i, o, t: given, ([0], 1))
    assert (judge.failed, values) == (1, {})


def test_nan_is_handed_on():
    assert math.isnan(judged(lambda i, o, t: math.inf, ([0], 1))[1]["mine"])


@pytest.mark.parametrize("metric", [3, type("Half", (), {"update": print}), type("Bad", (), {"__init__": None})])
def test_what_cannot_judge_is_refused_before_anything_is_asked(metric):
    with pytest.raises(LoadError, match="metric mine"):
        judge_of(metric, "mine")
