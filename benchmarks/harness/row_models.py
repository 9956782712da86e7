"""The models that benchmarks of rows serve, made on the spot: any number of rows in, as many out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["identity", "mlp", "squeezenet"]

FLOAT = TensorProto.FLOAT


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> Path:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def mlp(folder: Path, sizes: tuple[int, ...] = (1024, 2048, 2048, 10)) -> Path:
    """A multilayer perceptron with ReLU between its layers, float32."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        matrix = (rng.standard_normal((before, after)) / np.sqrt(before)).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{i}"),
            numpy_helper.from_array(np.zeros(after, np.float32), f"b{i}"),
        ]
        final = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], ["y" if final else f"z{i}"]))
        if not final:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"a{i}"]))
        last = f"a{i}"
    return _save(
        folder / "mlp.onnx",
        nodes,
        [helper.make_tensor_value_info("x", FLOAT, ["n", sizes[0]])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", sizes[-1]])],
        weights,
    )


def identity(folder: Path, floats: int) -> Path:
    """y = x: the answer is as large as the request."""
    return _save(
        folder / f"identity_{floats}.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", FLOAT, ["n", floats])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", floats])],
        [],
    )


def squeezenet(folder: Path) -> Path:
    """Squeezenet 1.0 from the onnx package, which has its architecture with constant weights, for any number of images."""
    source = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    model = onnx.load(source)
    for info in (*model.graph.input, *model.graph.output):
        dims = info.type.tensor_type.shape.dim
        if len(dims) == 4 and dims[0].dim_value == 1:
            dims[0].dim_param = "n"
    del model.graph.value_info[:]
    path = folder / "squeezenet.onnx"
    onnx.save(model, path)
    return path
