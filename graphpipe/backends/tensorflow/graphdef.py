"""Frozen graphs (.pb): TensorFlow 1's models, with the constants in the graph.

Such a file names no inputs and outputs. As in the original, the default inputs are the placeholders, the default
outputs the tensors that nothing in the graph consumes, and any tensor of the graph can be asked for by name. Each
combination of inputs and outputs is a function of its own, cut out of the graph when it is first asked for.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpipe.backends.digest import digest_of
from graphpipe.backends.framework import first_line
from graphpipe.backends.load import LoadOptions
from graphpipe.backends.model import Model
from graphpipe.backends.tensorflow.runtime import Runtime, TensorFlowModel, runtime, spec_of
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec

__all__ = ["open_file"]

# What has outputs that nobody would want as an answer.
_NO_OUTPUT = {"NoOp", "Const", "Assert", "CheckNumerics", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}
_FUNCTIONS_MAX = 64


class _Graph:
    """A graph, and the functions that were cut out of it."""

    def __init__(self, backend: Runtime, definition: Any) -> None:
        tf = backend.tf
        self._whole = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
        self.graph = self._whole.graph
        self._functions: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Any] = OrderedDict()
        self._lock = threading.Lock()

    def tensor(self, name: str) -> Any:
        """The tensor of a name, with or without its `:0`. Raises KeyError."""
        try:
            return self.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError, TypeError):
            raise KeyError(name) from None

    def call(self, tensors: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
        function = self._function(tuple(tensors), tuple(names))
        return dict(zip(names, function(*tensors.values()), strict=True))

    def _function(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
        key = (inputs, outputs)
        with self._lock:
            function = self._functions.get(key)
            if function is not None:
                self._functions.move_to_end(key)
                return function
            function = self._cut(inputs, outputs)
            self._functions[key] = function
            if len(self._functions) > _FUNCTIONS_MAX:
                # Names come from callers: whoever asks for all combinations must not fill the memory.
                self._functions.popitem(last=False)
            return function

    def _cut(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        wanted = []
        for name in outputs:
            try:
                tensor = self.tensor(name)
                spec_of("", "output", name, tensor.dtype, tensor.shape)
            except KeyError:
                ops = [op.name for op in self.graph.get_operations()]
                near = difflib.get_close_matches(name.partition(":")[0], ops, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InvalidRequest(f"there is no output {name!r} among the tensors of this graph{hint}") from None
            except LoadError:
                raise InvalidRequest(f"output {name!r} is {tensor.dtype.name}, which has no type on the wire") from None
            wanted.append(tensor)
        return self._whole.prune([self.tensor(name) for name in inputs], wanted)


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a frozen graph. Raises LoadError."""
    backend = runtime(str(path), options)
    device = backend.device(options, str(path))
    try:
        with device():
            graph = _Graph(backend, _definition(backend.tf, path))
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error
    return TensorFlowModel(
        backend,
        _signature(path, graph, options),
        graph.call,
        device=device,
        version=digest_of(path),
        description="TensorFlow graph; any tensor of it can be asked for by name",
        keep=graph,
    )


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


def _signature(path: Path, graph: _Graph, options: LoadOptions) -> Signature:
    operations = graph.graph.get_operations()
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


def _named(path: Path, graph: _Graph, what: str, name: str) -> TensorSpec:
    try:
        return _spec(path, what, graph.tensor(name))
    except KeyError:
        raise LoadError(f"{path}: there is no tensor {name!r} in this graph") from None


def _spec(path: Path, what: str, tensor: Any) -> TensorSpec:
    return spec_of(path, what, tensor.name, tensor.dtype, tensor.shape)
