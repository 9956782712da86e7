"""``@graphpipe.model``: each way to write it does what was meant, or says what was expected."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe

X = np.arange(4, dtype=np.float32).reshape(2, 2)


def test_without_parentheses_the_function_speaks_for_itself():
    @graphpipe.model
    def doubled(x):
        """Twice as much."""
        return 2 * x

    model = graphpipe.load(doubled)
    assert doubled(2) == 4
    assert model.infer({"x": X})["output_0"].tolist() == (2 * X).tolist()
    assert (model.name, model.description) == ("doubled", "Twice as much.")


@pytest.mark.parametrize("outputs", ["label", ["label"], ("label",), {"label": "float32[n, m]"}])
def test_one_output_may_be_its_name_alone(outputs):
    @graphpipe.model(outputs=outputs)
    def labelled(x):
        return x

    assert graphpipe.load(labelled).infer({"x": X})["label"].tolist() == X.tolist()


def test_names_may_be_separated_by_commas_as_everywhere():
    @graphpipe.model(inputs="x, y", outputs="sum,difference")
    def both(x, y):
        return x + y, x - y

    model = graphpipe.load(both)
    assert model.signature.input_names == ("x", "y")
    answer = model.infer({"x": X, "y": X})
    assert list(answer) == ["sum", "difference"]
    assert not answer["difference"].any()


def test_a_class_may_be_marked_too():
    @graphpipe.model(outputs="y")
    class Model:
        def __call__(self, x):
            return x + 1

    assert graphpipe.load(Model).infer({"x": X})["y"].tolist() == (X + 1).tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: graphpipe.model(42),
            r"graphpipe.model is a decorator: @graphpipe.model\(inputs=.*; 42 came in place of a",
        ),
        (lambda: graphpipe.model("float32[n]"), r"is a decorator: .*; 'float32\[n\]' came in place of a function"),
        (lambda: graphpipe.model(outputs="y")(42), r"is a decorator: .*; 42 came in place of a function"),
        (lambda: graphpipe.model(outputs=42), r"outputs is names, or types and shapes by name, .*; 42 came"),
        (lambda: graphpipe.model(outputs=[1]), r"outputs is names, or types and shapes by name, .*; a list came"),
        (lambda: graphpipe.model(inputs={"x": 4}), r"inputs has types and shapes by name, .*; 4 came as one"),
        (
            lambda: graphpipe.model(outputs="float32[n, 4]"),
            r"outputs has 'float32\[n, 4\]' where a name belongs; say both",
        ),
        (lambda: graphpipe.model(outputs="a,,b"), "outputs has '' where a name belongs"),
        (lambda: graphpipe.model(inputs={"x": "flaot32[n]"}), "flaot32"),
    ],
)
def test_what_was_not_meant_is_refused_where_it_is_written(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()
