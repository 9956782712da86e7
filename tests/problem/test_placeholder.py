"""A model before there is one: random answers that keep the problem's promise."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import graphpipe
from graphpipe import Problem, ProblemError, TooLarge
from tests.serving import run_to_end, serving

DETECTION = Problem.of(
    {"picture": "uint8[h, w, 3]"},
    {
        "corners": "float32[found, 4]", "label": "string[found]", "score": "float16[found]", "mask": "bool[h, w]",
        "class": "int64[found]", "loose": "any", "axis": "float64[?, 2]", "count": "uint8[]",
    },
    name="detection",
)  # fmt: skip
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def same(a, b):
    return all(a[name].shape == b[name].shape and a[name].tolist() == b[name].tolist() for name in a)


def test_an_answer_has_the_names_types_and_shapes_that_are_promised():
    answer = graphpipe.placeholder(DETECTION).infer({"picture": PICTURE})
    found = len(answer["label"])
    assert 1 <= found <= 8
    assert {name: (array.dtype.name, array.shape) for name, array in answer.items() if name not in ("loose", "axis")} == {
        "corners": ("float32", (found, 4)), "label": ("object", (found,)), "score": ("float16", (found,)),
        "mask": ("bool", (4, 6)), "class": ("int64", (found,)), "count": ("uint8", ()),
    }  # fmt: skip
    assert all(type(label) is bytes and label.isalpha() for label in answer["label"])
    for name in ("corners", "score", "axis"):
        assert 0 <= answer[name].min() <= answer[name].max() < 1
    assert 0 <= answer["class"].min() <= answer["class"].max() < 10
    assert DETECTION.posed(graphpipe.placeholder(DETECTION)).infer({"picture": PICTURE}).keys() == answer.keys()


def test_the_same_request_has_the_same_answer_and_another_another():
    model = graphpipe.placeholder(DETECTION)
    first = model.infer({"picture": PICTURE})
    assert same(first, model.infer({"picture": PICTURE.copy(order="F")}))
    assert same(first, graphpipe.placeholder(DETECTION, seed=0).infer({"picture": PICTURE}))
    assert not same(first, model.infer({"picture": PICTURE + 1}))
    assert not same(first, graphpipe.placeholder(DETECTION, seed=1).infer({"picture": PICTURE}))
    only = model.infer({"picture": PICTURE}, ["score"])
    assert list(only) == ["score"]
    assert same(only, first)


def test_text_that_differs_has_another_answer():
    model = graphpipe.placeholder(Problem.of({"text": "string[n]"}, {"y": "float64[n, 9]"}))
    one, other = (model.infer({"text": text})["y"] for text in (["ab", "c"], ["a", "bc"]))
    assert one.shape == other.shape == (2, 9)
    assert one.tolist() != other.tolist()
    assert same(model.infer({"text": ["é"]}), model.infer({"text": ["é".encode()]}))


def test_an_answer_is_the_same_in_another_process():
    problem = {"inputs": {"x": "float32[n]"}, "outputs": {"y": "int32[n]", "z": "string[k]"}}
    code = (
        "import graphpipe, json\n"
        f"model = graphpipe.placeholder(graphpipe.Problem.from_dict({problem!r}))\n"
        "answer = model.infer({'x': [1, 2, 3]})\n"
        "print(json.dumps([answer['y'].tolist(), [word.decode() for word in answer['z']]]))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(json.loads(runs[0])[0]) == 3


def test_an_answer_without_end_is_refused_before_it_takes_memory():
    model = graphpipe.placeholder(Problem.of({"x": "float32[n]"}, {"y": "float32[n, n, n]", "z": "float32"}))
    with pytest.raises(
        TooLarge, match=r"output 'y' would be \[100000, 100000, 100000\]; a placeholder answers at most"
    ):
        model.infer({"x": np.zeros(100_000, np.float32)}, ["z"])


def test_a_size_that_no_array_can_have_is_refused_though_it_holds_nothing():
    model = graphpipe.placeholder(Problem.of({"x": "float32[n, 0]"}, {"y": "float32[n, n, 0]"}))
    with pytest.raises(TooLarge, match="which no array can be"):
        model.infer({"x": np.zeros((2**40, 0), np.float32)})


def test_a_placeholder_needs_no_more_than_a_table_or_two_specs():
    specs = [{"name": "x", "dtype": "float32", "shape": ("n",)}], [{"name": "y", "dtype": "int64", "shape": ("n", 2)}]
    for problem in (specs, Problem.of(*specs).to_dict()):
        assert graphpipe.placeholder(problem).infer({"x": [1, 2, 3]})["y"].shape == (3, 2)


def test_what_is_no_problem_is_refused(tmp_path):
    with pytest.raises(ProblemError, match=r"gone\.toml: No such file"):
        graphpipe.placeholder(tmp_path / "gone.toml")
    with pytest.raises(ProblemError, match="a problem has outputs"):
        graphpipe.placeholder({"inputs": {}})
    with pytest.raises(ProblemError, match="a graphpipe.Problem, the path of one, .*3 came"):
        graphpipe.placeholder(3)
    with pytest.raises(TypeError, match="seed: expected a whole number; '1' came"):
        graphpipe.placeholder(DETECTION, seed="1")


def test_a_placeholder_is_served_by_its_problems_file(tmp_path):
    DETECTION.write(tmp_path / "detect.toml")
    with serving("--model", f"placeholder:{tmp_path / 'detect.toml'}") as server:
        with graphpipe.Client(f"{server.url}/models/detect") as client:
            assert client.signature == DETECTION.signature
            answer = client.infer({"picture": PICTURE})
    with graphpipe.load(f"placeholder:{tmp_path / 'detect.toml'}") as model:
        assert model.name == "detect"
        assert same(answer, model.infer({"picture": PICTURE}))
        assert model.version == graphpipe.placeholder(DETECTION).version != graphpipe.placeholder(DETECTION, 1).version


def test_a_placeholder_of_no_problem_is_no_server(tmp_path):
    run = run_to_end("--model", f"placeholder:{tmp_path / 'gone.toml'}")
    assert run.returncode == 1
    assert "gone.toml: No such file or directory" in run.stderr
    assert "Traceback" not in run.stderr
