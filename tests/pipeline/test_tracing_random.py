"""Random functions of stages: traced, written down and called, they give the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.tracing.staging import Staged

INPUTS = ["a", "b", "x"]


@graphpipe.stage
def add(x, y):
    return {"x": x + y}


@graphpipe.stage
def both(x, y):
    return {"x": np.minimum(x, y), "y": np.maximum(x, y)}


@graphpipe.stage
def pair(a, b):
    return a - b, b


@graphpipe.stage
def one(x):
    return x + 1


@graphpipe.stage
def unread(x, y):
    given = {"b": x * 2}
    given["x"] = y
    return given


@graphpipe.stage
class Times:
    """A number that it is made with, times another."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return {"a": x * self.factor}


STAGES = [add, both, pair, one, unread, Times(2), Times(3), Times(2)]
# What a call gives: a dict with these keys, a tuple of so many, or one.
GIVES = {"add": ["x"], "both": ["x", "y"], "pair": [0, 1], "one": [None], "unread": ["b", "x"], "Times": ["a"]}
TAKES = {"one": 1, "Times": 1}


@st.composite
def programs(draw):
    """Calls in order, each of a stage with values that there are by then; and what is returned, by which name."""
    calls, count = [], len(INPUTS)
    for _ in range(draw(st.integers(1, 7))):
        stage = draw(st.sampled_from(STAGES))
        name = stage.__name__ if isinstance(stage, Staged) else type(stage).__name__
        taken = [draw(st.integers(0, count - 1)) for _ in range(TAKES.get(name, 2))]
        calls.append((stage, GIVES[name], taken))
        count += len(GIVES[name])
    numbers = draw(st.lists(st.integers(len(INPUTS), count - 1), min_size=1, max_size=4, unique=True))
    names = draw(st.lists(st.sampled_from("pqrst"), min_size=len(numbers), max_size=len(numbers), unique=True))
    return calls, dict(zip(names, numbers, strict=True))


def function_of(calls, returned):
    def function(a, b, x):
        values = [a, b, x]
        for stage, gives, taken in calls:
            given_back = stage(*[values[i] for i in taken])
            values += [given_back if key is None else given_back[key] for key in gives]
        # All inputs are used.
        return {name: values[i] for name, i in returned.items()} | dict(zip("abx", values[:3], strict=True))

    return function


NUMBERS = st.lists(st.integers(-5, 5), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), NUMBERS, NUMBERS)
def test_a_random_function_gives_what_its_pipeline_gives_written_down_and_loaded_too(
    tmp_path_factory, program, example, other
):
    function = function_of(*program)
    pipeline = graphpipe.trace(function, tuple(np.array([number]) for number in example))
    inputs = {name: np.array([number]) for name, number in zip(INPUTS, other, strict=True)}
    expected = function(**inputs)
    assert pipeline.infer(inputs) == expected
    assert list(pipeline.infer(inputs)) == list(expected)
    names = [name for stage in pipeline.stages for name in stage.gives.values()]
    assert len({*names, *INPUTS}) == len(names) + len(INPUTS)
    written = pipeline.save(tmp_path_factory.mktemp("saved") / "p.toml")
    with graphpipe.load(written) as loaded:
        assert loaded.infer(inputs) == expected
        assert [stage.gives for stage in loaded.model.stages] == [stage.gives for stage in pipeline.stages]


@settings(max_examples=30, deadline=None)
@given(programs(), NUMBERS)
def test_a_random_function_that_looks_at_a_value_somewhere_is_refused(program, example):
    calls, returned = program
    inner = function_of(calls, returned)

    def function(a, b, x):
        found = inner(a, b, x)
        return found if found[next(iter(returned))] > 0 else {"a": a}

    with pytest.raises(graphpipe.TraceError, match="it is compared"):
        graphpipe.trace(function, tuple(np.array([number]) for number in example))
