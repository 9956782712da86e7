"""The messages, and their way to bytes and back.

Encoding gives a list of segments and never copies a contiguous tensor. Decoding gives arrays that borrow the buffer,
and validates everything first: whatever bytes come in, it returns a message or raises MalformedMessage.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge, Unsupported
from graphpipe.wire.dtypes import BYTES_MAX, DTYPES, ENTRIES_MAX, NDIM_MAX, STRINGS_MAX, TYPES, Type
from graphpipe.wire.elsewhere import AWAY, array_over, arrays_of, check_places, set_apart
from graphpipe.wire.memory import LayoutMemory, ReadTensor
from graphpipe.wire.reader import Hold, Reader
from graphpipe.wire.writer import Prefix, Segment, TensorKey, layout, payload
from graphpipe.words import quoted

__all__ = [
    "ErrorInfo",
    "IOMetadata",
    "InferRequest",
    "InferResponse",
    "MetadataRequest",
    "MetadataResponse",
    "RequestHead",
    "decode_infer_response",
    "decode_metadata_response",
    "decode_request",
    "encode_infer_response",
    "encode_metadata_response",
    "encode_request",
    "recall_request",
]

Array = NDArray[Any]

_INFER, _METADATA = 1, 2


@dataclass(slots=True, eq=False)  # not frozen: that would cost every decode 1 us
class RequestHead:
    """Everything in an InferRequest but the tensors' bytes. Never changed once made.

    Decoded requests whose heads are the same bytes share one object if it ``is_remembered``, so what was worked out for
    such a head once (names resolved, shapes checked) can be kept by its identity. Others never come again.

    ``bools`` are the places of the Uint8 tensors that are marked as bool; any number but 0 in them is true.
    """

    config: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    types: tuple[Type, ...]
    shapes: tuple[tuple[int, ...], ...]
    is_remembered: bool = False
    bools: tuple[int, ...] = ()


@dataclass(slots=True)
class InferRequest:
    """A decoded request: ``inputs`` are in the order they came in; strings are object arrays of bytes."""

    head: RequestHead
    inputs: list[Array]


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """Ask what the model takes and gives."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """One entry of an answer's errors: the code of docs/wire.md's table, and words for a person."""

    code: int
    message: str


@dataclass(slots=True)
class InferResponse:
    """The outputs in the order they were asked for, or why there are none."""

    outputs: list[Array]
    errors: list[ErrorInfo] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IOMetadata:
    """One input or output. ``shape``: -1 where a dimension varies; ``type``: Null where it is unknown.

    ``type_number`` is the number on the wire of a type that this package does not know, else 0. It is never sent.
    """

    name: str
    description: str = ""
    shape: tuple[int, ...] = ()
    type: Type = Type.NULL
    type_number: int = 0


@dataclass(frozen=True, slots=True)
class MetadataResponse:
    """What a model takes and gives, in the order of its defaults."""

    name: str = ""
    version: str = ""
    server: str = ""
    description: str = ""
    inputs: tuple[IOMetadata, ...] = ()
    outputs: tuple[IOMetadata, ...] = ()


# --- encoding ---------------------------------------------------------------------------------------------------------

# What more text or tensors say is not worth remembering a prefix for.
_REMEMBERED_TEXT_MAX = 4096
_REMEMBERED_TENSORS_MAX = 64


def encode_request(
    inputs: Sequence[object],
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    config: str = "",
    elsewhere: Set[int] | None = None,
) -> list[Segment]:
    """An InferRequest as segments.

    ``inputs`` are arrays or what numpy makes arrays of; ``input_names`` may be shorter, and empty names stand for the
    server's defaults. A contiguous little-endian array is not copied: it must stay unchanged until the segments are
    sent. Of the tensors in ``elsewhere`` (by their place) only type and shape are in the message: whoever reads it has
    their bytes already.

    Raises InvalidRequest for what does not travel (docs/wire.md has the limits), TooLarge from 2 GiB on.
    """
    names, outputs = tuple(input_names), tuple(output_names)
    if elsewhere:
        keys, payloads = set_apart(*_payloads(inputs, names, "input"), elsewhere)
        return _interleave(_request_layout(config, names, keys, outputs), payloads)
    try:
        # Callers repeat themselves. What is known this way was contiguous, or `data` refuses it.
        arrays = cast(Sequence[Array], inputs)
        if len(arrays) == 1:  # nearly always
            (array,) = arrays
            return [_known_requests[config, names, outputs, ((array.dtype, array.shape),)][0], array.data.cast("B")]
        known = _known_requests[config, names, outputs, tuple([(array.dtype, array.shape) for array in arrays])]
        return _interleave(known, [array.data.cast("B") for array in arrays])
    except (KeyError, AttributeError, TypeError, ValueError):
        pass
    keys, payloads = _payloads(inputs, names, "input")
    text = len(config) + sum(map(len, names)) + sum(map(len, outputs))
    remember = text <= _REMEMBERED_TEXT_MAX and len(keys) + len(names) + len(outputs) <= 3 * _REMEMBERED_TENSORS_MAX
    gaps = (_request_layout if remember else _request_layout.__wrapped__)(config, names, keys, outputs)
    if remember:
        plain = [array for array in inputs if isinstance(array, np.ndarray) and _goes_as_it_is(array)]
        if len(plain) == len(inputs):
            if len(_known_requests) >= _KNOWN_MAX:
                _known_requests.clear()
            _known_requests[config, names, outputs, tuple([(array.dtype, array.shape) for array in plain])] = gaps
    return _interleave(gaps, payloads)


def encode_infer_response(
    outputs: Sequence[object], errors: Sequence[ErrorInfo] = (), elsewhere: Set[int] | None = None
) -> list[Segment]:
    """An InferResponse as segments; the same rules as encode_request."""
    if elsewhere:
        keys, payloads = set_apart(*_payloads(outputs, (), "output"), elsewhere)
        return _interleave(_response_layout(keys, tuple(errors)), payloads)
    try:
        # Answers repeat their types and shapes. What is known this way was contiguous, or `data` refuses it.
        arrays = cast(Sequence[Array], outputs)
        if len(arrays) == 1 and not errors:  # nearly always
            (array,) = arrays
            return [_known_responses[((array.dtype, array.shape),)][0], array.data.cast("B")]
        known = _known_responses[tuple([(array.dtype, array.shape) for array in arrays])]
        if not errors:
            return _interleave(known, [array.data.cast("B") for array in arrays])
    except (KeyError, AttributeError, TypeError, ValueError):
        pass
    keys, payloads = _payloads(outputs, (), "output")
    remember = not errors and len(keys) <= _REMEMBERED_TENSORS_MAX
    gaps = (_response_layout if remember else _response_layout.__wrapped__)(keys, tuple(errors))
    if remember:
        plain = [array for array in outputs if isinstance(array, np.ndarray) and _goes_as_it_is(array)]
        if len(plain) == len(outputs):
            if len(_known_responses) >= _KNOWN_MAX:
                _known_responses.clear()
            _known_responses[tuple([(array.dtype, array.shape) for array in plain])] = gaps
    return _interleave(gaps, payloads)


_Shapes = tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]
_known_requests: dict[tuple[str, tuple[str, ...], tuple[str, ...], _Shapes], tuple[bytes, ...]] = {}
_known_responses: dict[_Shapes, tuple[bytes, ...]] = {}
_KNOWN_MAX = 256


def _goes_as_it_is(array: Array) -> bool:
    """Whether an array of this type and shape is its own bytes on the wire, if it is contiguous."""
    # The bytes of a bool are looked at: they may be others than 0 and 1.
    return array.size > 0 and array.dtype.isnative and array.dtype.kind in "iuf"


def encode_metadata_request() -> bytes:
    """A MetadataRequest: always the same bytes."""
    return _METADATA_REQUEST


def encode_metadata_response(message: MetadataResponse) -> bytes:
    """A MetadataResponse.

    Raises InvalidRequest or TooLarge for what no reader takes.
    """
    prefix = Prefix()
    table = prefix.table(prefix.vtable(28, 4, 8, 12, 16, 20, 24), bytes(24))
    prefix.point(0, table)
    for i, text in enumerate((message.name, message.version, message.server, message.description)):
        prefix.text(table + 4 + 4 * i, text)
    for i, side in enumerate((message.inputs, message.outputs)):
        places = prefix.offsets(table + 20 + 4 * i, len(side))
        vtable = prefix.vtable(20, 4, 8, 12, 16)
        for place, io in zip(places, side, strict=True):
            if len(io.shape) > NDIM_MAX or min(io.shape, default=0) < -1:
                raise InvalidRequest(
                    f"{quoted(io.name)} has shape {list(io.shape)}; at most {NDIM_MAX} dimensions of -1 (any) or more travel"
                )
            prefix.align(4)
            prefix.point(place)
            at = prefix.table(vtable, bytes(12) + bytes((io.type, 0, 0, 0)))
            prefix.text(at + 4, io.name)
            prefix.text(at + 8, io.description)
            prefix.shape(at + 12, io.shape)
    return bytes(prefix.bytes)


def _payloads(arrays: Sequence[object], names: Sequence[str], what: str) -> tuple[tuple[TensorKey, ...], list[Segment]]:
    keys, payloads = [], []
    for i, array in enumerate(arrays):
        key, segment = payload(array, quoted(names[i]) if i < len(names) and names[i] else f"{what} {i}")
        keys.append(key)
        payloads.append(segment)
    strings = sum(key.length_word for key in keys if key.type is Type.STRING)
    if strings > STRINGS_MAX:
        raise TooLarge(f"the message has {strings} strings; at most {STRINGS_MAX} travel: send fewer rows at once")
    return tuple(keys), payloads


def _interleave(gaps: tuple[bytes, ...], payloads: list[Segment]) -> list[Segment]:
    segments: list[Segment] = [gaps[0]]
    for i, segment in enumerate(payloads):
        if i:
            segments.append(gaps[i])
        segments.append(segment)
    return segments


@lru_cache(maxsize=256)
def _request_layout(
    config: str, input_names: tuple[str, ...], keys: tuple[TensorKey, ...], output_names: tuple[str, ...]
) -> tuple[bytes, ...]:
    def build(prefix: Prefix) -> list[int]:
        request = prefix.table(prefix.vtable(12, 8, 4), bytes(4) + bytes((_INFER, 0, 0, 0)))
        prefix.point(0, request)
        vtable = prefix.vtable(20, 4, 8, 12, 16)
        prefix.align(4)
        prefix.point(request + 4)
        infer = prefix.table(vtable, bytes(16))
        prefix.text(infer + 4, config)
        prefix.names(infer + 8, input_names)
        prefix.names(infer + 16, output_names)
        return prefix.tensors(infer + 12, keys, mark_bool=True)

    return layout(build, keys)


@lru_cache(maxsize=256)
def _response_layout(keys: tuple[TensorKey, ...], errors: tuple[ErrorInfo, ...]) -> tuple[bytes, ...]:
    def build(prefix: Prefix) -> list[int]:
        # An absent `errors` is what clients of the original take for success.
        response = prefix.table(prefix.vtable(12, 4, 8) if errors else prefix.vtable(12, 4), bytes(8))
        prefix.point(0, response)
        if errors:
            places = prefix.offsets(response + 8, len(errors))
            vtable = prefix.vtable(16, 8, 4)
            for place, error in zip(places, errors, strict=True):
                prefix.align(8)
                prefix.point(place)
                at = prefix.table(vtable, bytes(4) + struct.pack("<q", error.code), alignment=8)
                prefix.text(at + 4, error.message, "replace")  # an error about odd text must not fail
        return prefix.tensors(response + 4, keys, mark_bool=False)

    return layout(build, keys)


def _metadata_request() -> bytes:
    prefix = Prefix()
    request = prefix.table(prefix.vtable(12, 8, 4), bytes(4) + bytes((_METADATA, 0, 0, 0)))
    prefix.point(0, request)
    vtable = prefix.vtable(4)
    prefix.align(4)
    prefix.point(request + 4)
    prefix.table(vtable, b"")
    return bytes(prefix.bytes)


_METADATA_REQUEST = _metadata_request()


# --- decoding ---------------------------------------------------------------------------------------------------------


def recall_request(buffer: memoryview | bytes) -> InferRequest | None:
    """What decode_request gives for a request whose layout it has seen before: microseconds at any size; else None."""
    view = buffer if type(buffer) is bytes else _as_bytes(buffer)
    known = _requests.find(view)
    if known is None:
        return None
    return InferRequest(known.rest, [np.ndarray(t.shape, t.dtype, view, t.start) for t in known.tensors])


def decode_request(
    buffer: memoryview | bytes | bytearray,
    memory: LayoutMemory[RequestHead] | None = None,
    *,
    strings_max: int = STRINGS_MAX,
    hold: Hold | None = None,
    elsewhere: Mapping[int, memoryview] | None = None,
) -> InferRequest | MetadataRequest:
    """The body of a request. The arrays borrow ``buffer`` and are writable if it is.

    ``memory`` (default: one for the process) may know the layout already; the result is the same. ``elsewhere`` has the
    bytes of tensors, by their place, that have none in the message; those arrays borrow them. A ``memory`` that is given
    with it must be for such messages alone.

    Raises MalformedMessage for anything that is not a whole, consistent request, Unsupported (501) for one of a kind
    that a later schema may have, TooLarge for one of more than ``strings_max`` strings, and
    what ``hold`` raises, which is told of an array, how many strings it is to have, and how many bytes they have: of
    many strings first the one, before they are made, then the other.
    """
    view = buffer if type(buffer) is bytes else _as_bytes(buffer)
    if memory is None:
        memory = _requests if elsewhere is None else _requests_elsewhere
    known = memory.find(view)
    if known is not None:
        if elsewhere is None:
            return InferRequest(known.rest, [np.ndarray(t.shape, t.dtype, view, t.start) for t in known.tensors])
        arrays = arrays_of(known.tensors, view, elsewhere)
        if arrays is not None:
            return InferRequest(known.rest, arrays)
    view = memoryview(view)
    reader = Reader(view, strings_max, hold)
    root = reader.root()
    try:
        kind_at, member, end = reader.table(root, 2)
    except MalformedMessage:
        _refuse_later_kind(reader.u8(reader.table(root, 1)[0]))
        raise
    kind = reader.u8(kind_at)
    _refuse_later_kind(kind)
    if not kind or not member:
        came = f"this one holds {'nothing' if kind else 'kind 0'}"
        raise MalformedMessage(f"a request holds an InferRequest (1) or a MetadataRequest (2); {came}")
    table = reader.target(member, end)
    if kind == _METADATA:
        reader.table(table, 0)
        return MetadataRequest()
    config_at, names_at, tensors_at, outputs_at, end = reader.table(table, 4)
    config = reader.text(config_at, end, "config")
    input_names = reader.names(names_at, end, ENTRIES_MAX, "input_names")
    output_names = reader.names(outputs_at, end, ENTRIES_MAX, "output_names")
    tensors = _read_tensors(reader, reader.tables(tensors_at, end, ENTRIES_MAX, "input_tensors"), elsewhere)
    head = RequestHead(
        config, input_names, output_names, tuple([t.type for t in tensors]), tuple([t.shape for t in tensors])
    )
    head.bools = tuple([i for i, t in enumerate(tensors) if t.is_bool])
    head.is_remembered = memory.keep(view, reader.structures, reader.claimed, head, tensors)
    return InferRequest(head, _arrays(tensors, reader, elsewhere))


def decode_infer_response(
    buffer: memoryview | bytes | bytearray,
    memory: LayoutMemory[None] | None = None,
    elsewhere: Mapping[int, memoryview] | None = None,
) -> InferResponse:
    """The body of an answer to an InferRequest. The arrays borrow ``buffer`` and are writable if it is.

    A malformed ``errors`` is ignored where there are outputs: some writers leave a stray vector there.
    ``memory`` and ``elsewhere`` are as in decode_request.

    Raises MalformedMessage for anything else that is not whole and consistent.
    """
    view = buffer if type(buffer) is bytes else _as_bytes(buffer)
    if memory is None:
        memory = _responses if elsewhere is None else _responses_elsewhere
    known = memory.find(view)
    if known is not None:
        if elsewhere is None:
            return InferResponse([np.ndarray(t.shape, t.dtype, view, t.start) for t in known.tensors])
        arrays = arrays_of(known.tensors, view, elsewhere)
        if arrays is not None:
            return InferResponse(arrays)
    view = memoryview(view)
    reader = Reader(view)
    root = reader.root()
    broken: MalformedMessage | None = None
    try:
        tensors_at, errors_at, end = reader.table(root, 2)
    except MalformedMessage as error:  # perhaps the field of errors alone
        (tensors_at, end), errors_at, broken = reader.table(root, 1), 0, error
    tensors = _read_tensors(reader, reader.tables(tensors_at, end, ENTRIES_MAX, "output_tensors"), elsewhere)
    if not errors_at and not broken:
        memory.keep(view, reader.structures, reader.claimed, None, tensors)
    # Before the errors: what they claim of the message's length is not taken from the outputs.
    outputs = _arrays(tensors, reader, elsewhere)
    errors = []
    if not broken:
        try:
            errors = [_read_error(reader, at) for at in reader.tables(errors_at, end, ENTRIES_MAX, "errors")]
        except MalformedMessage as error:
            broken = error
    if broken and not outputs:
        raise broken
    return InferResponse(outputs, errors)


def decode_metadata_response(buffer: memoryview | bytes | bytearray) -> MetadataResponse:
    """The body of an answer to a MetadataRequest.

    Raises MalformedMessage for anything that is not whole and consistent.
    """
    reader = Reader(_as_bytes(buffer))
    *texts, inputs, outputs, end = reader.table(reader.root(), 6)
    name, version, server, description = (
        reader.text(at, end, what) for at, what in zip(texts, ("name", "version", "server", "description"), strict=True)
    )
    return MetadataResponse(
        name,
        version,
        server,
        description,
        tuple([_read_io(reader, at) for at in reader.tables(inputs, end, ENTRIES_MAX, "inputs")]),
        tuple([_read_io(reader, at) for at in reader.tables(outputs, end, ENTRIES_MAX, "outputs")]),
    )


def _refuse_later_kind(kind: int) -> None:
    """Raise Unsupported for a request that is none of ours. What else is in it is not looked at: it may be anything."""
    if kind > _METADATA:
        raise Unsupported(
            f"there are requests of kind 1 (InferRequest) and 2 (MetadataRequest); this one is of {kind}", 501
        )


def _as_bytes(buffer: memoryview | bytes | bytearray) -> memoryview:
    view = memoryview(buffer)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _arrays(tensors: list[ReadTensor], reader: Reader, elsewhere: Mapping[int, memoryview] | None) -> list[Array]:
    """Tensors as arrays over the message's bytes, or over those that came beside it; strings as arrays of their own."""
    arrays = []
    for i, tensor in enumerate(tensors):
        if tensor.strings is not None:
            arrays.append(reader.strings(tensor.strings).reshape(tensor.shape))
        elif tensor.start == AWAY and elsewhere is not None:
            arrays.append(array_over(i, tensor, elsewhere[i]))
        else:
            arrays.append(np.ndarray(tensor.shape, tensor.dtype, reader.buffer, tensor.start))
    return arrays


