"""ONNX models, run by ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import first_line, framework
from graphpipe.backends.load import LoadOptions
from graphpipe.backends.model import Backend, Model
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec

__all__ = ["BACKEND", "OnnxModel"]

Array = NDArray[Any]


class OnnxModel:
    """One ONNX Runtime session. Safe in threads; the GIL is free while it runs."""

    # ONNX Runtime copies what is an input or an initializer, and gives away the memory of what it computed.
    shares_memory = False

    def __init__(self, session: Any, signature: Signature, version: str, description: str) -> None:
        self._session = session
        self._signature = signature
        self.version = version
        self.description = description
        # Strings are rare, and looking for them costs a small model a good part of its time.
        self._strings = any(s.dtype == object for s in (*signature.inputs, *signature.outputs))

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the session once."""
        names = self._signature.output_names if outputs is None else outputs
        if self._strings:
            inputs = {name: _to_str(array, name) if array.dtype == object else array for name, array in inputs.items()}
        results = self._session.run(names, inputs)
        if self._strings:
            results = [_to_bytes(array) if array.dtype == object else array for array in results]
        return dict(zip(names, results, strict=True))

    def close(self) -> None:
        """Free the session's memory."""
        self._session = None


def _to_str(array: Array, name: str) -> Array:
    # ONNX Runtime takes str() of anything else, silently: b"x" would become "b'x'".
    out = np.empty(array.size, object)
    try:
        out[:] = [item if isinstance(item, str) else bytes(item).decode() for item in array.reshape(-1)]
    except UnicodeDecodeError:
        raise InvalidRequest(f"input {name!r} has text that is not UTF-8, which ONNX requires") from None
    return out.reshape(array.shape)


def _to_bytes(array: Array) -> Array:
    out = np.empty(array.size, object)
    out[:] = [item.encode("utf-8", "surrogateescape") for item in array.reshape(-1)]
    return out.reshape(array.shape)


# --- loading ----------------------------------------------------------------------------------------------------------

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "object",
    **{name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")},
}

# The original's value_inputs.json numbers its types as Caffe2 did.
_CAFFE2_DTYPES = {
    1: "float32",
    2: "int32",
    3: "uint8",
    4: "object",
    5: "bool",
    6: "uint8",
    7: "int8",
    8: "uint16",
    9: "int16",
    10: "int64",
    12: "float16",
    13: "float64",
}


