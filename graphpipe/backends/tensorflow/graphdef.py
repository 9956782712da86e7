"""Frozen graphs (.pb): TensorFlow 1's models, with the constants in the graph.

Such a file names no inputs and outputs. As in the original, the default inputs are the placeholders, the default outputs
the tensors that nothing in the graph consumes, and any tensor of the graph can be asked for by name. Each combination of
inputs and outputs is a callable of its own, made when it is first asked for. It is a session's, as in TensorFlow 1: a
third of the price of a function cut out of the graph (benchmarks/backends.py), and as sparing with memory.

Nodes that read or write files are left out of the graph, with all that needs them, unless they are on the way to an
output that is named when the model is loaded. A frozen graph needs none of them; what is left of a training, or was put
there by somebody else, must not run, and TensorFlow runs such nodes even to find out a shape while it takes in a graph.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import versions
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.tensorflow.runtime import Runtime, refuse, runtime, spec_of
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.sources.digest import digest_of
from graphpipe.words import nearest, quoted

__all__ = ["open_file"]

Array = NDArray[Any]

# What has outputs that nobody would want as an answer.
_NO_OUTPUT = {"NoOp", "Const", "Assert", "CheckNumerics", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}
# What touches files, by its type: readers, savers, restorers, datasets, tables made of text files, summaries.
_FILES = re.compile(
    r"File|Reader|Restore|^Save|Checkpoint|Dataset|Summary|^ImmutableConst$|^PrintV2$|^LoadAndRemapMatrix$"
    r"|^GenerateVocabRemapping$|^(?:Decode|Encode)Proto|^Debug|^ImportEvent$"
)
_CALLABLES_MAX = 64


class GraphModel:
    """A graph in a session. Safe in threads; the GIL is free while it runs."""

    description = "TensorFlow graph; any tensor of it can be asked for by name"
    kind = "TensorFlow graph"
    # A session copies what it gives, unless nobody else holds the memory.
    shares_memory = False

    def __init__(
        self, runtime: Runtime, session: Any, signature: Signature, version: str, left_out: Mapping[str, str]
    ) -> None:
        self._refusals = runtime.refusals
        self._session = session
        self._operations = {operation.name: operation for operation in session.graph.get_operations()}
        self._left_out = left_out
        self._signature = signature
        self.version = version
        self.runtime = versions("tensorflow")
        self._callables: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the part of the graph between these inputs and these outputs."""
        names = self._signature.output_names if outputs is None else tuple(dict.fromkeys(outputs))
        try:
            results = self._callable(tuple(inputs), names)(*inputs.values())
        except self._refusals as error:
            refuse(error)
            raise
        return {
            # A single string comes as bytes.
            name: result if isinstance(result, np.ndarray) else np.asarray(result, object if _is_text(result) else None)
            for name, result in zip(names, results, strict=True)
        }

    def close(self) -> None:
        """Close the session."""
        self._callables.clear()
        self._operations.clear()
        self._session.close()

    def _callable(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
        key = (inputs, outputs)
        with self._lock:
            found = self._callables.get(key)
            if found is not None:
                self._callables.move_to_end(key)
                return found
        # Names come from callers, and so may be anything: nobody waits while they are looked for.
        wanted = [_wanted(self._operations, name, self._left_out) for name in outputs]
        found = self._session.make_callable(wanted, [_tensor(self._operations, name) for name in inputs])
        with self._lock:
            self._callables[key] = found
            if len(self._callables) > _CALLABLES_MAX:
                # Whoever asks for all combinations must not fill the memory.
                self._callables.popitem(last=False)
        return found


def _is_text(value: object) -> bool:
    return isinstance(value, bytes | str)


def _tensor(operations: Mapping[str, Any], name: str) -> Any:
    """The tensor of a name, with or without its `:0`. Raises KeyError."""
    full = _full(name)
    for tensor in operations[_node(full)].outputs:
        if tensor.name == full:
            return tensor
    raise KeyError(name)


def _wanted(operations: Mapping[str, Any], name: str, left_out: Mapping[str, str]) -> Any:
    """The tensor that a caller asks for. Raises InvalidRequest."""
    node = name.partition(":")[0]
    if node in left_out:
        raise InvalidRequest(f"output {quoted(name)} is not had: {left_out[node]}")
    try:
        tensor = _tensor(operations, name)
        spec_of("", "output", name, tensor.dtype, tensor.shape)
    except KeyError:
        hint = nearest(node, operations)
        raise InvalidRequest(f"there is no output {quoted(name)} among the tensors of this graph{hint}") from None
    except LoadError:
        raise InvalidRequest(f"output {quoted(name)} is {tensor.dtype.name}, which has no type on the wire") from None
    return tensor


# --- loading ----------------------------------------------------------------------------------------------------------


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a frozen graph. Raises LoadError."""
    backend = runtime(str(path), options)
    tf, v1 = backend.tf, backend.tf.compat.v1
    device = backend.device(options, str(path))
    definition = _definition(tf, path)
    consumed = {_node(name) for node in definition.node for name in node.input if not name.startswith("^")}
    left_out = _leave_out(definition, options.outputs or ())
    graph = tf.Graph()
    with graph.as_default(), device():
        tf.graph_util.import_graph_def(definition, name="")
    signature = _signature(path, graph, consumed, left_out, options)
    config = v1.ConfigProto(
        intra_op_parallelism_threads=options.intra_threads, gpu_options=v1.GPUOptions(allow_growth=True)
    )
    return GraphModel(backend, v1.Session(graph=graph, config=config), signature, digest_of(path), left_out)


def _node(name: str) -> str:
    """The node of an input: `x:1` is a tensor of `x`, and `^x` waits for it."""
    return name.removeprefix("^").partition(":")[0]


def _leave_out(definition: Any, outputs: Sequence[str]) -> dict[str, str]:
    """Take all out that touches files, or needs what does, and is not on the way to ``outputs``; say why of each."""
    nodes = {node.name: node for node in definition.node}
    kept = _on_the_way(nodes, map(_node, outputs))
    functions = _functions_with_files(definition.library.function)
    left_out = {
        name: f"{name!r} ({node.op}) reads or writes files"
        for name, node in nodes.items()
        if name not in kept and _touches_files(node, functions)
    }
    followers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for given in node.input:
            followers.setdefault(_node(given), []).append(name)
    ahead = list(left_out)
    while ahead:
        first = ahead.pop()
        for name in followers.get(first, ()):
            if name not in left_out:
                left_out[name] = left_out[first]
                ahead.append(name)
    if left_out:
        stay = [node for name, node in nodes.items() if name not in left_out]
        del definition.node[:]
        definition.node.extend(stay)
    return {name: f"{why}; to have it, name it when the model is loaded (--outputs)" for name, why in left_out.items()}


def _on_the_way(nodes: Mapping[str, Any], ends: Iterable[str]) -> set[str]:
    """The nodes that run to give these, themselves included."""
    found: set[str] = set()
    ahead = list(ends)
    while ahead:
        name = ahead.pop()
        if name in nodes and name not in found:
            found.add(name)
            ahead.extend(map(_node, nodes[name].input))
    return found


def _functions_with_files(library: Iterable[Any]) -> set[str]:
    """The functions of a graph that touch files, or call one that does."""
    found: set[str] = set()
    while True:
        more = {
            function.signature.name
            for function in library
            if function.signature.name not in found and any(_touches_files(node, found) for node in function.node_def)
        }
        if not more:
            return found
        found |= more


def _touches_files(node: Any, functions: set[str]) -> bool:
    if _FILES.search(node.op) or node.op in functions:
        return True
    called = (value.func.name for value in node.attr.values() if value.HasField("func"))
    listed = (func.name for value in node.attr.values() for func in value.list.func)
    return bool(functions) and any(name in functions for name in (*called, *listed))


def _definition(tf: Any, path: Path) -> Any:
    definition = tf.compat.v1.GraphDef()
    content = path.read_bytes()
    try:
        if path.suffix == ".pbtxt":
            importlib.import_module("google.protobuf.text_format").Parse(content, definition)
        else:
            definition.ParseFromString(content)
    except Exception:
        definition.Clear()
    if not definition.node:
        raise LoadError(
            f"{path}: not a frozen TensorFlow graph; a SavedModel is served by its folder, a Caffe2 net not at all "
            "(convert it to ONNX)"
        )
    return definition


def _signature(
    path: Path, graph: Any, consumed: set[str], left_out: Mapping[str, str], options: LoadOptions
) -> Signature:
    operations = graph.get_operations()
    by_name = {op.name: op for op in operations}
    if options.outputs:
        outputs = [_named(path, by_name, "output", name) for name in dict.fromkeys(map(_full, options.outputs))]
        nodes = {op.name: op.node_def for op in operations}
        # What the other outputs want may be given, but need not.
        needed = _on_the_way(nodes, [_node(spec.name) for spec in outputs])
    else:
        outputs, needed = [], {op.name for op in operations}
        for op in operations:
            if op.type in _NO_OUTPUT or op.name in consumed:
                continue
            for tensor in op.outputs:
                if tensor.dtype.name.endswith("_ref"):
                    continue  # a variable, or what sets it
                try:
                    outputs.append(_spec(path, "output", tensor))
                except LoadError:
                    continue  # a resource or a variant is nothing to answer with
    if not outputs and left_out:
        raise LoadError(f"{path}: no output is left: {next(iter(left_out.values()))}")
    if options.inputs:
        inputs = [_named(path, by_name, "input", name) for name in dict.fromkeys(map(_full, options.inputs))]
        return Signature(tuple(inputs), tuple(outputs), open_outputs=True)
    inputs, required = [], []
    for op in operations:
        if op.type not in ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault"):
            continue
        try:
            inputs.append(_spec(path, "input", op.outputs[0]))
        except LoadError:
            if op.name in needed and op.type != "PlaceholderWithDefault":
                raise
            continue
        if op.name in needed and op.type != "PlaceholderWithDefault":
            required.append(inputs[-1].name)
    return Signature(tuple(inputs), tuple(outputs), default_inputs=tuple(required), open_outputs=True)


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _named(path: Path, operations: Mapping[str, Any], what: str, name: str) -> TensorSpec:
    try:
        return _spec(path, what, _tensor(operations, name))
    except KeyError:
        raise LoadError(f"{path}: there is no tensor {name.removesuffix(':0')!r} in this graph") from None


def _spec(path: Path, what: str, tensor: Any) -> TensorSpec:
    return spec_of(path, what, tensor.name, tensor.dtype, tensor.shape)
