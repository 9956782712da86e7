"""``graphpipe.explain``: the same from Python as on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


@graphpipe.model(inputs={"x": "float32[n, words, 4]"}, outputs={"y": "float32[n, words]"})
def sums(x):
    return x.sum(axis=2)


def halves(y):
    return {"z": y / 2}


def words(text):
    return {"count": np.array([len(line.split()) for line in text])}


def test_a_pipeline_has_its_stages_with_names_types_and_times():
    with graphpipe.Pipeline([sums, halves], name="both") as pipeline:
        found = graphpipe.explain(pipeline, batch=2, runs=3)
        pipeline.infer({"x": np.zeros((1, 1, 4), np.float32)})  # it was not ours to close
    assert (found.name, found.made_of, found.runs) == ("both", "stages", 3)
    assert [part.name for part in found.parts] == ["sums", "halves"]
    assert found.seconds > 0
    assert all(part.seconds > 0 for part in found.parts)
    assert [(value.name, value.declared, value.seen) for value in found.values] == [
        ("x", "float32[n, words, 4]", "float32[2, 16, 4]"),
        ("y", "float32[n, words]", "float32[2, 16]"),
        ("z", "", "float32[2, 16]"),
    ]
    assert [found.values[place].name for place in (*found.inputs, *found.outputs)] == ["x", "z"]


def test_it_is_shown_in_words_as_a_picture_and_as_json():
    found = graphpipe.explain(DIGITS, batch=3, runs=2)
    assert str(found) == found.text()
    assert "asked: pixels float32 [3, 64]" in found.text()
    assert ElementTree.fromstring(found.svg()).tag.endswith("svg")
    assert json.loads(json.dumps(found.as_json()))["inputs"] == [0]
    assert found.kinds()[0].seconds > 0


def test_what_is_given_is_asked_and_what_is_open_may_be_said():
    assert graphpipe.explain(words, {"text": ["a b", "c"]}, runs=1).asked == "text string [2]"
    assert graphpipe.explain(sums, shapes={"x": (5, 7, 4)}, runs=1).asked == "x float32 [5, 7, 4]"
    assert graphpipe.explain(str(DIGITS), outputs=["label"], runs=1).asked == "pixels float32 [1, 64]"


def test_a_model_that_does_not_take_what_is_made_up_is_shown_without_times():
    def picky(x):
        raise ValueError("no such thing")

    found = graphpipe.explain(picky, runs=1)
    assert (found.seconds, found.runs) == (None, 0)
    assert "it does not take what is made up (x float32 [1, 256]): " in found.unmeasured
    assert "no such thing" in found.unmeasured
    assert found.unmeasured.endswith("; say what it takes: inputs=, or shapes=")
    with pytest.raises(ModelFailed, match="no such thing"):
        graphpipe.explain(picky, {"x": [1.0]})
    assert graphpipe.explain(picky, runs=0).unmeasured == "runs=0"


def test_what_makes_no_sense_is_refused():
    for options, error, said in (
        ({"runs": -1}, ValueError, "runs is 0 or more; -1 came"),
        ({"batch": 0}, ValueError, "batch is 1 or more; 0 came"),
        ({"inputs": {"x": 1}, "batch": 2}, ValueError, "inputs say what is asked"),
        ({"shapes": {"y": (1, 1, 4)}}, ValueError, "there is no input 'y'; there are 'x'"),
        ({"shapes": {"x": (1, 4)}}, ValueError, "the model takes x float32"),
        ({"inputs": [1.0]}, InvalidRequest, "inputs is a dict of tensors"),
        ({"inputs": {"x": np.zeros((1, 4))}}, InvalidRequest, "float64"),
    ):
        with pytest.raises(error, match=said):
            graphpipe.explain(sums, **options)
    with pytest.raises(LoadError, match="no such file"):
        graphpipe.explain("none.onnx")


def test_nothing_of_it_is_loaded_before_it_is_used():
    code = "import sys, graphpipe; print([name for name in sys.modules if 'explanation' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
