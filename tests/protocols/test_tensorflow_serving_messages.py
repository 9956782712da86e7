"""TensorFlow Serving's messages: ours reads what protobuf writes, and the other way round."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.buffers import BufferPool
from graphpipe.errors import InvalidRequest, ServiceError, TooLarge
from graphpipe.server.protocols.protobuf import Reader
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.tensorflow_serving.messages import (
    AVAILABLE,
    metadata_response,
    predict_response,
    read_metadata_question,
    read_predict_request,
    read_status_question,
    status_response,
)
from graphpipe.server.protocols.tensorflow_serving.tensors import read_tensor, tensor_message, values
from graphpipe.signature import TensorSpec
from tests.protocols.drawn import damaged, texts
from tests.protocols.official import has_unknown, message_class
from tests.wire.strategies import memory_layouts

FILLED_MAX = 10_000
_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
_LISTS = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 7: "string_val",
    9: "int64_val", 10: "bool_val", 17: "int_val", 19: "half_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
_ALL_LISTS = [*dict.fromkeys(_LISTS.values()), "scomplex_val", "dcomplex_val"]
STRICTER = ("is a group", "at most", "more than", "came twice", "are not filled in")


def ours(message: bytes) -> np.ndarray[Any, Any]:
    read = read_tensor([memoryview(message)], Reader(2000), "input 'x'")
    return values(read, "input 'x'", FILLED_MAX, Room(BufferPool(1 << 20)))


def official(name: str, message: bytes) -> Any:
    try:
        return message_class(f"tensorflow.serving.{name}").FromString(message)
    except Exception:  # upb raises a class of its own
        return None


def expected(proto: Any) -> np.ndarray[Any, Any] | None:
    """The array that a TensorProto is; None where it is none."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.dtype not in _LISTS or proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        return None
    number, name = math.prod(shape), _LISTS[proto.dtype]
    listed = list(getattr(proto, name))
    if any(len(getattr(proto, other)) for other in _ALL_LISTS if other != name):
        return None
    if proto.tensor_content:
        if proto.dtype == 7 or listed or len(proto.tensor_content) != number * np.dtype(_DTYPES[proto.dtype]).itemsize:
            return None
        if proto.dtype == 10:
            return (np.frombuffer(proto.tensor_content, np.uint8) != 0).reshape(shape)
        return np.frombuffer(proto.tensor_content, _DTYPES[proto.dtype]).reshape(shape)
    if len(listed) > number or number > 100 * FILLED_MAX:
        return None
    if proto.dtype == 7:
        array = np.empty(number, object)
        array[:] = listed + [listed[-1] if listed else b""] * (number - len(listed))
        return array.reshape(shape)
    dtype = np.dtype("u2" if proto.dtype == 19 else _DTYPES[proto.dtype])
    if dtype.kind in "iu" and listed and not np.iinfo(dtype).min <= min(listed) <= max(listed) <= np.iinfo(dtype).max:
        return None
    listed += [listed[-1] if listed else 0] * (number - len(listed))
    return np.array(listed, dtype).view(_DTYPES[proto.dtype]).reshape(shape)


def hold_against_official(message: bytes) -> None:
    proto = official("TensorProto", message)
    wanted = None if proto is None else expected(proto)
    try:
        array = ours(message)
    except ServiceError as error:
        assert wanted is None or any(words in error.message for words in STRICTER), error.message
        return
    assert wanted is not None, f"{array!r} of what is no tensor"
    assert array.dtype.kind == wanted.dtype.kind
    assert array.shape == wanted.shape
    if array.dtype.kind == "O":
        assert array.ravel().tolist() == wanted.ravel().tolist()
    else:
        assert array.tobytes() == wanted.tobytes()


_VALUES = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "int_val": st.integers(-(2**31), 2**31 - 1) | st.integers(0, 127),
    "string_val": st.binary(max_size=9),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "half_val": st.integers(0, 2**16 - 1),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
    "scomplex_val": st.floats(width=32),
}


@st.composite
def protos(draw: st.DrawFn) -> Any:
    """A TensorProto: mostly one that makes sense."""
    dtype = draw(st.sampled_from([*_LISTS])) if draw(st.booleans()) else draw(st.integers(-1, 31))
    proto = message_class("tensorflow.serving.TensorProto")(dtype=dtype)
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    for size in shape:
        proto.tensor_shape.dim.add(size=size, name=draw(texts).encode())
    number = math.prod(shape)
    if dtype in _DTYPES and draw(st.booleans()):
        size = number * np.dtype(_DTYPES[dtype]).itemsize + draw(st.sampled_from([0, 0, 0, 1]))
        proto.tensor_content = draw(st.binary(min_size=size, max_size=size))
    else:
        name = _LISTS.get(dtype, "scomplex_val")
        getattr(proto, name).extend(draw(st.lists(_VALUES[name], max_size=max(number, 1))))
    return proto


