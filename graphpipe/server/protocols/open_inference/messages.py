"""The messages of the protocol's gRPC form: read as views of what came, written as segments."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import MalformedMessage
from graphpipe.server.protocols.open_inference.datatypes import NUMBERS, datatype_of
from graphpipe.server.protocols.open_inference.texts import joined
from graphpipe.server.protocols.protobuf import (
    FIXED64,
    JOINED_BYTES_MAX,
    VARINT,
    Message,
    Reader,
    key,
    numbers,
    signed,
    text,
)
from graphpipe.wire import Segment
from graphpipe.wire.dtypes import ENTRIES_MAX, NDIM_MAX, to_sendable
from graphpipe.words import quoted

__all__ = [
    "InferRequest",
    "InputTensor",
    "Parameters",
    "RequestedOutput",
    "check_empty",
    "configuration_response",
    "infer_response",
    "metadata_response",
    "model_metadata_response",
    "read_infer_request",
    "read_name",
    "repository_index",
    "statistics_response",
    "truth",
]

Array = NDArray[Any]
Parameter = bool | int | float | str
Parameters = dict[str, Parameter]

# Fields of one request without the contents of its tensors: so many are read on the event loop.
_FIELDS_MAX = 1 << 14


@dataclass(slots=True)
class InputTensor:
    """One input as it came. ``contents`` are the parts of a message that nobody has looked into: mostly one, or none."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = field(default_factory=list)
    parameters: Parameters = field(default_factory=dict)
    contents: list[memoryview] = field(default_factory=list)


@dataclass(slots=True)
class RequestedOutput:
    """An output that is asked for."""

    name: str = ""
    parameters: Parameters = field(default_factory=dict)


@dataclass(slots=True)
class InferRequest:
    """A ModelInferRequest. ``raw`` has the bytes of all inputs, in their order, or nothing."""

    model_name: str = ""
    model_version: str = ""
    id: str = ""
    parameters: Parameters = field(default_factory=dict)
    inputs: list[InputTensor] = field(default_factory=list)
    outputs: list[RequestedOutput] = field(default_factory=list)
    raw: list[memoryview] = field(default_factory=list)


_MODEL_NAME, _MODEL_VERSION, _ID, _PARAMETERS = key(1), key(2), key(3), key(4)
_INPUTS, _OUTPUTS, _RAW = key(5), key(6), key(7)


def read_infer_request(message: memoryview) -> InferRequest:
    """What a ModelInferRequest says. Raises MalformedMessage, TooLarge."""
    reader = Reader(_FIELDS_MAX)
    found = InferRequest()
    inputs, raw = found.inputs, found.raw
    for name, value in reader.fields(message):
        if name == _RAW:
            raw.append(value)
        elif name == _INPUTS:
            inputs.append(_input(value, reader))
        elif name == _MODEL_NAME:
            found.model_name = text(value, "model_name")
        elif name == _ID:
            found.id = text(value, "id")
        elif name == _OUTPUTS:
            found.outputs.append(_requested(value, reader))
        elif name == _MODEL_VERSION:
            found.model_version = text(value, "model_version")
        elif name == _PARAMETERS:
            _add_parameter(found.parameters, value, reader)
    if len(inputs) > ENTRIES_MAX or len(raw) > ENTRIES_MAX or len(found.outputs) > ENTRIES_MAX:
        raise MalformedMessage(f"the message has more than {ENTRIES_MAX} inputs, outputs or raw contents")
    return found


_NAME, _DATATYPE, _SHAPE, _SHAPE_ALONE = key(1), key(2), key(3), key(3, VARINT)
_INPUT_PARAMETERS, _CONTENTS = key(4), key(5)


def _input(message: memoryview, reader: Reader) -> InputTensor:
    found = InputTensor()
    for name, value in reader.fields(message):
        if name == _SHAPE:
            found.shape += numbers(value, NDIM_MAX, "a shape")
            _check_dimensions(found)
        elif name == _NAME:
            found.name = text(value, "an input's name")
        elif name == _DATATYPE:
            found.datatype = text(value, "a datatype")
        elif name == _CONTENTS:
            found.contents.append(value)
        elif name == _INPUT_PARAMETERS:
            _add_parameter(found.parameters, value, reader)
        elif name == _SHAPE_ALONE:
            found.shape.append(signed(value))
    _check_dimensions(found)
    return found


