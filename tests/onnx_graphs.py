"""Small ONNX models that tests need, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING, BOOL, FLOAT16 = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL, TensorProto.FLOAT16,
)  # fmt: skip

Info = tuple[str, int, Sequence[int | str | None]]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Info],
    outputs: Sequence[Info],
    initializers: Sequence[onnx.TensorProto] = (),
    **options: Any,
) -> Path:
    """A model of these nodes, checked, as a file. ``options`` are those of onnx.save."""
    graph = helper.make_graph(
        list(nodes),
        path.stem,
        [helper.make_tensor_value_info(*info) for info in inputs],
        [helper.make_tensor_value_info(*info) for info in outputs],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path, **options)
    return path


def pair_sum(path: Path) -> Path:
    """sum = a + b, twice = a + a; both inputs float32 [n, 3] with the same n."""
    return save(
        path,
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Add", ["a", "a"], ["twice"])],
        [("a", FLOAT, ["n", 3]), ("b", FLOAT, ["n", 3])],
        [("sum", FLOAT, ["n", 3]), ("twice", FLOAT, ["n", 3])],
    )


def scaled(path: Path, factor: float, **options: Any) -> Path:
    """y = x * factor, for float32 [n, 4] with one factor for each column."""
    weights = numpy_helper.from_array(np.full(4, factor, np.float32), "factors")  # raw, as files beside a model need it
    return save(
        path, [helper.make_node("Mul", ["x", "factors"], ["y"])],
        [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])], [weights], **options,
    )  # fmt: skip


def reshaping(path: Path) -> Path:
    """y = x reshaped to [2, 3]: fails inside the runtime on anything but six elements."""
    target = helper.make_tensor("target", INT64, [2], [2, 3])
    return save(
        path,
        [helper.make_node("Reshape", ["x", "target"], ["y"])],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, [2, 3])],
        [target],
    )


def passing(path: Path, element_type: int, shape: Sequence[int | str | None]) -> Path:
    """y = x, of any element type."""
    return save(
        path, [helper.make_node("Identity", ["x"], ["y"])], [("x", element_type, shape)], [("y", element_type, shape)]
    )


def slow(path: Path) -> Path:
    """y = x after a loop of ``rounds`` matrix products: about a second for 300 rounds of 512."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "m_in"], ["product"]),
            helper.make_node("Clip", ["product", "low", "high"], ["m_out"]),
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go_on", BOOL, []),
            helper.make_tensor_value_info("m_in", FLOAT, [512, 512]),
        ],
        [
            helper.make_tensor_value_info("go_on_out", BOOL, []),
            helper.make_tensor_value_info("m_out", FLOAT, [512, 512]),
        ],
        [helper.make_tensor("low", FLOAT, [], [-1.0]), helper.make_tensor("high", FLOAT, [], [1.0])],
    )
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["m"], value=helper.make_tensor("v", FLOAT, [1], [0.001])),
        helper.make_node("Loop", ["rounds", "", "m"], ["last"], body=body),
        helper.make_node("ReduceMax", ["last"], ["y"], keepdims=0),
    ]
    return save(
        path, nodes, [("rounds", INT64, [])], [("y", FLOAT, [])], [helper.make_tensor("size", INT64, [2], [512, 512])]
    )
