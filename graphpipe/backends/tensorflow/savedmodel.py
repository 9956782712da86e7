"""SavedModel folders: one of their signatures, under its own names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpipe.backends.digest import digest_of
from graphpipe.backends.framework import first_line
from graphpipe.backends.load import LoadOptions
from graphpipe.backends.model import Model
from graphpipe.backends.tensorflow.runtime import TensorFlowModel, chosen, runtime, spec_of
from graphpipe.errors import LoadError

__all__ = ["open_file"]

_DEFAULT = "serving_default"


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a SavedModel folder. Raises LoadError."""
    backend = runtime(str(path), options)
    device = backend.device(options, str(path))
    try:
        with device():
            loaded = backend.tf.saved_model.load(str(path))
    except Exception as error:
        raise LoadError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error
    name, function = _signature(path, dict(loaded.signatures), options.signature)
    positional, named = function.structured_input_signature
    specs = {**{spec.name: spec for spec in positional}, **named}
    inputs = [spec_of(path, "input", key, spec.dtype, spec.shape) for key, spec in sorted(specs.items())]
    outputs = [
        spec_of(path, "output", key, value.dtype, value.shape)
        for key, value in sorted(function.structured_outputs.items())
        if not options.outputs or key in options.outputs or f"{key}:0" in options.outputs
    ]

    def call(tensors: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
        results: Mapping[str, Any] = function(**tensors)
        return results

    return TensorFlowModel(
        backend,
        chosen(path, inputs, outputs, options),
        call,
        function,
        sorted(function.structured_outputs),
        device=device,
        version=digest_of(path),
        description=f"TensorFlow SavedModel, signature {name}",
        keep=loaded,
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