def _check_dimensions(tensor: InputTensor) -> None:
    if len(tensor.shape) > NDIM_MAX:
        raise MalformedMessage(f"an input has {len(tensor.shape)} dimensions; at most {NDIM_MAX} are taken")


_OUTPUT_PARAMETERS = key(2)


def _requested(message: memoryview, reader: Reader) -> RequestedOutput:
    found = RequestedOutput()
    for name, value in reader.fields(message):
        if name == _NAME:
            found.name = text(value, "an output's name")
        elif name == _OUTPUT_PARAMETERS:
            _add_parameter(found.parameters, value, reader)
    return found


_ENTRY_KEY, _ENTRY_VALUE = key(1), key(2)
_TRUTH, _WHOLE, _TEXT, _REAL, _UNSIGNED = key(1, VARINT), key(2, VARINT), key(3), key(4, FIXED64), key(5, VARINT)
_PARAMETER_BYTES_MAX = 1 << 22  # `config` may be a text of a million characters


def _add_parameter(parameters: Parameters, entry: memoryview, reader: Reader) -> None:
    """Read an entry of a map of parameters; one without a value counts as not there."""
    name, parts = "", []
    for found, value in reader.fields(entry):
        if found == _ENTRY_KEY:
            name = text(value, "a parameter's name")
        elif found == _ENTRY_VALUE:
            parts.append(value)
    parameters.pop(name, None)
    chosen: Parameter | None = None
    for found, value in reader.fields(*parts):
        if found == _TRUTH:
            chosen = value != 0
        elif found == _WHOLE:
            chosen = signed(value)
        elif found == _TEXT:
            chosen = text(value, f"parameter {quoted(name)}", _PARAMETER_BYTES_MAX)
        elif found == _REAL:
            chosen = struct.unpack("<d", value)[0]
        elif found == _UNSIGNED:
            chosen = value
    if chosen is not None:
        parameters[name] = chosen


def infer_response(
    model_name: str, model_version: str, request_id: str, outputs: Sequence[tuple[str, Array]]
) -> list[Segment]:
    """A ModelInferResponse, with the bytes of the outputs raw: the arrays' own memory, where it is contiguous.

    Raises InvalidRequest for an array that does not travel, TooLarge.
    """
    if len(outputs) == 1 and not request_id:  # nearly always
        name, given = outputs[0]
        if (
            type(given) is np.ndarray
            and given.dtype in NUMBERS
            and 0 < given.nbytes <= JOINED_BYTES_MAX
            and given.flags.c_contiguous
            and len(name) <= _DESCRIBED_NAME_MAX
        ):
            return [b"".join((_known_beginning(model_name, model_version, name, given.dtype, given.shape), given.data))]
    contents: list[Segment] = []
    tensors = []
    is_small = True
    for name, array in outputs:
        # Nearly always: nothing has to be done to it.
        if (
            type(array) is not np.ndarray
            or array.dtype not in NUMBERS
            or not array.flags.c_contiguous
            or not array.size
        ):
            array, content = _sendable(array, f"output {quoted(name)}")
        else:
            content = array.data.cast("B")
        contents.append(content)
        tensors.append((name, array.dtype, array.shape))
        if len(name) > _DESCRIBED_NAME_MAX:
            is_small = False
    describe = _known_description if is_small and len(tensors) <= _DESCRIBED_MAX else _description
    answer = Message().written(describe(model_name, model_version, tuple(tensors)))
    for content in contents:
        answer.octets(6, content)
    if request_id:
        answer.text(3, request_id)  # behind all that is the same for others
    return answer.segments()


def _sendable(given: Array, what: str) -> tuple[Array, Segment]:
    """An output as it travels, and its bytes."""
    _, array = to_sendable(given, what)
    if array.dtype.kind == "O":
        return array, joined(array, what)
    # A memoryview of nothing cannot be cast.
    return array, array.data.cast("B") if array.size else b""


_Described = tuple[str, np.dtype[Any], tuple[int, ...]]
# Descriptions of more, or with longer names, are not worth the memory.
_DESCRIBED_MAX, _DESCRIBED_NAME_MAX = 16, 256


