"""Keras files: .keras, and the older .h5."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from graphpipe.backends.framework import framework
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.tensorflow.runtime import TensorFlowModel, chosen, output_specs, runtime, spec_of
from graphpipe.errors import LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.sources.digest import digest_of

__all__ = ["open_file"]


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a Keras file. Raises LoadError."""
    backend = runtime(str(path), options)
    tf = backend.tf
    keras = framework("keras", str(path), extra="tensorflow")
    if keras.backend.backend() != "tensorflow":
        raise LoadError(
            f"{path}: Keras runs on {keras.backend.backend()} here; unset KERAS_BACKEND to have it on TensorFlow"
        )
    device = backend.device(options, str(path))
    with device(), _safe_mode(not options.trust_model):
        loaded = keras.saving.load_model(str(path), compile=False, safe_mode=not options.trust_model)
    if not getattr(loaded, "inputs", None):
        raise LoadError(
            f"{path}: this model does not know its own inputs, because it was never called, or is a class of its own; "
            "call it before it is saved, or save it as a SavedModel with model.export()"
        )
    tensors, structure = _inputs(keras, loaded)
    map_structure, flatten_with_path = _trees(keras)
    inputs = [_input(tf, path, name, tensor) for name, tensor in tensors.items()]
    names: list[str] = []

    # Calling the model itself costs 2 ms a call; traced once, it costs what a SavedModel does.
    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec(spec.shape, tf.string if spec.dtype == object else spec.dtype, name=f"input_{i}")
            for i, spec in enumerate(inputs)
        ]
    )
    def function(*tensors: Any) -> list[Any]:
        given = dict(zip(map(id, loaded.inputs), tensors, strict=True))
        result = loaded(map_structure(lambda tensor: given[id(tensor)], structure), training=False)
        found = [(where, value) for where, value in flatten_with_path(result) if value is not None]
        names[:] = _output_names(loaded, [where for where, _ in found])
        return [value for _, value in found]

    with device():
        concrete = function.get_concrete_function()
    outputs, unsendable = output_specs(
        path, dict(zip(names, concrete.structured_outputs, strict=True)), options.outputs
    )
    order = [spec.name for spec in inputs]

    def call(tensors: Mapping[str, Any], wanted: Sequence[str]) -> Mapping[str, Any]:
        return dict(zip(names, concrete(*(tensors[name] for name in order)), strict=True))

    return TensorFlowModel(
        backend,
        chosen(path, Signature(tuple(inputs), tuple(outputs)), options),
        call,
        concrete,
        names,
        device=device,
        version=digest_of(path),
        description=f"Keras model {loaded.name}",
        kind="Keras",
        keep=loaded,
        unsendable=unsendable,
    )


def _safe_mode(on: bool) -> AbstractContextManager[Any]:
    """Keras has a switch for the whole process as well, which goes before what a call says: whoever turned it meant his
    own files.
    """
    scope: AbstractContextManager[Any] = importlib.import_module("keras.src.saving.serialization_lib").SafeModeScope(on)
    return scope


def _trees(keras: Any) -> tuple[Any, Any]:
    """How inputs and outputs within dicts and lists are gone through. Keras 2 had TensorFlow do that."""
    if hasattr(keras, "tree"):
        return keras.tree.map_structure, keras.tree.flatten_with_path
    nest = importlib.import_module("tensorflow.python.util.nest")
    return nest.map_structure, nest.flatten_with_tuple_paths


def _inputs(keras: Any, model: Any) -> tuple[dict[str, Any], Any]:
    """The inputs by name, in order, and how a call wants them together."""
    structure = getattr(model, "input", model.inputs[0])  # a Sequential has one, and does not say how it is given
    if isinstance(structure, dict):
        names = {id(tensor): str(key) for key, tensor in structure.items()}
        return {names[id(tensor)]: tensor for tensor in model.inputs}, structure
    return {tensor.name: tensor for tensor in model.inputs}, structure


def _input(tf: Any, path: Path, name: str, tensor: Any) -> TensorSpec:
    for kind in ("ragged", "sparse"):
        if getattr(tensor, kind, False):
            raise LoadError(
                f"{path}: input {name!r} is {kind}, which has no form on the wire; save a model that takes it dense"
            )
    return spec_of(
        path, "input", name, tf.as_dtype(getattr(tensor.dtype, "name", tensor.dtype)), tf.TensorShape(tensor.shape)
    )


def _output_names(model: Any, places: Sequence[tuple[Any, ...]]) -> list[str]:
    """The keys of the outputs, or the names of the layers that give them; numbered where one name is that of several.

    ``places`` are where the outputs stand in what the model gives.
    """
    if any(isinstance(key, str) for place in places for key in place):
        names = ["_".join(map(str, place)) for place in places]
    else:
        names = list(getattr(model, "output_names", ()))
        if len(names) != len(places):
            layers = getattr(model, "layers", None)
            names = [f"output_{i}" for i in range(len(places))]
            if len(places) == 1 and layers:
                names = [layers[-1].name]
    return [name if names.count(name) == 1 else f"{name}_{names[:i].count(name)}" for i, name in enumerate(names)]
