"""ONNX models, run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends import onnx_file
from graphpipe.backends.backend import Backend
from graphpipe.backends.foreign import no_such_file
from graphpipe.backends.framework import framework, versions, words_of
from graphpipe.backends.model import Model
from graphpipe.backends.onnx_profile import profiled
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.profile import Profile
from graphpipe.backends.value_inputs import value_inputs
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.words import first_line

__all__ = ["BACKEND", "OnnxModel"]

Array = NDArray[Any]


class OnnxModel:
    """One ONNX Runtime session. Safe in threads; the GIL is free while it runs."""

    # ONNX Runtime copies what is an input or an initializer, and gives away the memory of what it computed.
    shares_memory = False
    kind = "ONNX"

    def __init__(
        self, session: Any, signature: Signature, version: str, description: str, source: str, options: LoadOptions
    ) -> None:
        self._session = session
        self._source, self._options = source, options
        self._signature = signature
        self.version = version
        self.description = description
        self.runtime = versions("onnxruntime")
        # Strings are rare, and looking for them costs a small model a good part of its time.
        self._strings = any(s.dtype == object for s in (*signature.inputs, *signature.outputs))

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    @property
    def file(self) -> Path:
        """Where it was read from."""
        return Path(self._source)

    @property
    def custom_ops(self) -> tuple[str, ...]:
        """The libraries with operators of its own."""
        return self._options.custom_ops

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the session once."""
        names = self._signature.output_names if outputs is None else outputs
        if self._strings:
            inputs = {name: _to_str(array, name) if array.dtype == object else array for name, array in inputs.items()}
        try:
            results = self._session.run(names, inputs)
        except Exception as error:
            if (words := _refused(error)) is None:
                raise
            raise InvalidRequest(f"the model cannot take this input: {words}") from error
        if self._strings:
            results = [_to_bytes(array) if array.dtype == object else array for array in results]
        return dict(zip(names, results, strict=True))

    def profile(self, inputs: Mapping[str, Array], runs: int) -> Profile:
        """Where the time of a call goes, among its operators: measured in ``runs`` calls of a session of its own."""
        onnxruntime = framework("onnxruntime", self._source, extra="onnx")
        return profiled(
            lambda source, prepare: _session(onnxruntime, source, self._options, prepare),
            Path(self._source),
            {name: _to_str(array, name) if array.dtype == object else array for name, array in inputs.items()},
            self._signature.output_names,
            runs,
        )

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


# What a kernel says of inputs that do not fit it or each other; its status is FAIL then, as it is for everything else.
# Text that is no number ends in the standard library's stod.
_MISFIT = re.compile(
    r"\bbroadcast|cannot be reshaped|\bmismatch|must (?:all )?match|out of (?:data )?(?:range|bounds)|must be 1 instead of"
    r"|should not be greater than|is not equal to|exceeds|dimension is negative|must be >= 0|unknown category"
    r"|at most one dimension can be -1|invalid num_outputs|size should be equal|should be greater than 0"
    r"|length \(\d+\) must be at least|requires? feature|cannot split using|: sto(?:d|f|i|l|ul|ll|ull|ld)$",
    re.IGNORECASE,
)
_NOT_THEIRS = re.compile(
    r"allocate|(?<!'split' )attribute|not implemented|not supported|\bCUDA|\bCUDNN|\bCUBLAS|\bEP\b", re.IGNORECASE
)
# The place in ONNX Runtime's sources that a status names before its words.
_PLACE = re.compile(
    r"(?:/onnxruntime_src/\S+ .*? was false\. |/onnxruntime_src/\S+ .*?\)(?: const)?(?: \[with [^\]]*\])? "
    r"|\w+\.(?:h|cc):\d+ \w+ )"
)


def _refused(error: Exception) -> str | None:
    """What ONNX Runtime says against the inputs; None if the failure is not known to be their fault."""
    kind, said = type(error).__name__, " ".join(str(error).split())
    if kind not in ("InvalidArgument", "Fail", "RuntimeException"):
        return None
    if kind != "InvalidArgument" and (not _MISFIT.search(said) or _NOT_THEIRS.search(said)):
        return None
    if said.endswith((": stod", ": stof", ": stoll", ": stoull", ": stoi", ": stol", ": stoul", ": stold")):
        return "it has text that is no number"
    return words_of(ValueError(_PLACE.sub("", said, count=1)))


# --- loading ----------------------------------------------------------------------------------------------------------

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "object",
    **{name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")},
}


