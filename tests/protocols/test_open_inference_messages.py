"""Ours reads what protobuf writes, protobuf reads what ours writes, and what protobuf refuses ours refuses too."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphpipe.errors import InvalidRequest, MalformedMessage, ServiceError, TooLarge
from graphpipe.server.protocols.open_inference.contents import arrays
from graphpipe.server.protocols.open_inference.messages import (
    infer_response,
    metadata_response,
    model_metadata_response,
    read_infer_request,
    read_name,
    repository_index,
    truth,
)
from tests.protocols.drawn import damaged, infer_requests, texts
from tests.protocols.official import has_unknown, message_class
from tests.wire.strategies import memory_layouts

STRINGS_MAX = 1000
_DTYPES = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
# What ours refuses of what protobuf takes, by words of the refusal.
STRICTER = ("is a group", "at most", "more than")


def official(name: str, message: bytes) -> Any:
    try:
        return message_class(f"inference.{name}").FromString(message)
    except Exception:  # upb raises a class of its own
        return None


def ours(message: bytes) -> Any:
    request = read_infer_request(memoryview(message))
    return request, arrays(request, STRINGS_MAX)


def said(request: Any, maps: bool) -> Any:
    """All that a request says beside its tensors' contents, in plain values; also what is in ``maps``."""
    plain = (
        (request.model_name, request.model_version, request.id),
        [(t.name, t.datatype, list(t.shape)) for t in request.inputs],
        [o.name for o in request.outputs],
    )
    holders = (request, *request.inputs, *request.outputs) if maps else ()
    return plain, [_parameters(holder.parameters) for holder in holders]


def _parameters(parameters: Any) -> dict[str, Any]:
    plain = {}
    for name, value in parameters.items():
        if hasattr(value, "WhichOneof"):
            kind = value.WhichOneof("parameter_choice")
            if kind is None:
                continue
            value = getattr(value, kind)
        plain[name] = (type(value), repr(value))
    return plain


def expected_array(request: Any, place: int) -> np.ndarray[Any, Any] | None:
    """The array that an input is; None where it is none."""
    tensor = request.inputs[place]
    number = math.prod(tensor.shape)
    if any(dim < 0 for dim in tensor.shape):
        return None
    if request.raw_input_contents:
        if len(request.raw_input_contents) != len(request.inputs) or tensor.contents.ByteSize():
            return None
        raw = request.raw_input_contents[place]
        if tensor.datatype == "BYTES":
            return _strings(raw, tensor.shape)
        if tensor.datatype not in _DTYPES or len(raw) != number * np.dtype(_DTYPES[tensor.datatype]).itemsize:
            return None
        dtype = np.dtype(_DTYPES[tensor.datatype])
        if dtype.kind == "b":
            return (np.frombuffer(raw, np.uint8) != 0).reshape(tensor.shape)
        return np.frombuffer(raw, dtype).reshape(tensor.shape)
    fields = tensor.contents.ListFields()
    field = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}
    wanted = field.get(tensor.datatype, "int" if tensor.datatype.startswith("INT") else "uint") + "_contents"
    if tensor.datatype not in (*_DTYPES, "BYTES") or tensor.datatype == "FP16":
        return None
    if any(descriptor.name != wanted for descriptor, _ in fields):
        return None
    values = list(getattr(tensor.contents, wanted))
    if len(values) != number:
        return None
    if tensor.datatype == "BYTES":
        array = np.empty(number, object)
        array[:] = values
        return array.reshape(tensor.shape)
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if dtype.kind in "iu" and values and not np.iinfo(dtype).min <= min(values) <= max(values) <= np.iinfo(dtype).max:
        return None
    return np.array(values, dtype).reshape(tensor.shape)


