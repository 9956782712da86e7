"""The messages of TensorFlow Serving's gRPC form: read as views of what came, written as segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage
from graphpipe.server.protocols.protobuf import VARINT, Message, Reader, key, signed, text
from graphpipe.server.protocols.tensorflow_serving.tensors import (
    number_of_dtype,
    shape_message,
    tensor_head,
    tensor_message,
)
from graphpipe.signature import TensorSpec
from graphpipe.wire import Segment
from graphpipe.wire.dtypes import ENTRIES_MAX, to_sendable
from graphpipe.words import quoted

__all__ = [
    "AVAILABLE",
    "SIGNATURE_FIELD",
    "MetadataQuestion",
    "ModelSpec",
    "PredictRequest",
    "metadata_response",
    "predict_response",
    "read_metadata_question",
    "read_predict_request",
    "read_status_question",
    "status_response",
    "version_number",
]

Array = NDArray[Any]

# Fields of one request without its tensors: so many are read on the event loop.
_FIELDS_MAX = 1 << 14
# A version of a model is served.
AVAILABLE = 30
# What of a model's metadata can be asked for.
SIGNATURE_FIELD = "signature_def"
_SIGNATURES = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


@dataclass(slots=True)
class ModelSpec:
    """Which model, which version (None: whichever there is; or a label's), which of its signatures (empty: the default)."""

    name: str = ""
    version: int | None = None
    label: str = ""
    signature_name: str = ""


@dataclass(slots=True)
class PredictRequest:
    """A PredictRequest. ``inputs`` are TensorProtos that nobody has looked into, by name: the parts of each, mostly one."""

    spec: ModelSpec = field(default_factory=ModelSpec)
    inputs: dict[str, list[memoryview]] = field(default_factory=dict)
    output_filter: list[str] = field(default_factory=list)


_SPEC, _INPUTS, _FILTER = key(1), key(2), key(3)
_ENTRY_KEY, _ENTRY_VALUE = key(1), key(2)


def read_predict_request(message: memoryview) -> PredictRequest:
    """What a PredictRequest says. Raises MalformedMessage, InvalidRequest, TooLarge."""
    reader = Reader(_FIELDS_MAX)
    found = PredictRequest()
    spec: list[memoryview] = []
    for name, value in reader.fields(message):
        if name == _INPUTS:
            _add_input(found.inputs, value, reader)
        elif name == _SPEC:
            spec.append(value)
        elif name == _FILTER:
            found.output_filter.append(text(value, "output_filter"))
    found.spec = _spec(spec, reader)
    if len(found.inputs) > ENTRIES_MAX or len(found.output_filter) > ENTRIES_MAX:
        raise MalformedMessage(f"the message has more than {ENTRIES_MAX} inputs or outputs")
    return found


def _add_input(inputs: dict[str, list[memoryview]], entry: memoryview, reader: Reader) -> None:
    name, parts = "", []
    for found, value in reader.fields(entry):
        if found == _ENTRY_KEY:
            name = text(value, "an input's name")
        elif found == _ENTRY_VALUE:
            parts.append(value)
    if name in inputs:  # of two entries the last would count, and nobody means that
        raise InvalidRequest(f"input {quoted(name)} came twice; send each input once")
    inputs[name] = parts


_NAME, _VERSION, _SIGNATURE_NAME, _LABEL = key(1), key(2), key(3), key(4)
_WRAPPED = key(1, VARINT)


def _spec(parts: Sequence[memoryview], reader: Reader) -> ModelSpec:
    spec = ModelSpec()
    for found, value in reader.fields(*parts):
        if found == _NAME:
            spec.name = text(value, "a model's name")
        elif found == _VERSION:  # of version and label the last one counts
            spec.label, spec.version = "", spec.version or 0
            for wrapped, number in reader.fields(value):
                if wrapped == _WRAPPED:
                    spec.version = signed(number)
        elif found == _LABEL:
            spec.label = text(value, "a version's label")
            spec.version = None
        elif found == _SIGNATURE_NAME:
            spec.signature_name = text(value, "signature_name")
    return spec


def predict_response(
    outputs: Iterable[tuple[str, Array]], name: str, version: int | None, signature_name: str
) -> list[Segment]:
    """A PredictResponse, whose tensors' bytes are the arrays' own memory. Raises InvalidRequest for what does not travel."""
    answer = Message()
    for output, given in outputs:
        what = f"output {quoted(output)}"
        _, array = to_sendable(given, what)
        if array.dtype.kind == "O":
            answer.map(1, output, tensor_message(array, what))
            continue
        answer.written((_known_head if len(output) <= _KNOWN_NAME_MAX else _head)(output, array.dtype, array.shape))
        if array.size:
            answer.written(array.data.cast("B"))
    return answer.message(2, _spec_message(name, version, signature_name)).segments()


# Longer names are not worth the memory.
_KNOWN_NAME_MAX = 256


def _head(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """All that stands before the bytes of an output."""
    return b"".join(Message().map(1, name, tensor_head(dtype, shape)).segments())


_known_head = lru_cache(maxsize=256)(_head)


def _spec_message(name: str, version: int | None, signature_name: str) -> Message:
    spec = Message().text(1, name)
    if version is not None:
        spec.message(2, Message().number(1, version))
    return spec.text(3, signature_name)


@dataclass(slots=True)
class MetadataQuestion:
    """A GetModelMetadataRequest: ``fields`` are what is asked for."""

    spec: ModelSpec = field(default_factory=ModelSpec)
    fields: list[str] = field(default_factory=list)


_METADATA_FIELD = key(2)


def read_metadata_question(message: memoryview) -> MetadataQuestion:
    """What a GetModelMetadataRequest says. Raises MalformedMessage, TooLarge."""
    reader = Reader(_FIELDS_MAX)
    spec, fields = [], []
    for name, value in reader.fields(message):
        if name == _SPEC:
            spec.append(value)
        elif name == _METADATA_FIELD:
            fields.append(text(value, "metadata_field"))
    return MetadataQuestion(_spec(spec, reader), fields)


def metadata_response(
    name: str,
    version: int | None,
    signatures: Mapping[str, tuple[Sequence[TensorSpec], Sequence[TensorSpec], str]],
) -> list[Segment]:
    """A GetModelMetadataResponse: inputs, outputs and method of each signature."""
    described = Message()
    for signature, (inputs, outputs, method) in signatures.items():
        definition = Message()
        for number, specs in ((1, inputs), (2, outputs)):
            for spec in specs:
                definition.map(number, spec.name, _described(spec))
        described.map(1, signature, definition.text(3, method))
    packed = Message().text(1, _SIGNATURES).octets(2, b"".join(described.segments()))
    return Message().message(1, _spec_message(name, version, "")).map(2, SIGNATURE_FIELD, packed).segments()


def _described(spec: TensorSpec) -> Message:
    shape = None if spec.shape is None else tuple(dim if isinstance(dim, int) else -1 for dim in spec.shape)
    name = spec.name if ":" in spec.name else f"{spec.name}:0"
    return Message().text(1, name).number(2, number_of_dtype(spec.dtype)).message(3, shape_message(shape))


def read_status_question(message: memoryview) -> ModelSpec:
    """What a GetModelStatusRequest says. Raises MalformedMessage, TooLarge."""
    reader = Reader(_FIELDS_MAX)
    return _spec([value for name, value in reader.fields(message) if name == _SPEC], reader)


def status_response(versions: Iterable[tuple[int, int]]) -> list[Segment]:
    """A GetModelStatusResponse: number and state of each version. None of them has an error."""
    answer = Message()
    for version, state in versions:
        answer.message(1, Message().number(1, version).number(2, state).message(3, Message()))
    return answer.segments()


def version_number(version: str) -> int | None:
    """A version's name as the number that this protocol has for one; None where it is none."""
    try:
        number = int(version)
    except ValueError:
        return None
    return number if 0 <= number < 2**63 else None
