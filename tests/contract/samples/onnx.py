"""ONNX."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["k"], ["k_float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["k_float", "one"], ["column"]),
            helper.make_node("Add", ["x", "column"], ["y"]),
            helper.make_node("ReduceSum", ["x", "one"], ["total"], keepdims=0),
            helper.make_node("Not", ["flags"], ["no"]),
            helper.make_node("StringConcat", ["s", "mark"], ["t"]),
        ],
        "sample",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("k", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("flags", TensorProto.BOOL, ["n"]),
            helper.make_tensor_value_info("s", TensorProto.STRING, ["m"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("no", TensorProto.BOOL, ["n"]),
            helper.make_tensor_value_info("t", TensorProto.STRING, ["m"]),
        ],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("mark", TensorProto.STRING, [1], [b"!"]),
        ],
    )
    path = folder / "sample.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Sample(str(path), strings=True)