def _open(source: str, options: LoadOptions) -> Model:
    # Its wheels report what they run to their makers, over the network, and keep a database in the user's home, unless
    # they are told not to before they are imported. Whoever wants that sets ORT_DISABLE_TELEMETRY=0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = framework("onnxruntime", source, extra="onnx")
    path = Path(source)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is not a plain file"
        raise LoadError(f"{source}: {what if path.exists() else no_such_file(source)}")
    try:
        onnx_file.check(path, trusted=options.trust_model)
    except OSError as error:
        raise LoadError(f"{source}: {error.strerror}") from None
    session = _session(onnxruntime, source, options)
    meta = session.get_modelmeta()
    if options.value_inputs:
        declared = value_inputs(options.value_inputs)
    else:
        declared = {}
    inputs = tuple(_spec(source, "input", arg, declared) for arg in session.get_inputs())
    # An output that cannot travel is in nobody's way if others were chosen.
    outputs = tuple(
        _spec(source, "output", arg, {})
        for arg in session.get_outputs()
        if not options.outputs or arg.name in options.outputs or _dtype(arg) is not None
    )
    # What is behind a question mark may be a key.
    _check_declared(source, options.value_inputs.partition("?")[0], declared, session.get_inputs())
    optional = {arg.name for arg in session.get_inputs() if _OPTIONAL.fullmatch(arg.type)}
    required = tuple(spec.name for spec in inputs if spec.name not in optional) if optional else None
    try:
        signature = Signature(
            inputs, outputs, options.inputs or tuple(declared) or required, options.outputs, loose_symbols=True
        )
    except ValueError as error:
        raise LoadError(f"{source}: {error}") from None
    return OnnxModel(session, signature, onnx_file.digest(path), meta.description, source, options)


def _session(
    onnxruntime: Any, source: str, options: LoadOptions, prepare: Callable[[Any], None] = lambda settings: None
) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.intra_threads or 1
    settings.inter_op_num_threads = 1
    # Spinning threads take the cores that other calls need: 4.5 ms became 13 ms.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    prepare(settings)
    # What its sessions log as errors is in their exceptions too, and those go our log's way, in its form. Only why a
    # provider does not start is told nowhere else.
    settings.log_severity_level = 4
    for library in options.custom_ops:
        try:
            settings.register_custom_ops_library(library)
        except Exception as error:
            raise LoadError(f"{library}: ONNX Runtime cannot load these operators: {first_line(error)}") from None
    providers = _providers(onnxruntime.get_available_providers(), options)
    for name, _ in providers:
        if name in _OF_CUDA:
            _find_cuda(onnxruntime, source, name)
    onnxruntime.set_default_logger_severity(4 if all(name == _CPU for name, _ in providers) else 3)
    try:
        # Without a fallback: it would print about it, and go on with other providers than those asked for.
        session = onnxruntime.InferenceSession(source, settings, providers=providers, enable_fallback=0)
    except Exception as error:
        raise LoadError(f"{source}: {_reason(error)}") from None
    onnxruntime.set_default_logger_severity(4)
    # ONNX Runtime goes on without a provider whose libraries it cannot load, and says so only in its log.
    missing = {name for name, _ in providers} - set(session.get_providers())
    if missing:
        raise LoadError(f"{source}: {min(missing)} did not start: are its driver and libraries installed?")
    return session


def _find_cuda(onnxruntime: Any, source: str, provider: str) -> None:
    """Load CUDA's libraries from where they are. Raises LoadError if there is no driver for them."""
    if hasattr(onnxruntime, "preload_dlls"):
        # CUDA and cuDNN may be wheels, which no linker looks into. What it misses it prints; the session says it too.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise LoadError(
                f"{source}: {provider} needs a GPU and NVIDIA's driver, and there is no libcuda.so.1 here; a container "
                "has it with NVIDIA's toolkit: docker run --gpus all"
            ) from None


