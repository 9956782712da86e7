"""Keras files: .keras, and the older .h5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpipe.backends.digest import digest_of
from graphpipe.backends.framework import first_line, framework
from graphpipe.backends.load import LoadOptions
from graphpipe.backends.model import Model
from graphpipe.backends.tensorflow.runtime import TensorFlowModel, chosen, runtime, spec_of
from graphpipe.errors import LoadError
from graphpipe.signature import TensorSpec

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
    try:
        with device():
            loaded = keras.saving.load_model(str(path), compile=False)
    except Exception as error:
        raise LoadError(f"{path}: Keras cannot load it: {first_line(error)}") from error
    if not getattr(loaded, "inputs", None):
        raise LoadError(f"{path}: this model does not know its own inputs; save it as a SavedModel with model.export()")
    inputs = [_spec(tf, path, "input", tensor.name, tensor) for tensor in loaded.inputs]
    names = _output_names(loaded)
    outputs = [_spec(tf, path, "output", name, tensor) for name, tensor in zip(names, loaded.outputs, strict=True)]

    # Calling the model itself costs 2 ms a call; traced once, it costs what a SavedModel does.
    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec(spec.shape, tf.string if spec.dtype == object else spec.dtype, name=f"input_{i}")
            for i, spec in enumerate(inputs)
        ]
    )
    def function(*tensors: Any) -> list[Any]:
        structured = keras.tree.pack_sequence_as(loaded.input, list(tensors))
        return list(keras.tree.flatten(loaded(structured, training=False)))

    with device():
        concrete = function.get_concrete_function()
    order = [spec.name for spec in inputs]

    def call(tensors: Mapping[str, Any], wanted: Sequence[str]) -> Mapping[str, Any]:
        return dict(zip(names, concrete(*(tensors[name] for name in order)), strict=True))

    return TensorFlowModel(
        backend,
        chosen(path, inputs, outputs, options),
        call,
        concrete,
        names,
        device=device,
        version=digest_of(path),
        description=f"Keras model {loaded.name}",
        keep=loaded,
    )


def _output_names(model: Any) -> list[str]:
    """The keys of the outputs, or the names of the layers that give them; numbered where one layer gives several."""
    if isinstance(model.output, dict) and len(model.output) == len(model.outputs):
        keys = {id(tensor): str(key) for key, tensor in model.output.items()}
        return [keys[id(tensor)] for tensor in model.outputs]
    names = list(getattr(model, "output_names", ()))
    if len(names) != len(model.outputs):
        names = [f"output_{i}" for i in range(len(model.outputs))]
    return [name if names.count(name) == 1 else f"{name}_{names[:i].count(name)}" for i, name in enumerate(names)]


def _spec(tf: Any, path: Path, what: str, name: str, tensor: Any) -> TensorSpec:
    return spec_of(path, what, name, tf.as_dtype(str(tensor.dtype)), tf.TensorShape(tensor.shape))
