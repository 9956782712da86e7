"""Protobuf's messages: what ours reads is what protobuf reads, remembered or not; what protobuf refuses ours refuses.

An input is a byte that says which message it is of, and the message.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from graphpipe.buffers import BufferPool
from graphpipe.errors import ServiceError
from graphpipe.server.protocols.open_inference.contents import arrays
from graphpipe.server.protocols.open_inference.messages import infer_response, read_infer_request
from graphpipe.server.protocols.protobuf import Reader
from graphpipe.server.protocols.recall import Recall
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.tensorflow_serving.messages import read_predict_request
from graphpipe.server.protocols.tensorflow_serving.tensors import read_tensor, tensor_message, values
from tests.protocols.official import has_unknown, message_class

__all__ = ["KINDS", "WORDS", "check", "seeds"]

KINDS = ("inference.ModelInferRequest", "tensorflow.serving.PredictRequest", "tensorflow.serving.TensorProto")
WORDS = (
    *(bytes((number << 3 | form,)) for number in range(1, 18) for form in (0, 1, 2, 5) if number < 16),
    b"\x1a\x02\x02\x02",
    b"\x12\x05INT32",
    b"\x12\x05BYTES",
    b"\x12\x04FP16",
    b"\x80\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
)
_STRINGS_MAX = 64
_FILLED_BYTES_MAX = 4096


def seeds() -> list[bytes]:
    """A message of each kind and element type, as protobuf writes it."""
    found = []
    infer = message_class(KINDS[0])
    request = infer(model_name="m", model_version="1", id="7", raw_input_contents=[bytes(8), b"\1\0\0\0a"])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).parameters["p"].int64_param = -1
    request.inputs.add(name="s", datatype="BYTES", shape=[1])
    request.outputs.add(name="y").parameters["q"].string_param = "r"
    request.parameters["config"].string_param = "c"
    request.parameters["d"].double_param = 1
    found.append(b"\0" + request.SerializeToString())
    for datatype, field, sample in (
        ("INT8", "int", [-1, 2]), ("INT64", "int64", [-1, 300]), ("UINT16", "uint", [1, 65535]), ("FP32", "fp32", [1, 2]),
        ("BOOL", "bool", [True, False]), ("UINT64", "uint64", [2**64 - 1, 0]), ("FP64", "fp64", [1, 2]),
        ("BYTES", "bytes", [b"", b"ab"]),
    ):  # fmt: skip
        typed = infer(model_name="m")
        tensor = typed.inputs.add(name="x", datatype=datatype, shape=[2])
        getattr(tensor.contents, f"{field}_contents").extend(sample)
        found.append(b"\0" + typed.SerializeToString())
    proto = message_class(KINDS[2])
    for dtype, field, listed in (
        (1, "float_val", [1.0]), (2, "double_val", [1.0]), (3, "int_val", [1, -2]), (7, "string_val", [b"", b"ab"]),
        (9, "int64_val", [1, -2]), (10, "bool_val", [True]), (19, "half_val", [15360]), (23, "uint64_val", [2**64 - 1]),
    ):  # fmt: skip
        one = proto(dtype=dtype, **{field: listed})
        one.tensor_shape.dim.add(size=2)
        found.append(b"\2" + one.SerializeToString())
    one = proto(dtype=1, tensor_content=bytes(8))
    one.tensor_shape.dim.add(size=2)
    found.append(b"\2" + one.SerializeToString())
    predict = message_class(KINDS[1])(inputs={"x": one}, output_filter=["y"])
    predict.model_spec.name, predict.model_spec.version.value, predict.model_spec.signature_name = "m", 1, "s"
    found.append(b"\1" + predict.SerializeToString())
    return found


def check(data: bytes) -> None:
    """Raise whatever else than a refusal the readers raise, and AssertionError where they contradict protobuf."""
    if not data:
        return
    kind, message = KINDS[data[0] % 3], data[1:]
    try:
        official: Any = message_class(kind).FromString(message)
    except Exception:  # protobuf's own
        official = None
    try:
        read, came = _READERS[kind](memoryview(message))
    except ServiceError as error:
        read, came = None, str(error)
    if official is None:
        assert read is None, f"read what protobuf refuses: {read!r}"
        return
    if read is None:
        # Whether sizes add up is not protobuf's to know; what is no message is.
        assert not came.startswith(("a field of the message", "the message ends")), came
        return
    if not has_unknown(official):
        _SAME[kind](read, official)
    for array in came:
        _written_again(array)
    if kind != KINDS[2] and message:
        _recalled(kind, message, read, came)


def _infer(message: memoryview) -> Any:
    request = read_infer_request(message)
    return request, arrays(request, _STRINGS_MAX)


def _predict(message: memoryview) -> Any:
    request = read_predict_request(message)
    return request, [_array(*parts) for parts in request.inputs.values()]


def _tensor(message: memoryview) -> Any:
    array = _array(message)
    return array, [array]


def _array(*parts: memoryview) -> Any:
    return values(read_tensor(parts, Reader(_STRINGS_MAX), "x"), "x", _FILLED_BYTES_MAX, Room(BufferPool(1 << 20)))


def _same_infer(read: Any, official: Any) -> None:
    assert (read.model_name, read.model_version, read.id) == (
        official.model_name,
        official.model_version,
        official.id,
    )
    assert set(read.parameters) <= set(official.parameters)
    assert [(t.name, t.datatype, list(t.shape)) for t in read.inputs] == [
        (t.name, t.datatype, list(t.shape)) for t in official.inputs
    ]
    assert [o.name for o in read.outputs] == [o.name for o in official.outputs]
    assert [bytes(raw) for raw in read.raw] == list(official.raw_input_contents)


def _same_predict(read: Any, official: Any) -> None:
    spec = official.model_spec
    version = spec.version.value if spec.HasField("version") else None
    assert (read.spec.name, read.spec.version, read.spec.label) == (spec.name, version, spec.version_label)
    assert set(read.inputs) == set(official.inputs)
    assert read.output_filter == list(official.output_filter)


def _same_tensor(read: Any, official: Any) -> None:
    assert list(read.shape) == [dim.size for dim in official.tensor_shape.dim]


_READERS = dict(zip(KINDS, (_infer, _predict, _tensor), strict=True))
_SAME = dict(zip(KINDS, (_same_infer, _same_predict, _same_tensor), strict=True))


def _recalled(kind: str, message: bytes, read: Any, came: list[Any]) -> None:
    """A message like one that is remembered is what it would be without: here one of which a byte differs."""
    recall: Recall[Any] = Recall()
    recall.keep(memoryview(message), _SAID[kind](read), came)
    number = crc32(message)
    changed = bytearray(message)
    changed[number % len(message)] ^= number >> 24 | 1
    for each in (message, bytes(changed)):
        known = recall.find(memoryview(each))
        if known is not None:
            fresh, arrays_of_it = _READERS[kind](memoryview(each))
            assert known[0] == _SAID[kind](fresh)
            assert [(a.dtype, a.shape, a.tobytes()) for a in known[1]] == [
                (a.dtype, a.shape, a.tobytes()) for a in arrays_of_it
            ]


def _infer_said(read: Any) -> Any:
    tensors = [(tensor.name, tensor.datatype, tensor.shape, str(tensor.parameters)) for tensor in read.inputs]
    outputs = [(output.name, str(output.parameters)) for output in read.outputs]
    return read.model_name, read.model_version, read.id, str(read.parameters), tensors, outputs


def _predict_said(read: Any) -> Any:
    return read.spec, list(read.inputs), read.output_filter


_SAID = {KINDS[0]: _infer_said, KINDS[1]: _predict_said}


def _written_again(array: Any) -> None:
    """An array that was read is written by our own writers, and protobuf reads it."""
    proto = message_class(KINDS[2]).FromString(b"".join(tensor_message(array, "x").segments()))
    answer = message_class("inference.ModelInferResponse").FromString(
        b"".join(infer_response("m", "1", "", [("x", array)]))
    )
    assert [dim.size for dim in proto.tensor_shape.dim] == list(answer.outputs[0].shape) == list(array.shape)
    if array.dtype == object:
        assert list(proto.string_val) == array.ravel().tolist()
    else:
        assert proto.tensor_content == answer.raw_output_contents[0] == np.ascontiguousarray(array).tobytes()
