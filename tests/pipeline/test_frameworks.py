"""Stages of different frameworks behind one another give what they give when they are called by hand."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.errors import PackageError
from tests.onnx_graphs import scaled


def test_onnx_torch_and_python(tmp_path):
    torch = pytest.importorskip("torch")
    scaled(tmp_path / "scale.onnx", 3.0)

    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.linear = torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.linear(x).relu()

    module = Mixed().eval()

    def counts(texts):
        return {"x": np.array([[text.count(letter) for letter in b"abcd"] for text in texts], np.float32)}

    def best(scores):
        return {"best": scores.argmax(axis=1), "scores": scores}

    pipeline = Pipeline(
        [
            counts,
            Stage(tmp_path / "scale.onnx", outputs={"y": "x"}),
            Stage(module, "torch", outputs={"output_0": "scores"}),
            best,
        ]
    )
    texts = ["abba", "cd", "", "dddd"]
    by_hand = counts(np.array([text.encode() for text in texts], object))
    with graphpipe.load(tmp_path / "scale.onnx") as scale:
        grown = scale.infer(by_hand)["y"]
    scores = graphpipe.load(module).execute(grown)
    answer = pipeline.infer({"texts": texts})
    np.testing.assert_array_equal(answer["scores"], scores)
    np.testing.assert_array_equal(answer["best"], scores.argmax(axis=1))
    assert answer["scores"].flags.writeable


def test_a_server_is_a_stage(serve):
    server = serve("--model", "echo")
    pipeline = Pipeline([Stage(server.url, inputs={"x": "x"}), lambda x: {"y": x + 1}])
    assert pipeline.infer({"x": np.array([1.0])}) == {"y": [2]}
    pipeline.close()


def test_a_module_of_this_program_is_saved_where_its_problem_says_what_it_takes(tmp_path):
    torch = pytest.importorskip("torch")
    problem = graphpipe.Problem.of({"x": "float32[n, 2]"}, {"y": "float32[n, 3]"}, name="net")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 3)

        def forward(self, x):
            return self.linear(x)

    net = Net().eval()
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    with (
        Pipeline([Stage(net, "net")]) as pipeline,
        pytest.raises(PackageError, match=r"Stage\(module, problem=\.\.\.\)"),
    ):
        pipeline.save(tmp_path / "none")
    with Pipeline([Stage(net, "net", problem=problem)]) as pipeline:
        pipeline.save(tmp_path / "saved")
        with graphpipe.load(tmp_path / "saved") as again:
            assert np.allclose(again.execute(x), pipeline.execute(x), atol=1e-6)
