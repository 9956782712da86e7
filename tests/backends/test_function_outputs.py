"""What a function may give, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import ModelFailed

one = graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"y": "float32[n]"})
two = graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"y": "float32[n, 2]"})


def rows(count):
    return np.arange(4 * count, dtype=np.float32).reshape(count, 4)


def given(function, count=2, outputs=None):
    return graphpipe.load(function).infer({"x": rows(count)}, outputs)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("function", "tail"),
    [
        (lambda x: [float(row.mean()) for row in x], ()),
        (lambda x: [row.mean() for row in x], ()),
        (lambda x: [np.array(row.mean()) for row in x], ()),
        (lambda x: (row.mean() for row in x), ()),
        (lambda x: map(np.mean, x), ()),
        (lambda x: {i: row.mean() for i, row in enumerate(x)}.values(), ()),
        (lambda x: {"y": [row.mean() for row in x]}, ()),
        (lambda x: ([row.mean() for row in x],), ()),
        (lambda x: [row[:2] for row in x], (2,)),
        (lambda x: [[row[0], row[1]] for row in x], (2,)),
        (lambda x: [(row[0], row[1]) for row in x], (2,)),
    ],
)
def test_a_list_is_one_array_with_a_row_for_each_element(function, tail, count):
    def named(x):
        return function(x)

    got = given((two if tail else one)(named), count)
    assert {name: (array.shape, array.dtype) for name, array in got.items()} == {"y": ((count, *tail), np.float32)}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_list_of_a_function_that_declares_nothing_is_one_output(count):
    assert given(lambda x: [row.mean() for row in x], count)["output_0"].shape == (count,)
    assert {name: array.shape for name, array in given(lambda x: list(x), count).items()} == {
        "output_0": (count, 4) if count else (0,)
    }


def test_a_tuple_is_several_outputs_and_so_is_a_list_where_several_are_declared():
    assert list(given(lambda x: (x, x))) == ["output_0", "output_1"]
    both = graphpipe.model(outputs=["a", "b"])(lambda x: [x, x.sum(axis=1)])
    assert {name: array.shape for name, array in given(both).items()} == {"a": (2, 4), "b": (2,)}


class Named(NamedTuple):
    low: object
    high: object


@dataclass
class Fields:
    low: object
    high: object


@pytest.mark.parametrize("kind", [Named, Fields])
def test_fields_are_outputs_by_their_names(kind):
    got = given(lambda x: kind([row.min() for row in x], x.max(axis=1)))
    assert {name: array.shape for name, array in got.items()} == {"low": (2,), "high": (2,)}


def test_whole_numbers_and_nothing_take_the_declared_type():
    def of(kind, value):
        return given(graphpipe.model(outputs={"y": kind})(lambda x: value))["y"]

    for kind in ("uint8", "int32", "float32", "float16"):
        assert (of(f"{kind}[n]", [1, 2]).dtype, of(f"{kind}[n]", [1, 2]).tolist()) == (np.dtype(kind), [1, 2])
        assert of(f"{kind}[n]", [np.int64(1), np.int64(2)]).dtype == kind
    for kind in ("uint8", "string", "bool"):
        assert of(f"{kind}[n, 3]", []).shape == (0, 3)
    assert of("string[n]", ["a\0", b"b"]).tolist() == ["a\0", b"b"]
    with pytest.raises(ModelFailed) as caught:
        of("uint8[n]", [1, 300])
    assert "uint8 cannot hold" in str(caught.value.__cause__)


def test_tensors_and_columns_of_other_libraries_are_arrays():
    torch, pandas = pytest.importorskip("torch"), pytest.importorskip("pandas")
    assert given(lambda x: [torch.tensor(row).mean() for row in x])["output_0"].tolist() == [1.5, 5.5]
    assert given(lambda x: [torch.nn.Parameter(torch.tensor(row)) for row in x])["output_0"].shape == (2, 4)
    assert given(lambda x: torch.nn.Parameter(torch.tensor(x)))["output_0"].shape == (2, 4)
    assert given(lambda x: pandas.DataFrame(x))["output_0"].shape == (2, 4)
    assert given(lambda x: [pandas.Series(row) for row in x])["output_0"].shape == (2, 4)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda x: [x[0, :1], x[0, :2]],
            r"output 'output_0' is a list whose elements have different shapes, \[1\] and",
        ),
        (lambda x: [1.0, None], "output 'output_0' has an element of type float"),
        (
            lambda x: [object()],
            "output 'output_0' (is no array: an object came|holds values of object, which have no type)",
        ),
        (lambda x: {1.0, 2.0}, "output 'output_0' is no array: a set came"),
        (lambda x: x.astype(complex), "output 'output_0' is complex128, which has no type on the wire"),
        (lambda x: {"y": x, "z": np.zeros(1, "M8[s]")}, "output 'z' is datetime64"),
        (lambda x: np.ma.masked_array([1, 2], [True, False]), "output 'output_0' has masked elements"),
    ],
)
def test_what_is_no_array_is_the_models_failure_and_the_cause_says_why(function, words):
    with pytest.raises(ModelFailed) as caught:
        given(function)
    assert caught.value.__cause__ is not None
    assert re.match(words, str(caught.value.__cause__)), caught.value.__cause__


def test_an_output_that_cannot_travel_harms_nobody_who_does_not_ask_for_it():
    strange = {"y": np.ones(1), "z": np.ones(1, complex), "ragged": [[1], [1, 2]], "none": None}
    assert list(given(lambda x: dict(strange), outputs=["y"])) == ["y"]
    assert list(given(graphpipe.model(outputs={"y": "float64[n]"})(lambda x: dict(strange)))) == ["y"]
    assert list(given(lambda x: {"y": x, "none": None})) == ["y"]
