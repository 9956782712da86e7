"""TensorFlow itself: how it is imported and set up, and how arrays become its tensors and come back.

Arrays become tensors without a copy where they start at a multiple of 64 bytes, as those of large requests do, and
are copied by TensorFlow where they do not. That goes through the constructor of eager tensors, which is not public;
`tf.constant`, which is, always copies, and takes its place should the constructor move. DLPack would take misaligned
memory too, and abort the process on the first operation.

A result that the call has surely computed (computed.py) is given as it lies in TensorFlow's memory, anything else as a
copy: a variable and a constant of the graph are tensors like others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import framework, keep_triton_out, versions, words_of
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.owned import SURE_ABOVE_BYTES, apart
from graphpipe.backends.tensorflow.computed import computed, keeps_inputs
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire.dtypes import Type, type_of
from graphpipe.words import first_line, listed, quoted

__all__ = ["Runtime", "TensorFlowModel", "chosen", "output_specs", "refuse", "runtime", "spec_of"]

Array = NDArray[Any]
Call = Callable[[Mapping[str, Any], Sequence[str]], Mapping[str, Any]]


class Runtime:
    """TensorFlow, set up once for this process."""

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        # What TensorFlow raises about a value: it is invalid, it leads beyond an end, its bytes are damaged.
        self.refusals = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.DataLossError)
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
            self._eager: Any = EagerTensor if hasattr(EagerTensor, "_numpy") else None
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

    def array(self, tensor: Any, name: str, *, borrow: bool = False) -> Array:
        """The tensor as an array that may be written to, over the tensor's own memory if it may ``borrow`` that;
        strings as an object array of bytes.
        """
        if tensor.dtype == self.tf.string:
            value = tensor.numpy()
            return value if isinstance(value, np.ndarray) else np.array(value, object)
        array = np.asarray(tensor)
        if type_of(array.dtype) is Type.NULL:
            raise InvalidRequest(f"output {quoted(name)} is {_no_type(tensor.dtype)}")
        if borrow and array.nbytes > SURE_ABOVE_BYTES and self._eager is not None:
            # The same memory without the lock; not public either.
            unlocked = tensor._numpy()
            if isinstance(unlocked, np.ndarray) and unlocked.flags.writeable:
                return unlocked
        return array.copy()

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


# What kernels for a CPU say of channels that come first, where oneDNN has none in their place: it is switched off
# (TF_ENABLE_ONEDNN_OPTS=0), or the numbers are of 64 bits.
_CHANNELS_FIRST = re.compile(r"only supports? (?:the )?NHWC|only supported for NHWC")


def refuse(error: Exception) -> None:
    """Raise InvalidRequest for an error about a value; come back if it is Python code in the model that raised, or the
    order of channels that the model has.
    """
    said = str(error)
    if "Traceback (most recent call last)" not in said and not _CHANNELS_FIRST.search(said):
        raise InvalidRequest(f"the model cannot take this: {words_of(error)}") from error


class TensorFlowModel:
    """A TensorFlow function with names. Safe in threads; the GIL is free while it runs.

    ``call`` takes tensors by input name and the names of the outputs wanted, and gives tensors by those names. It runs
    the ConcreteFunction ``function``, whose flat outputs are called ``flat_names``. ``unsendable`` are outputs that the
    function has and no message can hold, each with what it is. ``signature_name`` and ``method_name`` are what a SavedModel
    calls the signature that is served, and what it is for.
    """

    shares_memory = False

    def __init__(
        self,
        runtime: Runtime,
        signature: Signature,
        call: Call,
        function: Any,
        flat_names: Sequence[str],
        *,
        device: Callable[[], AbstractContextManager[Any]] = nullcontext,
        version: str = "",
        description: str = "",
        kind: str = "",
        keep: object = None,
        unsendable: Mapping[str, str] | None = None,
        signature_name: str = "",
        method_name: str = "",
    ) -> None:
        self._runtime = runtime
        # Who asks for one of these is told more than that it is not there.
        self._unsendable = unsendable or {}
        self._signature = replace(signature, open_outputs=True) if unsendable else signature
        self._call: Call | None = call
        self._device = device
        self._computed = computed(function, flat_names)
        self._keeps_inputs = keeps_inputs(function)
        # A SavedModel's functions do not keep its variables alive.
        self._keep = keep
        self.version = version
        self.runtime = versions("tensorflow", "keras")
        self.description = description
        self.kind = kind
        self.signature_name, self.method_name = signature_name, method_name

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the function once."""
        names = self._signature.output_names if outputs is None else outputs
        if self._unsendable:
            self._check(names)
        tensor, array = self._runtime.tensor, self._runtime.array
        if self._keeps_inputs:
            inputs = {name: value.copy() for name, value in inputs.items()}
        assert self._call is not None, "the model is closed"
        tensors = {name: tensor(value) for name, value in inputs.items()}
        try:
            if self._device is nullcontext:
                results = self._call(tensors, names)
            else:
                with self._device():
                    results = self._call(tensors, names)
        except self._runtime.refusals as error:
            refuse(error)
            raise
        return apart({name: array(results[name], name, borrow=name in self._computed) for name in names}, inputs)

    def close(self) -> None:
        """Let go of the function and of its variables."""
        self._call = self._keep = None

    def _check(self, names: Sequence[str]) -> None:
        known = [spec.name for spec in self._signature.outputs]
        for name in names:
            if name not in known:
                what = self._unsendable.get(name.removesuffix(":0"))
                if what is not None:
                    raise InvalidRequest(f"output {quoted(name)} is {what}")
                raise InvalidRequest(f"there is no output {quoted(name)}; there are {listed(known)}")


