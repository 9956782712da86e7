"""TensorFlow itself: how it is imported and set up, and how arrays become its tensors and come back.

Arrays become tensors without a copy where they start at a multiple of 64 bytes, as those of large requests do, and
are copied by TensorFlow where they do not. That goes through the constructor of eager tensors, which is not public;
`tf.constant`, which is, always copies, and takes its place should the constructor move. DLPack would take misaligned
memory too, and abort the process on the first operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import first_line, framework, keep_triton_out, versions
from graphpipe.backends.load import LoadOptions
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire.dtypes import Type, type_of

__all__ = ["Runtime", "TensorFlowModel", "chosen", "runtime", "spec_of"]

Array = NDArray[Any]
Call = Callable[[Mapping[str, Any], Sequence[str]], Mapping[str, Any]]


class Runtime:
    """TensorFlow, set up once for this process."""

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        self._enums = {
            np.dtype(name): getattr(tf, name if name != "bool" else "bool").as_datatype_enum
            for name in (
                "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
                "float16", "float32", "float64", "bool",
            )
        }  # fmt: skip
        with tf.device("CPU:0"):
            self._cpu = tf.constant(0).device
        try:
            from tensorflow.python.framework.ops import EagerTensor

            EagerTensor(np.zeros(1, np.float32), self._cpu, self._enums[np.dtype("float32")])
            self._eager: Any = EagerTensor
        except Exception:
            self._eager = None

    def tensor(self, array: Array) -> Any:
        """The array as a tensor; it borrows the array's memory where it can."""
        enum = self._enums.get(array.dtype)
        if enum is None:
            return self.tf.constant(array, self.tf.string)
        if self._eager is None:
            return self.tf.constant(array)
        return self._eager(array, self._cpu, enum)

    def array(self, tensor: Any, name: str) -> Array:
        """The tensor as an array, which borrows the tensor's memory; strings as an object array of bytes."""
        if tensor.dtype == self.tf.string:
            value = tensor.numpy()
            return value if isinstance(value, np.ndarray) else np.array(value, object)
        array = np.asarray(tensor)
        if type_of(array.dtype) is Type.NULL:
            raise InvalidRequest(f"output {name!r} is {tensor.dtype.name}, which has no type on the wire")
        return array

    def device(self, options: LoadOptions, source: str) -> Callable[[], AbstractContextManager[Any]]:
        """A context in which calls run where ``options.device`` says. Raises LoadError if there is no such device."""
        if not options.device:
            return nullcontext
        kind, _, index = options.device.lower().partition(":")
        wanted = f"{'GPU' if kind in ('cuda', 'gpu') else kind.upper()}:{index or 0}"
        there = [":".join(device.name.split(":")[-2:]) for device in self.tf.config.list_logical_devices()]
        if wanted not in there:
            raise LoadError(f"{source}: TensorFlow has no device {options.device!r} here; it has {', '.join(there)}")
        return lambda: self.tf.device(wanted)


_runtime: Runtime | None = None


def runtime(source: str, options: LoadOptions) -> Runtime:
    """TensorFlow, imported now if it was not yet. Raises LoadError."""
    global _runtime
    if _runtime is None:
        # With oneDNN the channels-first convolutions of models made for a GPU run on a CPU too.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        # Not a page of notes about the CPU on every start; warnings stay.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
        tf = framework("tensorflow", source, extra="tensorflow")
        keep_triton_out()
        try:
            if options.intra_threads:
                tf.config.threading.set_intra_op_parallelism_threads(options.intra_threads)
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            pass  # somebody in this process has used TensorFlow before, in his own way
        _runtime = Runtime(tf)
    for library in options.custom_ops:
        try:
            _runtime.tf.load_op_library(library)
        except Exception as error:
            raise LoadError(f"{library}: TensorFlow cannot load these operators: {first_line(error)}") from error
    return _runtime


class TensorFlowModel:
    """A TensorFlow function with names. Safe in threads; the GIL is free while it runs.

    ``call`` takes tensors by input name and the names of the outputs wanted, and gives tensors by those names.
    """

    def __init__(
        self,
        runtime: Runtime,
        signature: Signature,
        call: Call,
        *,
        device: Callable[[], AbstractContextManager[Any]] = nullcontext,
        version: str = "",
        description: str = "",
        keep: object = None,
    ) -> None:
        self._runtime = runtime
        self._signature = signature
        self._call: Call | None = call
        self._device = device
        # A SavedModel's functions do not keep its variables alive.
        self._keep = keep
        self.version = version
        self.runtime = versions("tensorflow", "keras")
        self.description = description

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the function once."""
        names = self._signature.output_names if outputs is None else outputs
        tensor, array = self._runtime.tensor, self._runtime.array
        assert self._call is not None, "the model is closed"
        tensors = {name: tensor(value) for name, value in inputs.items()}
        if self._device is nullcontext:
            results = self._call(tensors, names)
        else:
            with self._device():
                results = self._call(tensors, names)
        return {name: array(results[name], name) for name in names}

    def close(self) -> None:
        """Let go of the function and of its variables."""
        self._call = self._keep = None


def spec_of(source: str | Path, what: str, name: str, dtype: Any, shape: Any) -> TensorSpec:
    """The spec of a tensor by TensorFlow's dtype and TensorShape. Raises LoadError for types that do not travel."""
    known = np.dtype(object) if dtype.name == "string" else _numpy_dtype(dtype)
    if known is None:
        raise LoadError(
            f"{source}: {what} {name!r} is {dtype.name}, which has no type on the wire; choose other {what}s"
        )
    return TensorSpec(name, known, None if shape.rank is None else tuple(shape.as_list()))


def _numpy_dtype(dtype: Any) -> np.dtype[Any] | None:
    try:
        found = np.dtype(dtype.as_numpy_dtype)
    except (TypeError, KeyError):
        return None
    return None if type_of(found) is Type.NULL else found


def chosen(
    source: str | Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: LoadOptions,
) -> Signature:
    """The signature of these inputs and outputs, with the defaults that ``options`` choose. Raises LoadError."""
    try:
        return Signature(tuple(inputs), tuple(outputs)).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{source}: {error}") from None
