"""Walking through graphs: the graphs inside a graph, its operators, its names, and all of these called otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx

__all__ = ["domain_of", "graphs_of", "is_text", "names_in", "nodes_in", "operators", "rename"]


def nodes_in(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, with those of the graphs that nodes hold, such as a loop's body."""
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from nodes_in(inner)


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds itself."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def domain_of(domain: str) -> str:
    """The domain's one name: the default one has two, and a file that lists both is refused by some."""
    return "" if domain == "ai.onnx" else domain


def is_text(message: Any) -> bool:
    """Whether all texts of a message of protobuf are: what is no UTF-8 comes as bytes, and nothing could name it."""
    for field, value in message.ListFields():
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        if field.type == field.TYPE_STRING:
            if any(isinstance(each, bytes) for each in values):
                return False
        elif field.type == field.TYPE_MESSAGE and not all(map(is_text, values)):
            return False
    return True


def operators(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    """The operators that are used: domain and name."""
    return {(domain_of(node.domain), node.op_type) for node in nodes_in(graph)}


def names_in(graph: onnx.GraphProto) -> set[str]:
    """What values are called in it, and in the graphs inside it."""
    names = {info.name for infos in (graph.input, graph.output, graph.value_info) for info in infos}
    names |= {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    for node in graph.node:
        names.update(node.input, node.output)
        for inner in graphs_of(node):
            names |= names_in(inner)
    return names - {""}  # an input that is left out has no name


def rename(graph: onnx.GraphProto, name_of: Callable[[str], str], node_name_of: Callable[[str], str]) -> None:
    """Call all values and nodes otherwise, in place, those of the graphs inside too.

    A name stands for one value wherever it occurs: a graph inside sees the values around it by their names, and may not
    use one of those for a value of its own.
    """
    for infos in (graph.input, graph.output, graph.value_info):
        for info in infos:
            info.name = name_of(info.name)
    for tensor in graph.initializer:
        tensor.name = name_of(tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = name_of(sparse.values.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = name_of(annotation.tensor_name)
        for entry in annotation.quant_parameter_tensor_names:
            entry.value = name_of(entry.value)
    for node in graph.node:
        if node.name:
            node.name = node_name_of(node.name)
        for values in (node.input, node.output):
            values[:] = [name and name_of(name) for name in values]
        for inner in graphs_of(node):
            rename(inner, name_of, node_name_of)