def _description(model_name: str, model_version: str, tensors: tuple[_Described, ...]) -> bytes:
    """What an answer says beside its tensors' bytes."""
    answer = Message().text(1, model_name).text(2, model_version)
    for name, dtype, shape in tensors:
        answer.message(5, Message().text(1, name).text(2, datatype_of(dtype)).numbers(3, shape))
    return b"".join(answer.segments())


_known_description = lru_cache(maxsize=256)(_description)


@lru_cache(maxsize=256)
def _known_beginning(
    model_name: str, model_version: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> bytes:
    """All of an answer with one tensor that stands before the tensor's bytes."""
    described = _description(model_name, model_version, ((name, dtype, shape),))
    size = dtype.itemsize * prod(shape)
    return b"".join(Message().written(described).head(6, size).segments())


def check_empty(message: memoryview) -> None:
    """Whether a question says nothing that is known here. Raises MalformedMessage, TooLarge for what is no message."""
    for _ in Reader(_FIELDS_MAX).fields(message):
        pass


def read_name(message: memoryview) -> tuple[str, str]:
    """The name and version that a question about a model begins with. Raises MalformedMessage, TooLarge."""
    name = version = ""
    for found, value in Reader(_FIELDS_MAX).fields(message):
        if found == _NAME:
            name = text(value, "name")
        elif found == _DATATYPE:
            version = text(value, "version")
    return name, version


def truth(value: bool) -> list[Segment]:
    """An answer that is yes or no: ServerLive, ServerReady, ModelReady."""
    return Message().number(1, value).segments()


def metadata_response(name: str, version: str, extensions: Sequence[str]) -> list[Segment]:
    """A ServerMetadataResponse."""
    return Message().text(1, name).text(2, version).texts(3, extensions).segments()


def model_metadata_response(described: Mapping[str, Any]) -> list[Segment]:
    """A ModelMetadataResponse, of what the protocol's document of a model says."""
    answer = Message().text(1, described["name"]).texts(2, described["versions"]).text(3, described["platform"])
    for number, side in ((4, "inputs"), (5, "outputs")):
        for tensor in described[side]:
            answer.message(
                number,
                Message().text(1, tensor["name"]).text(2, tensor["datatype"]).numbers(3, tensor["shape"]),
            )
    return answer.segments()


# The places of Triton's element types in its enumeration of them.
_CONFIGURED = {
    f"TYPE_{name}": place
    for place, name in enumerate(
        (
            "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32",
            "FP64", "STRING",
        )
    )
}  # fmt: skip


def configuration_response(said: Mapping[str, Any]) -> list[Segment]:
    """A ModelConfigResponse, of what Triton's document of a configuration says."""
    config = Message().text(1, said["name"]).text(2, said["platform"]).number(4, said["max_batch_size"])
    for number, dims, side in ((5, 4, "input"), (6, 3, "output")):
        for tensor in said[side]:
            described = Message().text(1, tensor["name"]).number(2, _CONFIGURED[tensor["data_type"]])
            config.message(number, described.numbers(dims, tensor["dims"]))
    return Message().message(1, config.text(17, said["backend"])).segments()


def repository_index(models: Iterable[Mapping[str, str]]) -> list[Segment]:
    """A RepositoryIndexResponse, of what the protocol's document says of each model."""
    answer = Message()
    for model in models:
        entry = Message()
        for number, name in enumerate(("name", "version", "state", "reason"), 1):
            entry.text(number, model[name])
        answer.message(1, entry)
    return answer.segments()


_DURATIONS = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip


def statistics_response(models: Iterable[Mapping[str, Any]]) -> list[Segment]:
    """A ModelStatisticsResponse, of what the protocol's document says of each model."""
    answer = Message()
    for model in models:
        times = Message()
        for number, name in enumerate(_DURATIONS, 1):
            time = model["inference_stats"][name]
            times.message(number, Message().number(1, time["count"]).number(2, time["ns"]))
        entry = Message().text(1, model["name"]).text(2, model["version"]).number(3, model["last_inference"])
        entry.number(4, model["inference_count"]).number(5, model["execution_count"]).message(6, times)
        answer.message(1, entry)
    return answer.segments()