def _strings(raw: bytes, shape: Any) -> np.ndarray[Any, Any] | None:
    items, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        if at + 4 + size > len(raw):
            return None
        items.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    if len(items) != math.prod(shape):
        return None
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    if one.dtype.kind == "O" or other.dtype.kind == "O":
        return one.shape == other.shape and one.ravel().tolist() == other.ravel().tolist()
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def hold_against_official(message: bytes) -> None:
    request = official("ModelInferRequest", message)
    try:
        read = read_infer_request(memoryview(message))
    except ServiceError as error:
        assert request is None or any(words in error.message for words in STRICTER), error.message
        return
    wanted = None if request is None else [expected_array(request, place) for place in range(len(request.inputs))]
    if request is not None:
        maps = not has_unknown(request)
        assert said(read, maps) == said(request, maps)
        if request.raw_input_contents and not request.inputs:
            wanted = [None]
    try:
        came = arrays(read, STRINGS_MAX)
    except ServiceError as error:
        assert wanted is None or None in [*map(_known, wanted)] or any(w in error.message for w in STRICTER), error
        return
    assert wanted is not None, "read what protobuf refuses"
    assert len(came) == len(wanted)
    for array, expected in zip(came, wanted, strict=True):
        assert expected is not None, f"{array!r} of what is no tensor"
        assert same(array, expected)


def _known(array: Any) -> bool | None:
    return None if array is None else True


@given(infer_requests())
def test_what_protobuf_writes_is_read(request):
    hold_against_official(request.SerializeToString())


@given(damaged(infer_requests().map(lambda request: request.SerializeToString())))
@settings(max_examples=600)
@example(b"\x2a\x0a\x12\x05INT32\x1a\x01\x01" + b"\x2a\x00")
def test_damaged_messages_are_read_as_protobuf_reads_them(message):
    hold_against_official(message)


@given(st.binary(max_size=60))
@example(b"\x0b\x0c")  # a group
@example(b"\x00\x01")
@example(b"\x98\x80\x80\x80\x00\x01")  # a key in five bytes
@example(b"\x98\x80\x80\x80\x80\x00\x01")
@example(b"\x2a\x80\x80\x80\x80\x10")
def test_any_bytes_are_read_as_protobuf_reads_them(message):
    hold_against_official(message)


