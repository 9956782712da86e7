"""One of the graphs that are fused: read, looked at, and made plain, with its large weights set aside.

What is done to a graph, inlining, conversion, inference of shapes, is done by libraries that take its bytes and give
others: hundreds of megabytes of weights would be copied each time, and over 2 GiB no message can be. So the large ones are
taken out first, stand in the graph as inputs of their types and shapes, and come back at the end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import inliner

from graphpipe.backends import onnx_file
from graphpipe.backends.foreign import no_such_file
from graphpipe.errors import LoadError
from graphpipe.fusing import graphs
from graphpipe.fusing.graphs import domain_of, nodes_in
from graphpipe.words import first_line

__all__ = ["Part", "read", "read_named"]

# Shapes, axes and sizes are small, and libraries want to know them.
_SMALL_ELEMENTS = 1024
# The first version in which a graph's weights need not be its inputs too.
_IR_WITH_CONSTANTS = 4


@dataclass
class Part:
    """A graph without its large weights.

    ``name`` is what its values are called after, ``source`` what it is called in messages. ``opsets`` has the version of
    each domain of operators, the default one as "". ``whole`` is the model as it came, to be run.
    """

    name: str
    source: str
    whole: onnx.ModelProto | Path
    model: onnx.ModelProto
    weights: dict[str, onnx.TensorProto]
    opsets: dict[str, int] = field(default_factory=dict)

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph

    @property
    def takes(self) -> dict[str, onnx.ValueInfoProto]:
        """Its inputs, without what stands for weights."""
        return {info.name: info for info in self.graph.input if info.name not in self.weights}

    @property
    def gives(self) -> dict[str, onnx.ValueInfoProto]:
        return {info.name: info for info in self.graph.output}

    def fix_defaults(self, besides: Mapping[str, object]) -> None:
        """Let inputs that may be left out be what they are then, for good, ``besides`` those that are given."""
        kept = [info for info in self.graph.input if info.name in besides or info.name not in self.defaults]
        del self.graph.input[:]
        self.graph.input.extend(kept)

    @property
    def defaults(self) -> set[str]:
        """The inputs that may be left out, since the graph has a value for them."""
        return {tensor.name for tensor in self.graph.initializer} & set(self.takes)


def read_named(files: Mapping[str, Path]) -> list[Part]:
    """The graphs in files, under names that are told. Raises LoadError for what is no ONNX graph."""
    return [_plain(name, f"stage {name!r}", path, _model(path, 0)[1]) for name, path in files.items()]


def read(sources: Sequence[object]) -> list[Part]:
    """The graphs, each under a name of its own. Raises LoadError for what is no ONNX graph."""
    parts: list[Part] = []
    taken: set[str] = set()
    for place, source in enumerate(sources, 1):
        whole, model, said = _model(source, place)
        name = _unused(_stem(said if isinstance(whole, Path) else model.graph.name or f"part{place}"), taken)
        parts.append(_plain(name, said, whole, model))
    return parts


def _stem(text: str) -> str:
    # A slash parts the names of graphs from those of their values, a dot does when somebody writes them.
    return Path(text).stem.replace("/", "_").replace(".", "_") or "part"


def _unused(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def _model(source: object, place: int) -> tuple[onnx.ModelProto | Path, onnx.ModelProto, str]:
    if isinstance(source, onnx.ModelProto):
        return source, source, f"part {place} ({source.graph.name or 'without a name'})"
    if not isinstance(source, str | os.PathLike):
        what = "a function" if callable(source) else f"a {type(source).__name__}"
        raise LoadError(
            f"part {place} is {what}; graphs of ONNX can be fused, as files or onnx.ModelProto; a pipeline runs the others "
            "beside them"
        )
    path = Path(source)
    if not path.is_file():
        raise LoadError(f"{path}: {'is not a plain file' if path.exists() else no_such_file(str(path))}")
    onnx_file.check(path)
    try:
        return path, onnx.load(path), str(path)
    except Exception as error:  # protobuf's own, the checker's, or the file's
        raise LoadError(f"{path}: is no ONNX file: {first_line(error)}") from None


def _plain(name: str, source: str, whole: onnx.ModelProto | Path, model: onnx.ModelProto) -> Part:
    if not graphs.is_text(model):
        raise LoadError(f"{source}: has names or words that are no UTF-8")
    light, weights = _without_weights(model)
    if not light.graph.output:
        raise LoadError(f"{source}: has no graph that gives anything")
    if light.functions:
        # Functions of two parts may have one name, and no converter looks into them.
        try:
            light = inliner.inline_local_functions(light)
        except Exception as error:
            raise LoadError(f"{source}: its functions cannot be written out: {first_line(error)}") from None
    opsets: dict[str, int] = {}
    for entry in light.opset_import:
        domain = domain_of(entry.domain)
        opsets[domain] = max(entry.version, opsets.get(domain, 0))
    for node in nodes_in(light.graph):
        node.domain = domain_of(node.domain)
        if node.domain not in opsets:
            raise LoadError(
                f"{source}: uses {node.op_type} of {node.domain or 'ai.onnx'}, and does not say which version"
            )
    return Part(name, source, whole, light, weights, opsets)


def _without_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    light = onnx.ModelProto(
        ir_version=model.ir_version, producer_name=model.producer_name, domain=model.domain, doc_string=model.doc_string
    )
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.metadata_props.extend(model.metadata_props)
    graph, out = model.graph, light.graph
    out.name, out.doc_string = graph.name, graph.doc_string
    for repeated in ("node", "output", "sparse_initializer", "quantization_annotation", "metadata_props"):
        getattr(out, repeated).extend(getattr(graph, repeated))
    constants = {tensor.name for tensor in graph.initializer}
    if model.ir_version < _IR_WITH_CONSTANTS:
        # Weights had to be inputs then, and nobody meant to give them.
        out.input.extend(info for info in graph.input if info.name not in constants)
        light.ir_version = _IR_WITH_CONSTANTS
    else:
        out.input.extend(graph.input)
    inputs = {info.name for info in out.input}
    weights = {}
    for tensor in graph.initializer:
        count = 1
        for size in tensor.dims:
            count *= size
        if count <= _SMALL_ELEMENTS or tensor.name in inputs:
            out.initializer.add().CopyFrom(tensor)
        else:
            weights[tensor.name] = tensor
            out.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    _keep_known_types(graph, out)
    return light, weights


def _keep_known_types(graph: onnx.GraphProto, out: onnx.GraphProto) -> None:
    """What the graph says of values that no library can infer: the outputs of operators that only a runtime knows."""
    unknown = {
        name
        for node in graph.node
        if domain_of(node.domain) and not onnx.defs.has(node.op_type, domain=node.domain)
        for name in node.output
    }
    out.value_info.extend(info for info in graph.value_info if info.name in unknown)
