"""`graphpipe explain`: what it prints, draws and ends with."""

from __future__ import annotations

import json
import shlex
from xml.etree import ElementTree

import numpy as np
import pytest

STEPS = """
import numpy as np

def brighten(image):
    print("a stage's own words")
    return {"pixels": image.reshape(len(image), 64).astype(np.float32)}

def refuses(x):
    raise RuntimeError("inner words")
"""
PIPELINE = """
name = "bright"
[[stages]]
source = "steps.py:brighten"
[[stages]]
source = "digits.onnx"
"""


@pytest.fixture
def here(folder):
    """The folder, with a pipeline too."""
    (folder / "steps.py").write_text(STEPS)
    (folder / "pipeline.toml").write_text(PIPELINE)
    np.save("image.npy", np.ones((1, 8, 8)))
    return folder


def test_a_file_is_explained_in_words_and_a_picture(graphpipe, here):
    status, out, err = graphpipe("explain", "digits.onnx", "--runs", 2, "-o", "digits.svg")
    assert (status, err) == (0, "")
    assert "the median of 2 calls" in out
    assert "9 operators of 8 kinds run" in out
    said = [each.text for each in ElementTree.parse("digits.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"digits", "ReduceSumSquare", "Softmax"} <= set(said)


def test_json_is_alone_on_standard_output(graphpipe, here):
    status, out, err = graphpipe("explain", "pipeline.toml", "--input", "image.npy", "--runs", 3, "--json")
    assert (status, set(err.splitlines())) == (0, {"a stage's own words"})
    document = json.loads(out)
    assert (document["name"], document["made_of"], document["runs"]) == ("bright", "stages", 3)
    assert [(each["name"], each["kind"]) for each in document["parts"]] == [
        ("brighten", "Python function"), ("digits", "ONNX"),
    ]  # fmt: skip
    assert all(each["ms"] > 0 for each in document["parts"])


def test_without_runs_nothing_is_asked(graphpipe, here):
    status, out, _ = graphpipe("explain", "steps.py:refuses", "--runs", 0)
    assert (status, "not measured: --runs 0" in out) == (0, True)


def test_a_model_that_refuses_what_is_made_up_is_shown_with_why(graphpipe, here):
    status, out, err = graphpipe("explain", "steps.py:refuses", "-o", "shown.svg")
    assert (status, err) == (0, "")
    assert "inner words" in " ".join(out.split())
    assert "say what it takes: --input" in " ".join(out.split())
    assert (here / "shown.svg").exists()
    status, out, err = graphpipe("explain", "steps.py:refuses", "--input", "[1]")
    assert (status, out) == (1, "")
    assert "inner words" in err


def test_what_a_model_leaves_open_has_some_size_unless_it_is_said(graphpipe, here):
    (here / "open.py").write_text(
        "import graphpipe\n"
        "@graphpipe.model(inputs={'ids': 'int64[n, t]', 'mask': 'int64[n, t]', 'k': 'float32[n, n, 3]'},"
        " outputs={'y': 'int64[n, t]'})\n"
        "def f(ids, mask, k):\n    return ids * mask\n"
    )
    status, out, _ = graphpipe("explain", "open.py:f", "--batch", 2)
    assert (status, "asked: ids int64 [2, 16], mask int64 [2, 16], k float32 [2, 2, 3]" in out) == (0, True)
    status, out, _ = graphpipe("explain", "open.py:f", "--shape", "mask=1,7")
    assert (status, "asked: ids int64 [1, 7], mask int64 [1, 7], k float32 [1, 1, 3]" in out) == (0, True)


def test_a_server_is_a_model_too(graphpipe, here, url):
    status, out, _ = graphpipe("explain", f"{url}/models/digits", "--runs", 2)
    assert (status, "probabilities" in out, "the median of 2 calls" in out) == (0, True, True)


def test_a_model_in_a_process_of_its_own_is_timed_as_a_whole(graphpipe, here):
    status, out, _ = graphpipe("explain", "digits.onnx", "--isolate", 1, "--runs", 2)
    assert (status, "the median of 2 calls" in out, "operators" in out) == (0, True, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.onnx"], "none.onnx"),
        (["digits.onnx", "-o", "digits.png"], "expected a file .svg"),
        (["digits.onnx", "-o", "no/digits.svg"], "no such folder"),
        (["digits.onnx", "--shape", "pixel=1,64"], "there is no input 'pixel'; did you mean 'pixels'?"),
        (["digits.onnx", "--input", "[1]"], "dimension"),
        (["digits.onnx", "--tags", "serve"], "tags"),
        (["digits.onnx", "--runs", "-1"], "--runs"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(graphpipe, here, arguments, words):
    status, out, err = graphpipe("explain", *arguments)
    assert (status in (1, 2), out) == (True, "")
    assert words in err
    assert "Traceback" not in err


def test_what_help_shows_works_as_it_is_shown(graphpipe, here):
    _, shown, _ = graphpipe("explain", "--help")
    lines = [line.strip() for line in shown.partition("examples:\n")[2].partition("\n\n")[0].splitlines()]
    assert len(lines) == 5
    for line in lines:
        status, out, err = graphpipe(*shlex.split(line)[1:])
        assert (status, bool(out.strip()), err) == (0, True, ""), line