@given(protos())
@settings(max_examples=300)
def test_tensors_that_protobuf_writes_are_read(proto):
    hold_against_official(proto.SerializeToString())


@given(damaged(protos().map(lambda proto: proto.SerializeToString())))
@settings(max_examples=600)
def test_damaged_tensors_are_read_as_protobuf_reads_them(message):
    hold_against_official(message)


@given(memory_layouts())
def test_protobuf_reads_a_tensor_of_ours(layout):
    array, tensor = layout
    proto = official("TensorProto", b"".join(tensor_message(array, "x").segments()))
    assert [dim.size for dim in proto.tensor_shape.dim] == list(array.shape)
    assert np.dtype(_DTYPES[proto.dtype]) == array.dtype.newbyteorder("<")
    assert proto.tensor_content == tensor.data
    assert ours(proto.SerializeToString()).tobytes() == tensor.data


def test_strings_travel_in_a_list():
    strings = np.array([[b"", b"a\0\xff"], ["Zoë".encode(), b"x" * 5000]], object)
    message = b"".join(tensor_message(strings, "x").segments())
    assert list(official("TensorProto", message).string_val) == strings.ravel().tolist()
    assert ours(message).tolist() == strings.tolist()


def test_a_large_tensor_is_neither_copied_in_nor_out():
    array = np.arange(1_000_000, dtype="<f4")
    segments = predict_response([("y", array)], "m", 1, "")
    large = [np.frombuffer(segment, np.uint8) for segment in segments if len(segment) > 9999]
    assert [np.shares_memory(segment, array) for segment in large] == [True]
    message = memoryview(b"".join(tensor_message(array, "x").segments()))
    tracemalloc.start()
    try:
        read = values(read_tensor([message], Reader(2000), "x"), "x", FILLED_MAX, Room(BufferPool(1 << 20)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.shares_memory(read, np.frombuffer(message, np.uint8))
    assert peak < 20_000


@pytest.mark.parametrize("dtype", sorted(_DTYPES))
def test_a_last_value_stands_for_those_that_are_missing(dtype):
    proto = message_class("tensorflow.serving.TensorProto")(dtype=dtype)
    proto.tensor_shape.dim.add(size=5)
    getattr(proto, _LISTS[dtype]).extend([0, 1])
    hold_against_official(proto.SerializeToString())


@pytest.mark.parametrize(
    ("fields", "shape", "words"),
    [
        ({"dtype": 1, "float_val": [1.0]}, [10_000_000], "so many are not filled in"),
        ({"dtype": 1, "float_val": [1.0]}, [2**62, 2**62], "so many are not filled in"),
        ({"dtype": 1, "float_val": [1.0, 2.0]}, [1], "1 elements; 2 came"),
        ({"dtype": 1, "float_val": [1.0]}, [-1], "none is negative"),
        ({"dtype": 1}, [0, 2**62, 2**62], "more than a tensor can have"),
        ({"dtype": 1, "tensor_content": b"12345"}, [1], "has 4 bytes; 5 came"),
        ({"dtype": 1, "tensor_content": b"1234", "float_val": [1.0]}, [1], "one of both"),
        ({"dtype": 1, "double_val": [1.0]}, [1], "the list of another type"),
        ({"dtype": 7, "tensor_content": b"1234"}, [1], "send string_val"),
        ({"dtype": 6, "int_val": [128]}, [1], "cannot hold 128"),
        ({"dtype": 0}, [1], "does not say its dtype"),
        ({"dtype": 8, "scomplex_val": [1, 0]}, [1], "complex64"),
        ({"dtype": 11, "int_val": [1]}, [1], "qint8"),
        ({"dtype": 14, "half_val": [1]}, [1], "bfloat16.*float32"),
        ({"dtype": 99}, [1], "dtype 99"),
        ({"dtype": 101, "float_val": [1]}, [1], "dtype 101"),
    ],
)
def test_what_is_no_tensor_is_refused_in_words(fields, shape, words):
    proto = message_class("tensorflow.serving.TensorProto")(**fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises((InvalidRequest, TooLarge), match=words):
        ours(proto.SerializeToString())


def test_a_shape_of_unknown_rank_is_refused():
    proto = message_class("tensorflow.serving.TensorProto")(dtype=1, float_val=[1])
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(InvalidRequest, match="unknown rank"):
        ours(proto.SerializeToString())


@st.composite
def specs(draw: st.DrawFn) -> Any:
    """A ModelSpec."""
    spec = message_class("tensorflow.serving.ModelSpec")(name=draw(texts), signature_name=draw(texts))
    which = draw(st.sampled_from(["", "version", "label"]))
    if which == "version":
        spec.version.value = draw(st.integers(0, 2**63 - 1))
    elif which == "label":
        spec.version_label = draw(texts)
    return spec


def _spec_said(spec: Any) -> Any:
    if hasattr(spec, "WhichOneof"):
        version = spec.version.value if spec.HasField("version") else None
        return spec.name, version, spec.version_label, spec.signature_name
    return spec.name, spec.version, spec.label, spec.signature_name


def predict_requests() -> st.SearchStrategy[Any]:
    return st.builds(
        lambda spec, inputs, outputs: message_class("tensorflow.serving.PredictRequest")(
            model_spec=spec, inputs=inputs, output_filter=outputs
        ),
        specs(),
        st.dictionaries(texts, protos(), max_size=2),
        st.lists(texts, max_size=2),
    )


def hold_request(message: bytes) -> None:
    request = official("PredictRequest", message)
    try:
        read = read_predict_request(memoryview(message))
    except ServiceError as error:
        assert request is None or any(words in error.message for words in STRICTER), error.message
        return
    if request is None:  # what is wrong is in a tensor
        with pytest.raises(ServiceError):
            for parts in read.inputs.values():
                read_tensor(parts, Reader(2000), "x")
        return
    assert _spec_said(read.spec) == _spec_said(request.model_spec)
    assert read.output_filter == list(request.output_filter)
    if has_unknown(request):
        return
    assert set(read.inputs) == set(request.inputs)
    for name, parts in read.inputs.items():
        hold_against_official(b"".join(parts))
        assert official("TensorProto", b"".join(parts)) == request.inputs[name]


@given(predict_requests())
def test_requests_that_protobuf_writes_are_read(request):
    hold_request(request.SerializeToString())


@given(damaged(predict_requests().map(lambda request: request.SerializeToString())))
@settings(max_examples=400)
def test_damaged_requests_are_read_as_protobuf_reads_them(message):
    hold_request(message)


@given(texts, st.integers(0, 2**63 - 1) | st.none(), texts, st.dictionaries(texts, memory_layouts(), max_size=3))
def test_protobuf_reads_an_answer_of_ours(name, version, signature, outputs):
    written = predict_response([(n, array) for n, (array, _) in outputs.items()], name, version, signature)
    answer = official("PredictResponse", b"".join(written))
    assert _spec_said(answer.model_spec) == (name, version, "", signature)
    assert {n: proto.tensor_content for n, proto in answer.outputs.items()} == {
        n: tensor.data for n, (_, tensor) in outputs.items()
    }


@given(specs(), st.lists(texts, max_size=2))
def test_questions_are_read(spec, fields):
    question = message_class("tensorflow.serving.GetModelMetadataRequest")(model_spec=spec, metadata_field=fields)
    read = read_metadata_question(memoryview(question.SerializeToString()))
    assert (_spec_said(read.spec), read.fields) == (_spec_said(spec), fields)
    status = message_class("tensorflow.serving.GetModelStatusRequest")(model_spec=spec)
    assert _spec_said(read_status_question(memoryview(status.SerializeToString()))) == _spec_said(spec)


def test_protobuf_reads_what_a_model_takes_and_gives():
    inputs = [TensorSpec("x", np.dtype("f4"), ("n", 3)), TensorSpec("s:0", np.dtype(object), None)]
    outputs = [TensorSpec("y", None, ())]
    written = metadata_response("m", 2, {"serving_default": (inputs, outputs, "tensorflow/serving/predict")})
    answer = official("GetModelMetadataResponse", b"".join(written))
    assert _spec_said(answer.model_spec) == ("m", 2, "", "")
    packed = answer.metadata["signature_def"]
    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    assert packed.Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    x, s, y = signature.inputs["x"], signature.inputs["s:0"], signature.outputs["y"]
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x:0", 1, [-1, 3])
    assert (s.name, s.dtype, s.tensor_shape.unknown_rank) == ("s:0", 7, True)
    assert (y.name, y.dtype, y.tensor_shape.unknown_rank) == ("y:0", 0, False)


def test_protobuf_reads_which_versions_there_are():
    answer = official("GetModelStatusResponse", b"".join(status_response([(1, AVAILABLE), (12, AVAILABLE)])))
    assert [(v.version, v.state, v.status.error_code) for v in answer.model_version_status] == [(1, 30, 0), (12, 30, 0)]
