"""What is said of a pipeline: its stages, what goes between them, and how long each takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.pad import padded
from graphpipe.bench.requests import given, synthetic
from graphpipe.explanation.explaining import explain

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


def brighten(image):
    return {"pixels": image.reshape(len(image), 64).astype(np.float32)}


def best(probabilities):
    return {"highest": probabilities.max(axis=1)}


def names(found, pairs):
    return [(own, found.values[place].name) for own, place in pairs]


def looked_at(pipeline, runs=2, **inputs):
    with pipeline:
        return explain(pipeline, given(list(inputs.items()), [], False), runs)


def test_stages_are_linked_by_what_they_give_and_take():
    found = looked_at(graphpipe.Pipeline([brighten, str(DIGITS), best]), image=np.ones((2, 8, 8), np.float64))
    assert (found.kind, found.made_of) == ("pipeline", "stages")
    assert [(part.name, part.kind) for part in found.parts] == [
        ("brighten", "Python function"), ("digits", "ONNX"), ("best", "Python function"),
    ]  # fmt: skip
    assert names(found, found.parts[1].takes) == [("pixels", "pixels")]
    values = {value.name: (value.declared, value.seen) for value in found.values}
    assert values["image"] == ("", "float64[2, 8, 8]")
    assert values["pixels"] == ("float32[n, 64]", "float32[2, 64]")  # what takes it says what it is
    assert values["probabilities"] == ("float32[n, 10]", "float32[2, 10]")
    assert values["highest"] == ("", "float32[2]")
    assert [found.values[i].name for i in found.outputs] == ["highest"]
    given_by = {place: part.name for part in found.parts for _, place in part.gives}
    assert given_by[found.outputs[0]] == "best"


def test_each_stage_has_its_time_and_its_share():
    found = looked_at(graphpipe.Pipeline([brighten, str(DIGITS), best]), runs=5, image=np.ones((1, 8, 8)))
    assert found.runs == 5
    assert all(part.seconds > 0 for part in found.parts)
    assert sum(found.share(part.seconds) for part in found.parts) == pytest.approx(1)


def test_names_that_differ_are_said():
    stage = graphpipe.Stage(brighten, name="first", inputs={"image": "photo"}, outputs={"pixels": "light"})
    second = graphpipe.Stage(str(DIGITS), inputs={"pixels": "light"})
    found = looked_at(graphpipe.Pipeline([stage, second]), photo=np.ones((1, 8, 8)))
    first, digits = found.parts
    assert names(found, first.takes) == [("image", "photo")]
    assert names(found, first.gives) == [("pixels", "light")]
    assert names(found, digits.takes) == [("pixels", "light")]


def test_a_name_that_is_given_again_is_another_value():
    def half(x):
        return {"x": x / 2}

    def twice(x):
        return {"x": x * 2}

    found = looked_at(graphpipe.Pipeline([half, twice]), x=np.ones(3))
    assert [value.name for value in found.values] == ["x", "x", "x"]
    one, two = found.parts
    assert (one.takes, one.gives) == ((("x", 0),), (("x", 1),))
    assert (two.takes, two.gives) == ((("x", 1),), (("x", 2),))
    assert (found.inputs, found.outputs) == ((0,), (2,))


def test_a_stage_that_does_not_say_what_it_gives_is_linked_by_what_is_taken():
    def parts(x):
        return dict(zip(("a", "b"), (x + 1, x + 2), strict=True))

    def total(a, b):
        return {"sum": a + b}

    with graphpipe.Pipeline([parts, total]) as pipeline:
        for request in (None, given([("x", np.ones(3))], [], False)):
            found = explain(pipeline, request, 2)
            assert names(found, found.parts[0].gives) == [("a", "a"), ("b", "b")]
            assert names(found, found.parts[1].takes) == [("a", "a"), ("b", "b")]
            assert [found.values[i].name for i in found.inputs] == ["x"]


def test_what_a_stage_gives_without_saying_so_is_seen_where_another_takes_it():
    silent = eval("lambda x: {'h': x[:, :1]}")  # there is no code to read
    for last, seen in ((lambda h: {"y": h}, "float32[2, 1]"), (Choosy(), "")):
        with graphpipe.Pipeline([graphpipe.Stage(silent, "silent"), graphpipe.Stage(last, "last")]) as pipeline:
            found = graphpipe.explain(pipeline, {"x": np.ones((2, 3), np.float32)}, runs=1)
        assert [value.seen for value in found.values if value.name == "h"] == [seen]
        assert all(part.seconds > 0 for part in found.parts)


class Choosy:
    """A model that takes more than it needs."""

    signature = graphpipe.Signature(
        (graphpipe.TensorSpec("h"), graphpipe.TensorSpec("left_out")), (graphpipe.TensorSpec("y"),), ("h",)
    )

    def infer(self, inputs, outputs=None, *, config=""):
        return {"y": inputs["h"]}

    def close(self):
        pass


def test_what_a_caller_sends_in_its_place_is_an_input():
    def parts(x):
        return dict(zip(("a",), (x + 1,), strict=True))

    def total(a, b):
        return {"sum": a + b}

    found = looked_at(graphpipe.Pipeline([parts, total]), x=np.ones(3), b=np.ones(3))
    assert sorted(found.values[i].name for i in found.inputs) == ["b", "x"]
    assert names(found, found.parts[0].gives) == [("a", "a")]


def test_texts_reach_the_stages_as_bytes_when_they_are_timed():
    def lengths(text):
        return {"length": np.array([len(each.decode()) for each in text])}

    found = looked_at(graphpipe.Pipeline([lengths]), text=["héllo", ""])
    assert found.parts[0].seconds > 0
    assert {value.name: value.seen for value in found.values} == {"text": "string[2]", "length": "int64[2]"}


def test_a_pipeline_in_a_pipeline_is_one_stage():
    inner = graphpipe.Pipeline([brighten, str(DIGITS)], name="inner")
    with inner:
        found = looked_at(graphpipe.Pipeline([inner, best]), image=np.ones((1, 8, 8)))
    assert [(part.name, part.kind) for part in found.parts] == [
        ("inner", "pipeline of 2 stages"), ("best", "Python function"),
    ]  # fmt: skip


def test_nothing_is_asked_where_nobody_wants_it():
    def never(x):
        raise AssertionError("asked")

    with graphpipe.Pipeline([never]) as pipeline:
        found = explain(pipeline, None, 0, unmeasured="--runs 0")
        assert (found.seconds, found.unmeasured, found.parts[0].seconds) == (None, "--runs 0", None)
        assert found.share(None) is None


def test_a_model_that_says_what_it_takes_needs_no_example():
    with graphpipe.Pipeline([str(DIGITS), best]) as pipeline:
        found = explain(pipeline, synthetic(pipeline.signature.inputs, 3, {}, 0), 2)
    assert [found.values[i].seen for i in found.outputs] == ["float32[3]"]


def test_a_pipeline_behind_a_problem_is_still_one():
    problem = graphpipe.Problem.of({"pixels": "float32[n, 64]"}, {"highest": "float32[n]"})
    with graphpipe.Pipeline([str(DIGITS), best]) as pipeline, graphpipe.load(problem.posed(pipeline.model)) as posed:
        found = explain(posed, synthetic(posed.signature.inputs, 3, {}, 0), 2)
    assert [(part.name, part.seconds > 0) for part in found.parts] == [("digits", True), ("best", True)]


def test_a_pipeline_whose_names_are_others_in_front_is_one_model():
    problem = graphpipe.Problem.of({"digit": "float32[n, 64]"}, {"sureness": "float32[n]"})
    names = {"digit": "pixels", "sureness": "highest"}
    with (
        graphpipe.Pipeline([str(DIGITS), best]) as pipeline,
        graphpipe.load(problem.posed(pipeline.model, names)) as posed,
    ):
        found = explain(posed, synthetic(posed.signature.inputs, 3, {}, 0), 2)
    assert (found.parts, found.seconds > 0) == ((), True)
    assert [found.values[i].seen for i in found.outputs] == ["float32[3]"]


def test_stages_that_cannot_be_measured_are_shown_all_the_same():
    with graphpipe.Pipeline([str(DIGITS), best]) as pipeline:
        with graphpipe.load(padded(pipeline.model, ["pixels:1:0"])) as short:
            found = explain(short, given([("pixels", np.ones((1, 9), np.float32))], [], False), 2)
    assert [part.name for part in found.parts] == ["digits", "best"]
    assert found.seconds > 0
    assert found.parts[0].seconds is None
    assert "cannot be measured one by one" in found.notes[0]
