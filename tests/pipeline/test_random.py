"""Random pipelines against a plain evaluation of the same functions, one after another and side by side."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.pipeline.branches import Branches, producers

NAMES = ["a", "b", "c", "d", "e"]
OPERATIONS = {
    "add": lambda one, other: one + other,
    "times": lambda one, other: one * other,
    "first": lambda one, other: one,
    "less": lambda one, other: np.minimum(one, other),
}


@st.composite
def stages(draw):
    """What each of some stages takes (two names), gives (one or two), how it computes, and how it says what it gives."""
    count = draw(st.integers(1, 7))
    return [
        (
            draw(st.sampled_from(NAMES)),
            draw(st.sampled_from(NAMES)),
            draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)),
            draw(st.sampled_from(sorted(OPERATIONS))),
            draw(st.booleans()),
        )
        for _ in range(count)
    ]


def made(number, one, other, gives, operation, declares):
    """A stage with names of its own, which the pipeline knows by others."""
    compute = OPERATIONS[operation]

    def function(p, q):
        result = compute(p, q)
        return {f"out{i}": result + i for i in range(len(gives))}

    if declares:
        function = graphpipe.model(outputs=[f"out{i}" for i in range(len(gives))])(function)
    outputs = {f"out{i}": name for i, name in enumerate(gives)}
    return Stage(function, f"s{number}", {"p": one, "q": other}, outputs)


def evaluated(described, inputs):
    values = dict(inputs)
    for one, other, gives, operation, _ in described:
        result = OPERATIONS[operation](values[one], values[other])
        values.update({name: result + i for i, name in enumerate(gives)})
    return values


@settings(max_examples=50, deadline=None)
@given(stages(), st.lists(st.integers(-5, 5), min_size=5, max_size=5), st.data())
def test_a_pipeline_gives_what_its_functions_give_one_after_another(described, numbers, data):
    inputs = {name: np.array([number]) for name, number in zip(NAMES, numbers, strict=True)}
    expected = evaluated(described, inputs)
    # Of one that says nothing of what it gives nobody knows which names are left to the caller.
    own = None if all(each[-1] for each in described) else NAMES
    pipeline = Pipeline([made(i, *each) for i, each in enumerate(described)], inputs=own)
    sent = {spec.name: inputs[spec.name] for spec in pipeline.signature.inputs}
    given_names = sorted({name for each in described for name in each[2]})
    wanted = data.draw(st.lists(st.sampled_from(given_names), min_size=1, unique=True))
    for _ in range(2):
        answer = pipeline.infer(sent)
        assert answer == {name: expected[name] for name in described[-1][2]}
        answer = pipeline.infer(sent, wanted)
        assert list(answer) == wanted
        assert answer == {name: expected[name] for name in wanted}
        sources = producers(pipeline.model.wires)
        if sources is None:
            break
        branches = pipeline.model._branches = Branches(sources)
        branches._helpers.count = 2
        branches.choose = lambda: True
    pipeline.close()