def _open(source: str, options: LoadOptions) -> Model:
    # Its wheels report what they run to their makers, over the network, and keep a database in the user's home, unless
    # they are told not to before they are imported. Whoever wants that sets ORT_DISABLE_TELEMETRY=0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = framework("onnxruntime", source, extra="onnx")
    path = Path(source)
    if not path.is_file():
        raise LoadError(f"{source}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    session = _session(onnxruntime, source, options)
    meta = session.get_modelmeta()
    if options.value_inputs:
        declared = _value_inputs(options.value_inputs)
    else:
        declared = {}
    inputs = tuple(_spec(source, "input", arg, declared) for arg in session.get_inputs())
    # An output that cannot travel is in nobody's way if others were chosen.
    outputs = tuple(
        _spec(source, "output", arg, {})
        for arg in session.get_outputs()
        if not options.outputs or arg.name in options.outputs or _dtype(arg) is not None
    )
    unknown = sorted(set(declared) - {spec.name for spec in inputs})
    if unknown:
        raise LoadError(f"{options.value_inputs}: {source} has no input {unknown[0]!r}")
    try:
        signature = Signature(inputs, outputs, options.inputs or (tuple(declared) or None), options.outputs)
    except ValueError as error:
        raise LoadError(f"{source}: {error}") from None
    return OnnxModel(session, signature, _digest(path), meta.description)


def _session(onnxruntime: Any, source: str, options: LoadOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.intra_threads or 1
    settings.inter_op_num_threads = 1
    # Spinning threads take the cores that other calls need: 4.5 ms became 13 ms.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    for library in options.custom_ops:
        try:
            settings.register_custom_ops_library(library)
        except Exception as error:
            raise LoadError(f"{library}: ONNX Runtime cannot load these operators: {first_line(error)}") from None
    providers = _providers(onnxruntime.get_available_providers(), options)
    try:
        session = onnxruntime.InferenceSession(source, settings, providers=providers)
    except Exception as error:
        raise LoadError(f"{source}: ONNX Runtime cannot load it: {first_line(error)}") from None
    # ONNX Runtime goes on without a provider whose libraries it cannot load, and says so only in its log.
    missing = {name for name, _ in providers} - set(session.get_providers())
    if missing:
        raise LoadError(f"{source}: {min(missing)} did not start: are its driver and libraries installed?")
    return session


# The builds of ONNX Runtime that have a provider; the plain one has the CPU alone.
_WHEELS = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "ROCMExecutionProvider": "onnxruntime-rocm",
}
_CPU = "CPUExecutionProvider"


def _providers(available: Sequence[str], options: LoadOptions) -> list[tuple[str, dict[str, Any]]]:
    """The execution providers to use, best first, with their settings: those asked for, or that of the device."""
    kind, _, index = options.device.lower().partition(":")
    wanted = options.providers or ((_CPU,) if kind in ("", "cpu") else (kind.replace("gpu", "cuda"), _CPU))
    known = {name.lower(): name for name in (*_WHEELS, *available)}
    chosen = []
    for name in wanted:
        found = known.get(name.lower()) or known.get(f"{name.lower()}executionprovider")
        if found is None:
            raise LoadError(f"there is no execution provider {name!r} here; there are {', '.join(available)}")
        if found not in available:
            raise LoadError(
                f"{found} is not in this build of ONNX Runtime, which has {', '.join(available)}; "
                f"pip install {_WHEELS[found]}, in place of onnxruntime"
            )
        chosen.append((found, {"device_id": index} if index and found != _CPU else {}))
    return chosen


def _spec(source: str, what: str, arg: Any, declared: Mapping[str, TensorSpec]) -> TensorSpec:
    dtype = _dtype(arg)
    if dtype is None:
        hint = f"choose others with --{what}s" if what == "output" else "have the model take plain tensors"
        raise LoadError(f"{source}: {what} {arg.name!r} is a {arg.type}, which has no type on the wire; {hint}")
    # A fixed dimension of 0 or less is how some exporters write "any".
    shape = tuple(d if not isinstance(d, int) or d > 0 else None for d in arg.shape)
    spec = TensorSpec(arg.name, dtype, shape)
    override = declared.get(arg.name)
    return replace(spec, dtype=override.dtype, shape=override.shape) if override else spec


def _dtype(arg: Any) -> np.dtype[Any] | None:
    match = re.fullmatch(r"tensor\((\w+)\)", arg.type)
    name = _DTYPES.get(match[1]) if match else None
    return np.dtype(name) if name else None


def _value_inputs(path: str) -> dict[str, TensorSpec]:
    try:
        content = json.loads(Path(path).read_text())
        return {
            str(name): TensorSpec(
                str(name),
                np.dtype(_CAFFE2_DTYPES[dtype]),
                tuple(int(d) if int(d) > 0 else None for d in dims),
            )
            for name, (dtype, dims) in content.items()
        }
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise LoadError(f'{path}: expected {{"input": [dtype number, [dims...]]}}, as in docs/serving.md') from None


def _digest(path: Path) -> str:
    """sha256 of the model's file, and of the files beside it that hold its large tensors."""
    digest = hashlib.sha256()
    content = path.read_bytes()
    digest.update(content)
    # TensorProto.external_data is a list of key-value pairs; a pair "location" is protobuf's field 1, length 8, then
    # field 2 with its length in seven bits a byte, the last without the eighth.
    names = set()
    for match in re.finditer(rb"\n\x08location\x12([\x80-\xff]?[\x01-\x7f])", content):
        length = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(match[1]))
        names.add(content[match.end() : match.end() + length])
    for name in sorted(names):
        beside = path.parent / name.decode("utf-8", "replace")
        if beside.is_file():
            with beside.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


BACKEND = Backend("onnx", lambda source: source.lower().endswith((".onnx", ".ort")), _open)