def _reason(error: Exception) -> str:
    """Why ONNX Runtime cannot load a model, and how to mend it, in one line."""
    said = " ".join(str(error).split())
    if match := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", said):
        return (
            f"it has IR version {match[1]}, and this ONNX Runtime takes {match[2]} at most: pip install -U onnxruntime, or "
            f"save the model with ir_version={match[2]}"
        )
    if match := re.search(r"Opset (\d+) is under development.* for domain (\S+) is till opset (\d+)", said):
        return (
            f"it has opset {match[1]} of {match[2]}, and this ONNX Runtime takes {match[3]} at most: "
            f"pip install -U onnxruntime, or export the model with opset {match[3]}"
        )
    if match := re.search(r"Fatal error: (\S+):([^:\s]+?)\(-?\d+\) is not a registered function/op", said):
        # The domain ai.onnx.contrib is that of onnxruntime-extensions, whose library is in its wheel.
        return f"it needs the operator {match[2]} of {match[1]}: give the library that has it, --custom-ops LIBRARY"
    if match := re.search(r"No Op registered for (\S+) with domain_version of (\d+)", said):
        return (
            f"ONNX Runtime has no operator {match[1]} in opset {match[2]}: pip install -U onnxruntime, or give the library "
            "that has it, --custom-ops LIBRARY"
        )
    if "Protobuf parsing failed" in said or "No graph was found" in said:
        return "is no whole ONNX file: was its download cut off?"
    words = re.sub(r"^.*?Load model from .*? failed:", "", said)
    return f"ONNX Runtime cannot load it: {words_of(ValueError(_PLACE.sub('', words, count=1)))}"


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
_OPENVINO = "OpenVINOExecutionProvider"
_OF_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


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
        settings = {"device_id": index} if index and found != _CPU else {}
        if found == _OPENVINO:
            settings |= _of_openvino(options)
        chosen.append((found, settings))
    return chosen


def _of_openvino(options: LoadOptions) -> dict[str, str]:
    """OpenVINO's settings. It has threads of its own, a core each unless told; the session's are not its."""
    settings = {"num_of_threads": str(options.intra_threads or 1)}
    if options.bfloat16:
        # Its own "precision" knows float32 alone on a CPU. This hint is OpenVINO's; where a CPU has no such
        # instructions, it is float32 again.
        settings["load_config"] = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}})
    return settings


def _spec(source: str, what: str, arg: Any, declared: Mapping[str, TensorSpec]) -> TensorSpec:
    dtype = _dtype(arg)
    if dtype is None:
        hint = "have the model take plain tensors"
        if what == "output":
            hint = "choose others with --outputs"
            if arg.type.startswith("seq(map("):  # what skl2onnx makes of a classifier's probabilities
                hint += ", or convert the classifier with options={'zipmap': False}"
        raise LoadError(f"{source}: {what} {arg.name!r} is a {arg.type}, which has no type on the wire; {hint}")
    # A fixed dimension of 0 or less is how some exporters write "any".
    shape = tuple(d if not isinstance(d, int) or d > 0 else None for d in arg.shape)
    spec = TensorSpec(arg.name, dtype, shape)
    override = declared.get(arg.name)
    return replace(spec, dtype=override.dtype, shape=override.shape) if override else spec


def _dtype(arg: Any) -> np.dtype[Any] | None:
    optional = _OPTIONAL.fullmatch(arg.type)
    match = re.fullmatch(r"tensor\((\w+)\)", optional[1] if optional else arg.type)
    name = _DTYPES.get(match[1]) if match else None
    return np.dtype(name) if name else None


_OPTIONAL = re.compile(r"optional\((.*)\)")


def _check_declared(source: str, path: str, declared: Mapping[str, TensorSpec], args: Sequence[Any]) -> None:
    """Raises LoadError where the file of --value-inputs speaks of something else than the model has."""
    of_model = {arg.name: arg for arg in args}
    for name, spec in declared.items():
        if name not in of_model:
            near = difflib.get_close_matches(name, of_model, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, of_model))}"
            raise LoadError(f"--value-inputs {path}: {source} has no input {name!r}; {hint}")
        arg = of_model[name]
        dims = tuple(d if isinstance(d, int) and d > 0 else None for d in arg.shape)
        shape = spec.shape or ()
        fits = not dims or len(shape) == len(dims)
        fits &= all(None in (a, b) or a == b for a, b in zip(shape, dims, strict=False))
        if spec.dtype != _dtype(arg) or not fits:
            raise LoadError(
                f"--value-inputs {path}: it says {spec}, but {source} has {TensorSpec(name, _dtype(arg), dims)}"
            )


_USES = frozenset(
    {"inputs", "outputs", "value_inputs", "custom_ops", "device", "providers", "intra_threads", "trust_model"}
)


def _has_openvino() -> bool:
    """Whether it is OpenVINO's build of ONNX Runtime that is installed: it is not imported to find that out."""
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return bool(metadata.version("onnxruntime-openvino"))
    return False


BACKEND = Backend(
    "onnx",
    lambda source: source.lower().endswith((".onnx", ".ort")),
    _open,
    uses=lambda source: _USES | ({"bfloat16"} if _has_openvino() else set()),
)
