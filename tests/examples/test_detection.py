"""The detectors: two frameworks, one problem, the same answers, and a rule that judges both."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import graphpipe
from graphpipe import Problem
from tests.serving import ROOT, environment

FOLDER = ROOT / "examples" / "detection"
BLOBS = f"{FOLDER}/blobs.py:detect"


# They import PyTorch and run the script; what the README shows is compared in the quick suite.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the script makes: the ONNX model, the problem and pictures."""
    folder = tmp_path_factory.mktemp("detection")
    subprocess.run([sys.executable, FOLDER / "make.py", folder], check=True, env=environment(), cwd=folder)
    return folder


def test_the_committed_files_are_what_the_script_makes(made):
    assert (made / "blobs.onnx").read_bytes() == (FOLDER / "blobs.onnx").read_bytes()
    assert (made / "problem.toml").read_text() == (FOLDER / "problem.toml").read_text()


def test_both_find_the_same_and_the_metric_says_that_it_is_right(made):
    found = graphpipe.compare(
        [FOLDER / "blobs.onnx", BLOBS], made / "pictures", problem=FOLDER / "problem.toml",
        metric=f"{FOLDER}/metrics.py:Detections",
    )  # fmt: skip
    assert found.over(1e-5) == []
    assert [model.metrics for model in found.models] == 2 * [{"precision": 1.0, "recall": 1.0}]
    assert {each.output for each in found.differences} == {"corners", "label", "score"}
    assert sum(each.elements for each in found.differences if each.output == "label") > 20


def test_a_picture_with_nothing_in_it_has_no_boxes():
    problem = Problem.read(FOLDER / "problem.toml")
    for source in (FOLDER / "blobs.onnx", BLOBS):
        with graphpipe.load(source, problem=problem) as detector:
            answer = detector.infer({"picture": np.zeros((480, 640, 3), np.uint8)})
        assert {name: array.shape for name, array in answer.items()} == {
            "corners": (0, 4),
            "label": (0,),
            "score": (0,),
        }
        assert problem.signature == detector.signature


def test_the_metric_tells_a_bad_detector_from_a_good_one(made):
    def blind(picture):
        return {
            "corners": np.zeros((1, 4), np.float32),
            "label": np.array(["red"], object),
            "score": np.ones(1, np.float32),
        }

    found = graphpipe.compare(
        {"good": FOLDER / "blobs.onnx", "blind": blind}, made / "pictures", problem=FOLDER / "problem.toml",
        metric=f"{FOLDER}/metrics.py:Detections",
    )  # fmt: skip
    assert found.models[1].metrics == {"precision": 0.0, "recall": 0.0}
    assert any("not comparable" in words for words in found.over(1e9))
