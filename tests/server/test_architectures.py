"""Real architectures over the wire give, bit for bit, what ONNX Runtime gives in process.

The onnx wheel ships them with constant weights, so that any input gives one answer; here they get random ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import graphpipe

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def with_random_weights(name: str, path: Path, seed: int = 2018) -> Path:
    """One of the wheel's light models, its weights drawn anew: scaled by their fan-in, so that activations stay finite."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(seed)
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.INT64}
    filled = {node.output[0]: shapes[node.input[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    filled |= {i.name: i.dims for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT and len(i.dims) == 1}
    # Biases and means stand around 0. Scales stand below 1, or sums of branches would grow until softmax knows one class
    # only.
    centres = {
        name: {("BatchNormalization", 1): 0.5, ("BatchNormalization", 4): 1}.get((node.op_type, place), 0)
        for node in graph.node
        for place, name in enumerate(node.input)
    }

    def draw(name: str, dims: list[int]) -> np.ndarray:
        if len(dims) > 1:
            return rng.standard_normal(dims, np.float32) * np.float32(np.sqrt(2 / np.prod(dims[1:])))
        return (centres.get(name, 0) + rng.uniform(-0.25, 0.25, dims)).astype(np.float32)

    kept = [i for i in graph.initializer if i.name not in filled]
    drawn = [numpy_helper.from_array(draw(name, list(dims)), name) for name, dims in filled.items()]
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    names = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in names]
    for field, values in ((graph.initializer, [*kept, *drawn]), (graph.node, nodes), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    model.ir_version = 8  # the first versions wanted every initializer among the inputs
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet",
        "resnet50",
        "shufflenet",
        "inception_v1",
        pytest.param("bvlc_alexnet", marks=pytest.mark.slow),
        pytest.param("vgg19", marks=pytest.mark.slow),
    ],
)
def test_answers_are_those_of_the_runtime_and_differ_with_the_input(serve, tmp_path: Path, name: str) -> None:
    path = with_random_weights(name, tmp_path / f"{name}.onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    server = serve("--model", path, "--threads", "2")
    rng = np.random.default_rng(7)
    images = [rng.standard_normal((1, 3, 224, 224), np.float32) for _ in range(3)]
    answers = []
    for image in images:
        answer = graphpipe.remote.execute(server.url, image)
        (expected,) = session.run(None, {session.get_inputs()[0].name: image})
        assert answer.dtype == expected.dtype
        # The same runtime in another process: as good as equal, however it lays out its sums.
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert np.isfinite(answer).all()
        answers.append(answer)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(answers[one] - answers[other]).max() > 1e-4 * np.abs(answers[one]).max()
