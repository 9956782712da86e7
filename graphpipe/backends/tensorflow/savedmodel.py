"""SavedModel folders: one of their signatures, under its own names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.tensorflow.runtime import TensorFlowModel, chosen, output_specs, runtime, spec_of
from graphpipe.errors import LoadError
from graphpipe.signature import Signature
from graphpipe.sources.digest import digest_of

__all__ = ["open_file"]

_DEFAULT = "serving_default"
_SERVE = "serve"


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a SavedModel folder. Raises LoadError."""
    backend = runtime(str(path), options)
    tf, device = backend.tf, backend.device(options, str(path))
    graph = _graph(path, options.tags)
    if not options.trust_model:
        _refuse_files(path, graph)
    with device():
        loaded = tf.saved_model.load(str(path), list(graph.meta_info_def.tags))
    name, function = _signature(path, dict(loaded.signatures), options.signature)
    positional, named = function.structured_input_signature
    specs = {**{spec.name: spec for spec in positional}, **named}
    # An input with a value of its own may be left out.
    values = {
        key: tf.constant(tf.make_ndarray(value), value.dtype)
        for key, value in graph.signature_def[name].defaults.items()
    }
    inputs = [spec_of(path, "input", key, spec.dtype, spec.shape) for key, spec in sorted(specs.items())]
    outputs, unsendable = output_specs(path, dict(sorted(function.structured_outputs.items())), options.outputs)
    signature = Signature(
        tuple(inputs),
        tuple(outputs),
        tuple(spec.name for spec in inputs if spec.name not in values) if values else None,
    )

    def call(tensors: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
        results: Mapping[str, Any] = function(**{**values, **tensors} if values else tensors)
        return results

    return TensorFlowModel(
        backend,
        chosen(path, signature, options),
        call,
        function,
        sorted(function.structured_outputs),
        device=device,
        version=digest_of(path),
        description=f"TensorFlow SavedModel, signature {name}",
        kind="TensorFlow SavedModel",
        keep=loaded,
        unsendable=unsendable,
        signature_name=name,
        method_name=graph.signature_def[name].method_name,
    )


# What reads and writes files by names that it makes up itself, or has from callers. Tables that are made of a file beside
# the model are not among them, and nor are savers, which every SavedModel has and nobody calls.
_FILES = {"WriteFile", "ReadFile", "MatchingFiles", "CreateSummaryFileWriter", "CreateSummaryDbWriter"}


def _refuse_files(path: Path, graph: Any) -> None:
    """Raise LoadError where the graph, or a function of it, touches files: a function may run while it is loaded."""
    bodies = (graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function))
    for node in (node for body in bodies for node in body):
        if node.op in _FILES:
            raise LoadError(
                f"{path}: {node.name[:100]!r} ({node.op}) reads or writes files; leave it out; if it is yours: --trust-model"
            )


def _graph(path: Path, tags: Sequence[str] | None) -> Any:
    """The graph with exactly these tags: as TF-Serving does, the one tagged ``serve`` unless told otherwise.

    A single graph needs no telling.
    """
    graphs = (
        importlib.import_module("tensorflow.python.saved_model.loader_impl").parse_saved_model(str(path)).meta_graphs
    )
    if not graphs:
        raise LoadError(f"{path}: this SavedModel is empty; was it copied whole?")
    if tags is None and len(graphs) == 1:
        return graphs[0]
    wanted = {_SERVE} if tags is None else set(tags)
    for graph in graphs:
        if set(graph.meta_info_def.tags) == wanted:
            return graph
    there = "; ".join(",".join(graph.meta_info_def.tags) or "no tags" for graph in graphs)
    raise LoadError(
        f"{path}: it has no graph with exactly the tags {','.join(sorted(wanted)) or 'none'!r}; it has graphs with "
        f"{there}: choose one with --tags"
    )


def _signature(path: Path, signatures: Mapping[str, Any], wanted: str) -> tuple[str, Any]:
    """The signature asked for, or the default one, or the only one there is."""
    names = [name for name in signatures if not name.startswith("__")]
    name = wanted or (_DEFAULT if _DEFAULT in names or len(names) != 1 else names[0])
    if name in signatures:
        return name, signatures[name]
    if not names:
        raise LoadError(
            f"{path}: this SavedModel has no signatures; save it with signatures=..., or a Keras model with "
            "model.export()"
        )
    listed = ", ".join(map(repr, sorted(names)))
    raise LoadError(f"{path}: there is no signature {name!r}; there are {listed}: choose one with --signature")