def _read_tensors(reader: Reader, positions: list[int], elsewhere: Mapping[int, memoryview] | None) -> list[ReadTensor]:
    if elsewhere is None:
        return [_read_tensor(reader, at) for at in positions]
    check_places(len(positions), elsewhere)
    return [_read_tensor(reader, at, i in elsewhere) for i, at in enumerate(positions)]


def _read_tensor(reader: Reader, position: int, is_elsewhere: bool = False) -> ReadTensor:
    type_at, shape_at, data_at, strings_at, bool_at, end = reader.table(position, 5)
    number = reader.u8(type_at)
    is_bool = reader.u8(bool_at) != 0
    dtype = DTYPES[number] if number < len(DTYPES) else None
    if dtype is None:
        raise MalformedMessage(f"a tensor has type {number}, which has no elements; types are 1 (Uint8) to 12 (String)")
    kind = TYPES[number]
    if is_bool and kind is not Type.UINT8:
        raise MalformedMessage(f"a tensor of type {number} is marked as bool; only Uint8 (1) carries bool")
    # An element of a string tensor takes at least an offset.
    item_size = 4 if kind is Type.STRING else dtype.itemsize
    shape = reader.shape(shape_at, end)
    count = 1
    extent = item_size  # zeros count as ones here: [0, 2**62] holds nothing, but no array can have it
    for dim in shape:
        if dim < 0:
            raise MalformedMessage(f"a tensor has shape {list(shape)}; dimensions are 0 or more")
        count *= dim
        extent *= dim or 1
    if extent >= BYTES_MAX:
        raise MalformedMessage(f"a tensor of shape {list(shape)} and {item_size}-byte elements reaches 2 GiB")
    if kind is Type.STRING:
        if is_elsewhere:
            raise MalformedMessage("bytes of a string tensor came beside the message; strings travel in it")
        _, length = reader.data(data_at, end)
        if length:
            raise MalformedMessage(f"a string tensor has {length} bytes of data beside its strings")
        return ReadTensor(kind, dtype, shape, 0, 0, reader.string_place(strings_at, end, count), False)
    if strings_at and reader.tables(strings_at, end, ENTRIES_MAX, "string_val"):
        raise MalformedMessage(f"a tensor of type {number} has strings beside its data")
    start, length = reader.data(data_at, end)
    if is_elsewhere:
        if length:
            raise MalformedMessage(f"a tensor whose bytes came beside the message has {length} bytes in it too")
        return ReadTensor(kind, dtype, shape, AWAY, 0, None, is_bool)
    if length != count * item_size:
        raise MalformedMessage(
            f"a tensor of shape {list(shape)} and {item_size}-byte elements needs {count * item_size} bytes of data, "
            f"but {length} came"
        )
    return ReadTensor(kind, dtype, shape, start, length, None, is_bool)


def _read_error(reader: Reader, position: int) -> ErrorInfo:
    code, message, end = reader.table(position, 2)
    return ErrorInfo(reader.i64(code, end), reader.text(message, end, "an error's message"))


def _read_io(reader: Reader, position: int) -> IOMetadata:
    name, description, shape, type_at, end = reader.table(position, 4)
    number = reader.u8(type_at)
    known = number < len(TYPES)  # else one of a later schema
    dims = reader.shape(shape, end)
    if dims and min(dims) < -1:
        raise MalformedMessage(f"an input or output has shape {list(dims)}; dimensions are -1 (any) or more")
    return IOMetadata(
        reader.text(name, end, "a name"),
        reader.text(description, end, "a description"),
        dims,
        TYPES[number] if known else Type.NULL,
        0 if known else number,
    )


_requests: LayoutMemory[RequestHead] = LayoutMemory()
_responses: LayoutMemory[None] = LayoutMemory()
# Their messages are read in another way, so none of them may be taken for one of the others.
_requests_elsewhere: LayoutMemory[RequestHead] = LayoutMemory()
_responses_elsewhere: LayoutMemory[None] = LayoutMemory()
