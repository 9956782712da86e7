"""Random problems: each is read back as it was written, and each placeholder keeps its own problem's promise."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe import Case, Problem, ProblemError, TensorSpec
from graphpipe.problem.drawn import drawn

DTYPES = [np.dtype(code) for code in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "O")]
# Whatever has a UTF-8 form: control characters, quotes and the words of YAML too.
TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["yes", "null", "1", "a.b", 'q"', "x:0", "\x7f", "\u2028", "~", "-"])
)
NAMES = TEXTS.filter(bool)
SYMBOLS = st.sampled_from(["n", "m", "floor(h/2)", 'a"]'])
SIZES = st.integers(0, 3)
DIMS = st.one_of(st.integers(0, 3), st.none(), SYMBOLS)


@st.composite
def specs(draw, least):
    names = draw(st.lists(NAMES, min_size=least, max_size=3, unique=True))
    return tuple(
        TensorSpec(
            name,
            draw(st.sampled_from([None, *DTYPES])),
            draw(st.one_of(st.none(), st.lists(DIMS, max_size=3).map(tuple))),
            draw(TEXTS),
        )
        for name in names
    )


@st.composite
def arrays_of(draw, inputs):
    """Arrays that fit the specs, of any values."""
    sizes = {}
    made = {}
    for spec in inputs:
        dtype = draw(st.sampled_from(DTYPES)) if spec.dtype is None else spec.dtype
        dims = draw(st.lists(st.integers(0, 3), max_size=2)) if spec.shape is None else spec.shape
        shape = tuple(
            sizes.setdefault(dim, draw(SIZES)) if isinstance(dim, str) else draw(SIZES) if dim is None else dim
            for dim in dims
        )
        count = int(np.prod(shape))
        if dtype.kind == "O":
            array = np.empty(count, object)
            array[:] = draw(st.lists(st.binary(max_size=4), min_size=count, max_size=count))
        else:
            size = count * dtype.itemsize
            array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)
            array = array.astype(np.uint8) > 0 if dtype.kind == "b" else array
        made[spec.name] = array.reshape(shape)
    return made


@st.composite
def problems(draw):
    inputs, outputs = draw(specs(0)), draw(specs(1))
    tests = []
    for _ in range(draw(st.integers(0, 2))):
        given = draw(arrays_of(inputs))
        promised = drawn(inputs, outputs, given, draw(st.integers(0, 9)))
        expected = {name: promised[name] for name in draw(st.sets(st.sampled_from(list(promised))))}
        tolerance = st.floats(0, 1e9)
        tests.append(Case(given, expected, draw(tolerance), draw(tolerance), draw(TEXTS)))
    return Problem(inputs, outputs, draw(TEXTS), draw(TEXTS), tuple(tests))


@settings(max_examples=20, deadline=None)
@given(problems())
def test_what_is_written_is_read_back_in_every_format(problem):
    assert Problem.from_dict(problem.to_dict()) == problem
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem
    with tempfile.TemporaryDirectory() as folder:
        for name in ("p.toml", "p.json", "p.yaml"):
            problem.write(Path(folder, name))
            assert Problem.read(Path(folder, name)) == problem


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_placeholder_keeps_its_own_problems_promise(data):
    problem = Problem(data.draw(specs(0)), data.draw(specs(1)))
    given = data.draw(arrays_of(problem.inputs))
    model = graphpipe.placeholder(problem)
    answer = problem.posed(model.model).infer(given)
    assert list(answer) == [spec.name for spec in problem.outputs]
    assert Problem(problem.inputs, problem.outputs, tests=(Case(given, answer, 0, 0),)).run_tests(model) == []


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "dtype", "type", "shape", "data", "base64", "file", "key", "x"]), inner
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(inputs=VALUES, outputs=VALUES, tests=VALUES, value=VALUES, name=VALUES)
def test_a_table_of_anything_is_a_problem_or_an_error_in_words(inputs, outputs, tests, value, name):
    fits = {"inputs": {"x": "any"}, "outputs": {"y": "any"}}
    for table in (
        {"inputs": inputs, "outputs": outputs, "tests": tests},
        {**fits, "name": name, "tests": tests},
        {**fits, "tests": [{"inputs": {"x": value}, "outputs": value, "atol": name}]},
        {**fits, "tests": [{"inputs": {"x": {"dtype": "float32", "shape": [1], "data": value}}}]},
        value,
    ):
        try:
            problem = Problem.from_dict(table)
        except ProblemError as error:
            assert str(error)
        else:
            assert Problem.from_dict(problem.to_dict()) == problem


@pytest.mark.parametrize("size", [0, 1, 12, 13, 4000])
def test_a_file_that_is_cut_or_changed_is_a_problem_or_an_error(tmp_path, size):
    problem = Problem.of({"x": "float32[n]"}, {"y": "float32[n]"}, tests=[Case({"x": [0.0] * 500}, {"y": [1.0] * 500})])
    for name in ("p.toml", "p.json", "p.yaml", "p.npz"):
        problem.write(tmp_path / "p.json")
        path = tmp_path / name
        if name != "p.npz":
            problem.write(path)
        content = bytearray(path.read_bytes()[:size])
        for at in range(0, len(content), 7):
            content[at] ^= 0x11
        path.write_bytes(content)
        try:
            Problem.read(tmp_path / name.replace(".npz", ".json"))
        except ProblemError as error:
            assert str(error).startswith(str(tmp_path))
