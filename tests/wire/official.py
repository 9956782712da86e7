"""The oracle: messages written and read by the official FlatBuffers runtime and the classes its compiler generated.

Writing takes a ``Manner``: the format leaves writers much freedom, and the programs of 2018 used it in other ways than
ours. Reading gives plain values: a tensor is ``(type, shape, data)``, with little-endian bytes or, for strings, a list
of bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flatbuffers
import numpy as np

from graphpipe.wire.messages import MetadataResponse
from tests.generated import graphpipe_generated as fbs

STRING = fbs.Type.String


class Tensor(NamedTuple):
    """A tensor as the wire has it, of nobody's classes."""

    type: int
    shape: tuple[int, ...]
    data: bytes | list[bytes]


@dataclass(frozen=True)
class Manner:
    """What a writer is free to choose."""

    data: str = "byte vector"  # or "numpy", "elements": three ways of the runtime; all align data to 4 bytes at most
    nul: bool = True  # strings end in NUL; the original Go programs wrote them as byte vectors, without
    shape_by_length: bool = False  # the shape is aligned to 4 only, as the original Go server copied it
    tensors_first: bool = False  # names or tensors: what is built first stands at the buffer's end
    config_last: bool = False  # config after both
    data_first: bool = False  # a tensor's data before its shape
    empty_vectors: bool = True  # names that are not there: an empty vector, or no field
    both_data: bool = False  # the field of the other kind (data, string_val) is there too, empty
    defaults: bool = False  # fields with their default value are written
    shared: bool = False  # equal strings, shapes and vectors of bytes are written once
    gap: int = 0  # bytes of nothing behind each vector of bytes


PLAIN = Manner()
ORIGINAL_PYTHON = Manner(data="elements", tensors_first=True)
ORIGINAL_GO = Manner(nul=False, shape_by_length=True, empty_vectors=False)


# --- writing ----------------------------------------------------------------------------------------------------------


