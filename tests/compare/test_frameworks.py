"""One problem in every framework, beside one another: one call compares them all, here and in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

import graphpipe
from tests.serving import ROOT, environment

# They make a package with each framework: minutes of TensorFlow.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


KINDS = ("python", "onnx", "torch", "torchscript", "keras", "savedmodel")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("addition")
    make = ROOT / "examples" / "addition" / "make.py"
    subprocess.run([sys.executable, make, folder, *KINDS], check=True, env=environment(), cwd=ROOT)
    return sorted(folder.glob("*.zip"))


def error(inputs, outputs, truth):
    return float(abs(outputs["out"] - (inputs["x"] + inputs["y"])).max())


def test_every_framework_gives_the_same_answers_to_one_metric(packages):
    data = {"x": [0.5 * i for i in range(64)], "y": [1.0] * 64}
    found = graphpipe.compare(packages, data, metric=error, batch=8, repeat=2)
    assert [model.name for model in found.models] == sorted(KINDS)
    assert found.over(0) == []
    assert [model.metrics for model in found.models] == [{"error": 0.0}] * len(KINDS)


def test_models_in_processes_of_their_own_are_compared_as_well(packages):
    some = [each for each in packages if each.stem in ("onnx", "python", "torchscript")]
    found = graphpipe.compare(some, metric=error, isolate=1)  # the tests that lie in the packages
    assert found.over(0) == []
    assert {each.max_abs for each in found.differences if each.reference == "expected"} == {0.0}
