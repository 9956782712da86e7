"""What people write for a problem's inputs and outputs, and what is said of what makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe
from graphpipe import Case, Problem, ProblemError, TensorSpec

F4, TEXT = np.dtype("f4"), np.dtype(object)


def spec_of(**more):
    return Problem.of([{"name": "x", **more}], {"out": "float32"}).inputs[0]


def test_a_detection_problem_is_taken_as_it_is_written_elsewhere():
    input_spec = [
        {"name": "picture", "dtype": "uint8", "shape": (480, 640, 3)},
    ]
    output_spec = [
        {"name": "corners", "dtype": "float32", "shape": ("found", 4)},
        {"name": "label", "dtype": "string", "shape": ("found",)},
        {"name": "score", "dtype": "float32", "shape": ("found",)},
    ]
    problem = Problem.of(input_spec, output_spec)
    assert problem.inputs == (TensorSpec("picture", np.dtype("u1"), (480, 640, 3)),)
    assert problem.outputs == (
        TensorSpec("corners", F4, ("found", 4)),
        TensorSpec("label", TEXT, ("found",)),
        TensorSpec("score", F4, ("found",)),
    )
    assert problem == Problem.of(
        {"picture": "uint8[480, 640, 3]"},
        {"corners": "float32[found, 4]", "label": "string[found]", "score": "float32[found]"},
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("float32", "float32"), ("float", "float32"), ("double", "float64"), ("half", "float16"), ("long", "int64"),
        ("int64", "int64"), ("bool", "bool"), ("string", "string"), ("str", "string"), ("bytes", "string"),
        (np.float32, "float32"), (np.dtype(">i2"), "int16"), (np.dtype("U7"), "string"), ("<f4", "float32"),
        (str, "string"), (bool, "bool"), (float, "float64"), (int, "int64"), (np.bool_, "bool"),
        ("torch.float32", "float32"), ("tf.int32", "int32"), ("np.uint8", "uint8"), ("any", "any"), (None, "any"),
    ],
)  # fmt: skip
def test_a_dtype_is_what_its_writer_means(written, meant):
    assert spec_of(dtype=written).text == meant


@pytest.mark.parametrize(
    ("shape", "meant"),
    [
        ((2, None, "n"), (2, None, "n")),
        ([2, -1, "?"], (2, None, None)),
        ((), ()),
        (None, None),
        ((np.int64(3), 0), (3, 0)),
        (("floor(h/2)",), ("floor(h/2)",)),
    ],
)
def test_a_dimension_is_a_number_a_symbol_or_anything(shape, meant):
    assert spec_of(dtype="float32", shape=shape).shape == meant


def test_a_missing_shape_is_any():
    assert spec_of(dtype="float32") == TensorSpec("x", F4)


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"x": "flaot32[n]"}, r"inputs\.x: there is no tensor type 'flaot32'.*did you mean 'float32'\?"),
        ({"x": "int[n]"}, "inputs.x: 'int' has 32 bits to some and 64 to others; say int32 or int64"),
        ({"x": "float32[n"}, r"inputs\.x: expected a type and a shape like float32\[n, 4\]"),
        ({"x": "float32[n m]"}, "inputs.x: a dimension is a number, a word or"),
        ({"x": "float32..."}, r"inputs\.x: a problem names each of its tensors"),
        ({"x": 3}, "inputs.x: expected a type like .*; 3 came"),
        ({"x": {"dtype": "float32", "shpae": [1]}}, r"inputs\.x: there is no key 'shpae'; did you mean 'shape'\?"),
        ({"x": {"shape": [1]}}, "inputs.x: it has no dtype"),
        ({"x": {"type": "float32", "shape": [1]}}, "inputs.x: type says it all"),
        ({"x": {"dtype": "float32", "shape": "n"}}, "a shape is a list of numbers, symbols and None.*'n' came"),
        ({"x": {"dtype": "float32", "shape": [1.5]}}, "a dimension is a number, a symbol or None; 1.5 came"),
        ({"x": {"dtype": "float32", "shape": [True]}}, "a dimension is a number, a symbol or None; True came"),
        ({"x": {"dtype": "float32", "shape": [-2]}}, "a dimension is not negative"),
        ({"x": {"dtype": "float32", "shape": [2**62]}}, r"below 2\*\*62"),
        ({"x": {"dtype": "float32", "shape": [""]}}, "a symbol has 1 to"),
        ({"x": {"dtype": "float32", "shape": [None] * 33}}, "33 dimensions; at most 32"),
        ({"x": {"dtype": "complex64"}}, "there is no tensor type 'complex64'"),
        ({"x": {"dtype": "f4,(2)i4"}}, "there is no tensor type"),
        ({"x": {"dtype": "float32", "description": 4}}, "a description is text; 4 came"),
        ([{"dtype": "float32"}], r"inputs\[0\]: it has no name"),
        ([{"name": 4, "dtype": "float32"}], r"inputs\[0\]: a name is text; 4 came"),
        ([{"name": "", "dtype": "float32"}], "a name has 1 to"),
        ([{"name": "\ud800", "dtype": "float32"}], "no UTF-8 form"),
        ([{"name": "x", "dtype": "float32"}] * 2, "an input name occurs twice"),
        (["float32"], r"inputs\[0\]: expected a table with name, dtype and shape; 'float32' came"),
        ("float32", "inputs: expected a table of names and types, or a list"),
        ({f"x{i}": "float32" for i in range(4097)}, "4,097 came; at most 4,096"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(inputs, why):
    with pytest.raises(ProblemError, match=why) as caught:
        Problem.of(inputs, {"out": "float32"})
    assert isinstance(caught.value, graphpipe.LoadError)
    assert isinstance(caught.value, ValueError)


def test_a_problem_without_an_output_is_none():
    with pytest.raises(ProblemError, match="outputs: a problem has at least one"):
        Problem.of({"x": "float32"}, {})


def test_a_problem_prints_as_what_it_says():
    problem = Problem.of(
        {"picture": {"type": "uint8[480, 640, 3]", "description": "RGB"}},
        {"<b>": "float32[found, 4]"},
        name="detection", tests=[Case({"picture": np.zeros((480, 640, 3), np.uint8)})],
    )  # fmt: skip
    assert str(problem).splitlines() == [
        "detection",
        "in  picture  uint8[480, 640, 3]  RGB",
        "out <b>      float32[found, 4]",
        "tests: 1",
    ]
    html = problem._repr_html_()
    assert "<td>&lt;b&gt;</td><td><code>float32[found, 4]</code></td>" in html


# --- tests of a problem -----------------------------------------------------------------------------------------------

SUM = ({"x": "float32[n]", "y": "float32[n]"}, {"out": "float32[n]"})


def test_values_of_a_test_take_the_problems_types_and_are_its_own():
    mine = np.ones(2, np.float32)
    problem = Problem.of(*SUM, tests=[Case({"x": [1, 2], "y": mine}, {"out": [2, 3]}), {"inputs": {"x": [], "y": []}}])
    mine[:] = 7
    first, second = problem.tests
    assert (first.inputs["x"].dtype, first.inputs["y"].tolist(), first.outputs["out"].dtype) == (F4, [1, 1], F4)
    assert second.inputs["x"].dtype == F4
    with pytest.raises(ValueError, match="read-only"):
        first.inputs["x"][:] = 0


def test_an_empty_list_has_the_rank_that_the_problem_says():
    problem = Problem.of({"x": "float32"}, {"corners": "float32[found, 4]"}, tests=[Case({"x": 1.0}, {"corners": []})])
    assert problem.tests[0].outputs["corners"].shape == (0, 4)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case({"x": [1.0]}), r"tests\[0\]\.inputs: 'y' missing"),
        (Case({"x": [1.0], "y": [1.0], "z": [1.0]}), r"tests\[0\]\.inputs: the problem has no 'z'"),
        (
            Case({"x": [1.0], "y": [1.0, 2.0]}),
            r"tests\[0\]\.inputs: input 'y' has 2 along axis 0, but 'n' is already 1",
        ),
        (Case({"x": ["a"], "y": [1.0]}), r"tests\[0\]\.inputs\.x: it is string\[1\], and the problem has float32\[n\]"),
        (
            Case({"x": [1.0], "y": [1.0]}, {"uot": [1.0]}),
            "tests.*outputs: the problem has no 'uot'; did you mean 'out'",
        ),
        (
            Case({"x": [1.0], "y": [1.0]}, {"out": np.ones(1)}),
            r"tests\[0\]\.outputs\.out: it is float64\[1\], and the problem has float32\[n\]",
        ),
        (
            Case({"x": [1.0], "y": [1.0]}, {"out": [1.0, 2.0]}),
            r"output 'out' is float32\[2\], and float32\[n\] was promised, where n is 1 in 'x'",
        ),
        (Case({"x": [1.0], "y": [None]}), r"tests\[0\]\.inputs\.y: .*null"),
        (Case({"x": [1.0], "y": [1.0]}, rtol=-1), r"tests\[0\]\.rtol: a tolerance is a number, 0 or more; -1 came"),
        (Case({"x": [1.0], "y": [1.0]}, atol=float("nan")), r"tests\[0\]\.atol: a tolerance"),
        (Case({"x": [1.0], "y": [1.0]}, name=3), r"tests\[0\]\.name: a name is text"),
        (Case([1.0]), r"tests\[0\]\.inputs: expected values by name; a list came"),
        ({"input": {}}, r"tests\[0\]: there is no key 'input'; did you mean 'inputs'\?"),
        ({"inputs": "arrays.npz"}, r"tests\[0\]\.inputs: a file can be named in a problem's file only"),
        (3, r"tests\[0\]: expected a table with inputs and outputs; 3 came"),
    ],
)
def test_a_test_that_does_not_fit_its_problem_is_refused(case, why):
    with pytest.raises(ProblemError, match=why):
        Problem.of(*SUM, tests=[case])