def split(field: bytes, packed: bytes, sizes: list[int]) -> bytes:
    """A packed field in several."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(packed[at : at + size])
        at += size
    pieces.append(packed[at:])
    return b"".join(field + bytes((len(piece),)) + piece for piece in pieces)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=8), st.lists(st.integers(0, 8), max_size=3))
def test_numbers_that_came_in_several_fields_are_one_tensor(values, sizes):
    contents = split(b"\x32", np.array(values, "<f4").tobytes(), [4 * size for size in sizes])
    contents += b"".join(b"\x35" + np.float32(value).tobytes() for value in values)  # and again, each alone
    tensor = b"\x0a\x01x\x12\x04FP32\x18" + bytes((2 * len(values),)) + _field(b"\x2a", contents)
    message = _field(b"\x2a", tensor)
    hold_against_official(message)
    _, [array] = ours(message)
    assert array.tolist() == [*values, *values]


def _field(key: bytes, value: bytes) -> bytes:
    size, octets = len(value), b""
    while size > 127:
        octets += bytes((size & 127 | 128,))
        size >>= 7
    return key + octets + bytes((size,)) + value


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9), st.integers(1, 9))
def test_a_message_that_came_in_two_parts_is_both(values, cut):
    wide = message_class("inference.InferTensorContents")
    first, second = wide(int64_contents=values[:cut]), wide(int64_contents=values[cut:])
    tensor = b"\x12\x05INT64\x18" + bytes((len(values),))
    tensor += _field(b"\x2a", first.SerializeToString()) + _field(b"\x2a", second.SerializeToString())
    message = _field(b"\x2a", tensor)
    hold_against_official(message)
    assert ours(message)[1][0].tolist() == values


@pytest.mark.parametrize("datatype", ["INT8", "INT32", "INT64", "UINT16", "UINT64", "BOOL"])
def test_many_numbers_are_unpacked_as_protobuf_packed_them(datatype):
    rng = np.random.default_rng(7)
    dtype = np.dtype(_DTYPES[datatype])
    octets = rng.integers(0, 256, 100_000 * dtype.itemsize, np.uint8)
    values = octets.view(dtype) if dtype.kind != "b" else octets > 127
    values[::3] = values[::3] % 100  # short and long ones next to each other
    request = message_class("inference.ModelInferRequest")()
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[100, 1000])
    kind = {"INT64": "int64", "UINT64": "uint64", "BOOL": "bool"}.get(datatype, "int" if dtype.kind == "i" else "uint")
    getattr(tensor.contents, f"{kind}_contents").extend(values.tolist())
    _, [array] = ours(request.SerializeToString())
    assert array.dtype == dtype
    assert np.array_equal(array, values.reshape(100, 1000))


@pytest.mark.parametrize("typed", [False, True])
def test_a_large_message_is_read_without_a_copy(typed):
    values = np.arange(77_000_000 // 4, dtype="<f4")
    head = b"\x0a\x01m" + _field(b"\x2a", b"\x0a\x01x\x12\x04FP32\x1a\x04" + _varint(values.size))
    if typed:
        contents = _field(b"\x32", values.tobytes())
        message = _field(b"\x2a", b"\x0a\x01x\x12\x04FP32\x1a\x04" + _varint(values.size) + _field(b"\x2a", contents))
    else:
        message = head + _field(b"\x3a", values.tobytes())
    tracemalloc.start()
    try:
        _, [array] = ours(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.shares_memory(array, np.frombuffer(message, np.uint8))
    assert not array.flags.writeable
    assert peak < 100_000
    assert np.array_equal(array, values)


def _varint(value: int) -> bytes:
    return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21))


def test_a_large_answer_is_the_array_itself():
    array = np.arange(1_000_000, dtype="<f4")
    segments = infer_response("m", "1", "", [("y", array), ("z", array[:2])])
    assert any(np.shares_memory(np.frombuffer(segment, np.uint8), array) for segment in segments if len(segment) > 9999)
    answer = message_class("inference.ModelInferResponse").FromString(b"".join(segments))
    assert [len(raw) for raw in answer.raw_output_contents] == [4_000_000, 8]


@given(texts, texts, texts, st.lists(st.tuples(texts, memory_layouts()), max_size=3))
def test_protobuf_reads_an_answer_of_ours(model, version, request_id, outputs):
    written = infer_response(model, version, request_id, [(name, array) for name, (array, _) in outputs])
    answer = message_class("inference.ModelInferResponse").FromString(b"".join(written))
    assert (answer.model_name, answer.model_version, answer.id) == (model, version, request_id)
    assert [output.name for output in answer.outputs] == [name for name, _ in outputs]
    for output, raw, (_, (array, tensor)) in zip(answer.outputs, answer.raw_output_contents, outputs, strict=True):
        assert list(output.shape) == list(array.shape)
        assert np.dtype(_DTYPES[output.datatype]) == array.dtype.newbyteorder("<")
        assert raw == tensor.data


def test_strings_travel_raw_both_ways():
    strings = np.array([[b"", b"a\0\xff"], ["Zoë".encode(), b"x" * 5000]], object)
    written = infer_response("m", "1", "", [("y", strings)])
    answer = message_class("inference.ModelInferResponse").FromString(b"".join(written))
    request = message_class("inference.ModelInferRequest")(raw_input_contents=answer.raw_output_contents)
    request.inputs.add(name="x", datatype="BYTES", shape=answer.outputs[0].shape)
    _, [array] = ours(request.SerializeToString())
    assert array.tolist() == strings.tolist()


@given(texts, texts, st.lists(texts, max_size=3))
def test_protobuf_reads_what_the_server_says_of_itself(name, version, extensions):
    answer = message_class("inference.ServerMetadataResponse").FromString(
        b"".join(metadata_response(name, version, extensions))
    )
    assert (answer.name, answer.version, list(answer.extensions)) == (name, version, extensions)


@given(texts, texts, texts)
def test_protobuf_reads_what_the_server_says_of_a_model(name, version, platform):
    x = {"name": "x", "datatype": "FP32", "shape": [-1, 2**40]}
    scalar = {"name": "", "datatype": "BYTES", "shape": []}
    said = {"name": name, "versions": [version, "2"], "platform": platform, "inputs": [x, scalar], "outputs": [x]}
    answer = message_class("inference.ModelMetadataResponse").FromString(b"".join(model_metadata_response(said)))
    assert (answer.name, list(answer.versions), answer.platform) == (name, [version, "2"], platform)
    described = [
        [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in side]
        for side in (answer.inputs, answer.outputs)
    ]
    assert described == [[x, scalar], [x]]


def test_small_questions_and_answers_are_protobufs():
    for name, field in (
        ("ServerLiveResponse", "live"),
        ("ServerReadyResponse", "ready"),
        ("ModelReadyResponse", "ready"),
    ):
        for value in (True, False):
            assert getattr(message_class(f"inference.{name}").FromString(b"".join(truth(value))), field) is value
    for name in ("ModelReadyRequest", "ModelMetadataRequest"):
        message = message_class(f"inference.{name}")(name="Zoë", version="3").SerializeToString()
        assert read_name(memoryview(message)) == ("Zoë", "3")
    models = [{"name": name, "version": "1", "state": "READY", "reason": ""} for name in ("a", "b")]
    index = message_class("inference.RepositoryIndexResponse").FromString(b"".join(repository_index(models)))
    assert [(m.name, m.version, m.state) for m in index.models] == [("a", "1", "READY"), ("b", "1", "READY")]


def test_packed_numbers_that_end_within_one_are_refused_though_the_next_field_goes_on_with_it():
    for contents in (b"\x1a\x01\x80\x1a\x01\x01", b"\x32\x03abc\x32\x01d"):
        tensor = b"\x12\x05INT64\x18\x01" if contents[0] == 0x1A else b"\x12\x04FP32\x18\x01"
        message = _field(b"\x2a", tensor + _field(b"\x2a", contents))
        hold_against_official(message)
        with pytest.raises(MalformedMessage):
            ours(message)


def test_parts_of_a_message_are_whole_each():
    parts = _field(b"\x2a", b"\x12\x04FP32\x18\x01" + _field(b"\x2a", b"\x32\x04ab") + _field(b"\x2a", b"cd"))
    hold_against_official(parts)
    with pytest.raises(MalformedMessage):
        ours(parts)


def tensor_request(datatype: str, shape: list[int], raw: list[bytes] | None = None, **contents: Any) -> bytes:
    request = message_class("inference.ModelInferRequest")(raw_input_contents=raw or [])
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (tensor_request("FP32", [2], [b"1234567"]), "has 8 bytes; 7 came"),
        (tensor_request("FP32", [2], [b"12345678"] * 2), "1 input came, but 2 raw_input_contents"),
        (tensor_request("FP32", [1], [b"1234"], fp32_contents=[1]), "one of both"),
        (tensor_request("FP32", [2], fp32_contents=[1]), "has 2 elements; 1 came in fp32_contents"),
        (tensor_request("FP32", [1], fp64_contents=[1]), "comes in fp32_contents; fp64_contents came"),
        (tensor_request("INT8", [1], int_contents=[128]), "int8, which cannot hold 128"),
        (tensor_request("UINT16", [2], uint_contents=[1, 70000]), "uint16, which cannot hold 70000"),
        (tensor_request("FP16", [1], fp32_contents=[1]), "send raw_input_contents"),
        (tensor_request("BF16", [1], [b"12"]), "send it as FP32"),
        (tensor_request("FLOAT", [1], [b"1234"]), "'FLOAT'"),
        (tensor_request("FP32", [-1], [b"1234"]), "none is negative"),
        (tensor_request("FP32", [2**62, 2**62], [b"1234"]), "4 came"),
        (tensor_request("FP32", [2**62, 2**62, 0], [b""]), "more than a tensor can have"),
        (tensor_request("BYTES", [1], [b"\x09\0\0\0a"]), "claims 9 bytes"),
        (tensor_request("BYTES", [2], bytes_contents=[b"a"]), "2 elements; 1 came"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused_in_words(message, words):
    with pytest.raises(InvalidRequest, match=words):
        ours(message)


def test_more_strings_than_are_taken_are_refused_before_they_are_read():
    message = tensor_request("BYTES", [STRINGS_MAX + 1], bytes_contents=[b""] * (STRINGS_MAX + 1))
    with pytest.raises(TooLarge, match="--strings-max"):
        ours(message)


def test_numbers_that_come_alone_are_counted_as_strings_are():
    contents = b"\x10\x05" * (STRINGS_MAX + 3)
    tensor = b"\x12\x05INT32\x1a\x02" + bytes((0xEB, 0x07)) + _field(b"\x2a", contents)
    with pytest.raises(TooLarge, match="fields"):
        ours(_field(b"\x2a", tensor))


def test_a_message_of_a_million_fields_is_refused_soon():
    message = memoryview(b"\x78\x01" * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="fields"):
            read_infer_request(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


def test_text_that_is_no_text_is_refused():
    with pytest.raises(MalformedMessage, match="UTF-8"):
        read_infer_request(memoryview(b"\x0a\x01\xff"))
    with pytest.raises(MalformedMessage, match="at most"):
        read_infer_request(memoryview(_field(b"\x0a", b"a" * 70_000)))
