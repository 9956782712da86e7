"""Shapes, inferred strictly: what contradicts itself is refused here, not by a runtime's warning or at the first request."""

from __future__ import annotations

import re

import onnx

from graphpipe.errors import LoadError
from graphpipe.fusing.part import Part
from graphpipe.fusing.types import text
from graphpipe.words import first_line

__all__ = ["infer_part", "infer_whole"]

_NODE = re.compile(r"node name: (.*?)\)+: ")


def infer_part(part: Part) -> None:
    """Know more of what a part gives than it says. Raises LoadError for one that contradicts itself."""
    try:
        part.model = onnx.shape_inference.infer_shapes(part.model, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise LoadError(f"{part.source}: its shapes contradict one another: {_words(error)}") from None


def infer_whole(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types and shapes of all values that can be known. Raises LoadError, with what the node that they do
    not fit takes, where the parts do not go together.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise LoadError(f"the parts do not go together: {_words(error)}{_takes(model, error)}") from None
    try:
        onnx.checker.check_model(inferred)
    except onnx.checker.ValidationError as error:
        raise LoadError(f"the parts make no valid graph: {first_line(error)}") from None
    return inferred


def _words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\[\w+\] ?", "", lines[-1]) if lines else type(error).__name__


def _takes(model: onnx.ModelProto, error: Exception) -> str:
    """What the node in question takes, by name, type and shape."""
    found = _NODE.search(str(error))
    node = next((node for node in model.graph.node if found and node.name == found[1]), None)
    if node is None:
        return ""
    try:
        known = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # what it says is lost, not the error
        known = model.graph
    infos = {info.name: info for each in (known.input, known.value_info) for info in each}
    for tensor in known.initializer:
        infos[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    values = [f"{name!r} {text(infos[name])}" if name in infos else repr(name) for name in node.input if name]
    return f"; {node.name} takes {', '.join(values)}"
