"""Frozen graphs (.pb): TensorFlow 1's models, with the constants in the graph.

Such a file names no inputs and outputs. As in the original, the default inputs are the placeholders, the default outputs
the tensors that nothing in the graph consumes, and any tensor of the graph can be asked for by name. Each combination of
inputs and outputs is a callable of its own, made when it is first asked for. It is a session's, as in TensorFlow 1: a
third of the price of a function cut out of the graph (benchmarks/backends.py), and as sparing with memory.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.digest import digest_of
from graphpipe.backends.framework import first_line, versions
from graphpipe.backends.load import LoadOptions
from graphpipe.backends.model import Model
from graphpipe.backends.tensorflow.runtime import runtime, spec_of
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec

__all__ = ["open_file"]

Array = NDArray[Any]

# What has outputs that nobody would want as an answer.
_NO_OUTPUT = {"NoOp", "Const", "Assert", "CheckNumerics", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}
_CALLABLES_MAX = 64


class GraphModel:
    """A graph in a session. Safe in threads; the GIL is free while it runs."""

    description = "TensorFlow graph; any tensor of it can be asked for by name"

    def __init__(self, session: Any, signature: Signature, version: str) -> None:
        self._session = session
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
        results = self._callable(tuple(inputs), names)(*inputs.values())
        return {
            # A single string comes as bytes.
            name: result if isinstance(result, np.ndarray) else np.asarray(result, object if _is_text(result) else None)
            for name, result in zip(names, results, strict=True)
        }

    def close(self) -> None:
        """Close the session."""
        self._callables.clear()
        self._session.close()

    def _callable(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
        key = (inputs, outputs)
        with self._lock:
            found = self._callables.get(key)
            if found is not None:
                self._callables.move_to_end(key)
                return found
            graph = self._session.graph
            wanted = [_wanted(graph, name) for name in outputs]
            found = self._session.make_callable(wanted, [_tensor(graph, name) for name in inputs])
            self._callables[key] = found
            if len(self._callables) > _CALLABLES_MAX:
                # Names come from callers: whoever asks for all combinations must not fill the memory.
                self._callables.popitem(last=False)
            return found


def _is_text(value: object) -> bool:
    return isinstance(value, bytes | str)


def _tensor(graph: Any, name: str) -> Any:
    """The tensor of a name, with or without its `:0`. Raises KeyError."""
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError, TypeError):
        raise KeyError(name) from None


def _wanted(graph: Any, name: str) -> Any:
    """The tensor that a caller asks for. Raises InvalidRequest."""
    try:
        tensor = _tensor(graph, name)
        spec_of("", "output", name, tensor.dtype, tensor.shape)
    except KeyError:
        near = difflib.get_close_matches(name.partition(":")[0], [op.name for op in graph.get_operations()], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidRequest(f"there is no output {name!r} among the tensors of this graph{hint}") from None
    except LoadError:
        raise InvalidRequest(f"output {name!r} is {tensor.dtype.name}, which has no type on the wire") from None
    return tensor


# --- loading ----------------------------------------------------------------------------------------------------------


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a frozen graph. Raises LoadError."""
    backend = runtime(str(path), options)
    tf, v1 = backend.tf, backend.tf.compat.v1
    device = backend.device(options, str(path))
    definition = _definition(tf, path)
    graph = tf.Graph()
    try:
        with graph.as_default(), device():
            tf.graph_util.import_graph_def(definition, name="")
        config = v1.ConfigProto(
            intra_op_parallelism_threads=options.intra_threads, gpu_options=v1.GPUOptions(allow_growth=True)
        )
        session = v1.Session(graph=graph, config=config)
    except Exception as error:
        raise LoadError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error
    return GraphModel(session, _signature(path, graph, options), digest_of(path))


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


def _signature(path: Path, graph: Any, options: LoadOptions) -> Signature:
    operations = graph.get_operations()
    if options.inputs:
        inputs = [_named(path, graph, "input", name) for name in options.inputs]
        defaults = tuple(spec.name for spec in inputs)
    else:
        inputs, required = [], []
        for op in operations:
            if op.type in ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault"):
                inputs.append(_spec(path, "input", op.outputs[0]))
                if op.type != "PlaceholderWithDefault":
                    required.append(inputs[-1].name)
        defaults = tuple(required)
    if options.outputs:
        outputs = [_named(path, graph, "output", name) for name in options.outputs]
    else:
        outputs = []
        for op in operations:
            if op.type in _NO_OUTPUT or any(tensor.consumers() for tensor in op.outputs):
                continue
            for tensor in op.outputs:
                try:
                    outputs.append(_spec(path, "output", tensor))
                except LoadError:
                    continue  # a resource or a variant is nothing to answer with
    return Signature(tuple(inputs), tuple(outputs), default_inputs=defaults, open_outputs=True)


def _named(path: Path, graph: Any, what: str, name: str) -> TensorSpec:
    try:
        return _spec(path, what, _tensor(graph, name))
    except KeyError:
        raise LoadError(f"{path}: there is no tensor {name!r} in this graph") from None


def _spec(path: Path, what: str, tensor: Any) -> TensorSpec:
    return spec_of(path, what, tensor.name, tensor.dtype, tensor.shape)