def spec_of(source: str | Path, what: str, name: str, dtype: Any, shape: Any) -> TensorSpec:
    """The spec of a tensor by TensorFlow's dtype and TensorShape. Raises LoadError for types that do not travel."""
    known = np.dtype(object) if dtype.name == "string" else _numpy_dtype(dtype)
    if known is None:
        raise LoadError(f"{source}: {what} {name!r} is {_no_type(dtype)}; choose other {what}s")
    return TensorSpec(name, known, None if shape.rank is None else tuple(shape.as_list()))


def output_specs(
    source: str | Path, found: Mapping[str, Any], asked: Sequence[str] | None
) -> tuple[list[TensorSpec], dict[str, str]]:
    """The outputs that travel, and what the others are. ``found`` holds tensors, or TensorFlow's specs of them.

    Raises LoadError if one that is asked for does not travel, or none does.
    """
    specs: list[TensorSpec] = []
    unsendable: dict[str, str] = {}
    for name, value in found.items():
        kind = type(value).__name__.removesuffix("Spec")
        if kind in _NOT_DENSE:
            unsendable[name] = f"a {kind}, which has no form on the wire; {_NOT_DENSE[kind]}"
            continue
        try:
            specs.append(spec_of(source, "output", name, value.dtype, value.shape))
        except LoadError:
            unsendable[name] = _no_type(value.dtype)
    for name in asked or (() if specs else unsendable):
        what = unsendable.get(name.removesuffix(":0"))
        if what is not None:
            raise LoadError(f"{source}: output {name!r} is {what}")
    return specs, unsendable


# What is several tensors to TensorFlow.
_NOT_DENSE = {
    "RaggedTensor": "give out its to_tensor(), or its values and row_splits",
    "SparseTensor": "give out its tf.sparse.to_dense(), or its indices and values",
    "IndexedSlices": "give out its tf.convert_to_tensor()",
}


def _no_type(dtype: Any) -> str:
    return f"{dtype.name}, which has no type on the wire"


def _numpy_dtype(dtype: Any) -> np.dtype[Any] | None:
    try:
        found = np.dtype(dtype.as_numpy_dtype)
    except (TypeError, KeyError):
        return None
    return None if type_of(found) is Type.NULL else found


def chosen(source: str | Path, signature: Signature, options: LoadOptions) -> Signature:
    """The signature with the defaults that ``options`` choose. Raises LoadError."""
    try:
        return signature.with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{source}: {error}") from None