class Writer:
    """One message in the making."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.builder = flatbuffers.Builder(64)
        self.builder.forceDefaults = manner.defaults
        self.written: dict[object, int] = {}

    def finish(self, root: int) -> bytes:
        if self.manner.shape_by_length:
            self.builder.minalign = 4
        self.builder.Finish(root)
        return bytes(self.builder.Output())

    def once(self, key: object, write: Callable[[], int]) -> int:
        """What is written, or where that was written before, if equal things are shared."""
        if not self.manner.shared:
            return write()
        if key not in self.written:
            self.written[key] = write()
        return self.written[key]

    def string(self, value: str | bytes) -> int:
        raw = value.encode() if isinstance(value, str) else value
        return self.once(raw, lambda: self._string(raw))

    def _string(self, raw: bytes) -> int:
        return int(self.builder.CreateString(raw) if self.manner.nul else self.builder.CreateByteVector(raw))

    def offsets(self, places: Sequence[int]) -> int:
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return int(self.builder.EndVector())

    def strings(self, values: Sequence[str | bytes]) -> int | None:
        if not values and not self.manner.empty_vectors:
            return None
        return self.offsets([self.string(value) for value in values])

    def shape(self, dims: Sequence[int]) -> int:
        return self.once(tuple(dims), lambda: self._shape(dims))

    def _shape(self, dims: Sequence[int]) -> int:
        if self.manner.shape_by_length:
            at = self.builder.CreateByteVector(np.array(dims, "<i8").tobytes())
            self.builder.Bytes[self.builder.Head() : self.builder.Head() + 4] = len(dims).to_bytes(4, "little")
            return int(at)
        fbs.TensorStartShapeVector(self.builder, len(dims))
        for dim in reversed(dims):
            self.builder.PrependInt64(dim)
        return int(self.builder.EndVector())

    def data(self, raw: bytes) -> int:
        return self.once(("data", raw), lambda: self._data(raw))

    def _data(self, raw: bytes) -> int:
        self.builder.Prep(4, self.manner.gap)
        self.builder.Pad(self.manner.gap)
        if self.manner.data == "byte vector":
            return int(self.builder.CreateByteVector(raw))
        if self.manner.data == "numpy":
            return int(self.builder.CreateNumpyVector(np.frombuffer(raw, np.uint8)))
        fbs.TensorStartDataVector(self.builder, len(raw))
        for byte in reversed(raw):
            self.builder.PrependByte(byte)
        return int(self.builder.EndVector())

    def tensor(self, tensor: Tensor) -> int:
        is_string = tensor.type == STRING
        shape = None if self.manner.data_first else self.shape(tensor.shape)
        data = strings = None
        if isinstance(tensor.data, bytes):
            data = self.data(tensor.data)
        else:
            strings = self.offsets([self.string(item) for item in tensor.data])
        if self.manner.both_data:
            data, strings = (self.data(b""), strings) if is_string else (data, self.offsets([]))
        if shape is None:
            shape = self.shape(tensor.shape)
        fbs.TensorStart(self.builder)
        fbs.TensorAddType(self.builder, tensor.type)
        fbs.TensorAddShape(self.builder, shape)
        if data is not None:
            fbs.TensorAddData(self.builder, data)
        if strings is not None:
            fbs.TensorAddStringVal(self.builder, strings)
        return int(fbs.TensorEnd(self.builder))

    def tensors(self, tensors: Sequence[Tensor]) -> int:
        return self.offsets([self.tensor(tensor) for tensor in tensors])


def write_request(
    tensors: Sequence[Tensor],
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    config: str = "",
    manner: Manner = PLAIN,
) -> bytes:
    w = Writer(manner)
    inputs = w.tensors(tensors) if manner.tensors_first else None
    config_at = None if manner.config_last else w.string(config)
    names, outputs = w.strings(input_names), w.strings(output_names)
    if inputs is None:
        inputs = w.tensors(tensors)
    if config_at is None:
        config_at = w.string(config)
    fbs.InferRequestStart(w.builder)
    fbs.InferRequestAddConfig(w.builder, config_at)
    if names is not None:
        fbs.InferRequestAddInputNames(w.builder, names)
    fbs.InferRequestAddInputTensors(w.builder, inputs)
    if outputs is not None:
        fbs.InferRequestAddOutputNames(w.builder, outputs)
    infer = fbs.InferRequestEnd(w.builder)
    return w.finish(_request(w, fbs.Req.InferRequest, infer))


def write_metadata_request(manner: Manner = PLAIN) -> bytes:
    w = Writer(manner)
    fbs.MetadataRequestStart(w.builder)
    return w.finish(_request(w, fbs.Req.MetadataRequest, fbs.MetadataRequestEnd(w.builder)))


def _request(w: Writer, kind: int, member: int) -> int:
    fbs.RequestStart(w.builder)
    fbs.RequestAddReqType(w.builder, kind)
    fbs.RequestAddReq(w.builder, member)
    return int(fbs.RequestEnd(w.builder))


def write_infer_response(
    tensors: Sequence[Tensor], errors: Sequence[tuple[int, str]] = (), manner: Manner = PLAIN
) -> bytes:
    w = Writer(manner)
    outputs = w.tensors(tensors)
    places = []
    for code, message in errors:
        message_at = w.string(message)
        fbs.ErrorStart(w.builder)
        fbs.ErrorAddCode(w.builder, code)
        fbs.ErrorAddMessage(w.builder, message_at)
        places.append(fbs.ErrorEnd(w.builder))
    errors_at = w.offsets(places) if errors or manner.empty_vectors else None
    fbs.InferResponseStart(w.builder)
    fbs.InferResponseAddOutputTensors(w.builder, outputs)
    if errors_at is not None:
        fbs.InferResponseAddErrors(w.builder, errors_at)
    return w.finish(fbs.InferResponseEnd(w.builder))


def write_metadata_response(meta: MetadataResponse, manner: Manner = PLAIN) -> bytes:
    w = Writer(manner)
    sides = []
    for side in (meta.inputs, meta.outputs):
        places = []
        for io in side:
            name, description, shape = w.string(io.name), w.string(io.description), w.shape(io.shape)
            fbs.IOMetadataStart(w.builder)
            fbs.IOMetadataAddName(w.builder, name)
            fbs.IOMetadataAddDescription(w.builder, description)
            fbs.IOMetadataAddShape(w.builder, shape)
            fbs.IOMetadataAddType(w.builder, int(io.type))
            places.append(fbs.IOMetadataEnd(w.builder))
        sides.append(w.offsets(places))
    texts = [w.string(text) for text in (meta.name, meta.version, meta.server, meta.description)]
    fbs.MetadataResponseStart(w.builder)
    fbs.MetadataResponseAddName(w.builder, texts[0])
    fbs.MetadataResponseAddVersion(w.builder, texts[1])
    fbs.MetadataResponseAddServer(w.builder, texts[2])
    fbs.MetadataResponseAddDescription(w.builder, texts[3])
    fbs.MetadataResponseAddInputs(w.builder, sides[0])
    fbs.MetadataResponseAddOutputs(w.builder, sides[1])
    return w.finish(fbs.MetadataResponseEnd(w.builder))


# --- reading ----------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """An InferRequest as the generated classes read it."""

    config: str
    input_names: list[str]
    output_names: list[str]
    tensors: list[Tensor]


def read_request(message: bytes, absent_ok: bool = False) -> Request | None:
    """The InferRequest; None for a MetadataRequest.

    The original's accessors break where text, shape or data is absent, so ours must write them even when empty;
    ``absent_ok`` is for messages that are not ours.
    """
    request = fbs.Request.GetRootAs(message)
    member: Any = request.Req()
    if request.ReqType() == fbs.Req.MetadataRequest:
        fbs.MetadataRequest().Init(member.Bytes, member.Pos)
        return None
    assert request.ReqType() == fbs.Req.InferRequest
    infer = fbs.InferRequest()
    infer.Init(member.Bytes, member.Pos)
    config = infer.Config()
    assert absent_ok or config is not None
    return Request(
        (config or b"").decode(),
        [name.decode() for name in _each(infer.InputNames, infer.InputNamesLength())],
        [name.decode() for name in _each(infer.OutputNames, infer.OutputNamesLength())],
        [_tensor(each, absent_ok) for each in _each(infer.InputTensors, infer.InputTensorsLength())],
    )


def read_infer_response(message: bytes) -> tuple[list[Tensor], list[tuple[int, str]]]:
    response = fbs.InferResponse.GetRootAs(message)
    return (
        [_tensor(each) for each in _each(response.OutputTensors, response.OutputTensorsLength())],
        [(each.Code(), each.Message().decode()) for each in _each(response.Errors, response.ErrorsLength())],
    )


def read_metadata_response(message: bytes) -> tuple[Any, ...]:
    """Name, version, server, description, and the inputs and outputs as tuples of name, description, shape and type."""
    meta = fbs.MetadataResponse.GetRootAs(message)

    def ios(item: Callable[[int], Any], count: int) -> tuple[Any, ...]:
        return tuple(
            (io.Name().decode(), io.Description().decode(), tuple(_each(io.Shape, io.ShapeLength())), io.Type())
            for io in _each(item, count)
        )

    return (
        *(text.decode() for text in (meta.Name(), meta.Version(), meta.Server(), meta.Description())),
        ios(meta.Inputs, meta.InputsLength()),
        ios(meta.Outputs, meta.OutputsLength()),
    )


def _each(item: Callable[[int], Any], count: int) -> list[Any]:
    return [item(i) for i in range(count)]


def _tensor(tensor: Any, absent_ok: bool = False) -> Tensor:
    assert absent_ok or not tensor.ShapeIsNone()
    shape = tuple(_each(tensor.Shape, tensor.ShapeLength()))
    if tensor.Type() == STRING:
        assert absent_ok or not tensor.StringValIsNone()
        return Tensor(STRING, shape, _each(tensor.StringVal, tensor.StringValLength()))
    assert absent_ok or not tensor.DataIsNone()
    return Tensor(tensor.Type(), shape, b"" if tensor.DataIsNone() else tensor.DataAsNumpy().tobytes())
