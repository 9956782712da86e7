"""What the programs of 2018 wrote is read as they meant it: built here in their manner, and as captured from them."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpipe.wire import (
    InferRequest,
    InferResponse,
    MetadataRequest,
    Type,
    decode_infer_response,
    decode_metadata_response,
    decode_request,
)
from graphpipe.wire.memory import LayoutMemory
from tests.generated import graphpipe_generated as fbs
from tests.wire import official
from tests.wire.official import ORIGINAL_GO, ORIGINAL_PYTHON, Tensor
from tests.wire.strategies import NUMERIC, tensor_of

FLOATS = Tensor(Type.FLOAT32, (2, 3), np.arange(6, dtype="<f4").tobytes())
BYTES = Tensor(Type.UINT8, (7,), bytes(range(7)))
STRINGS = Tensor(Type.STRING, (2, 2), [b"abcd", b"", b"a\0b", b"\xff\xfe"])
MANNERS = pytest.mark.parametrize("manner", [ORIGINAL_PYTHON, ORIGINAL_GO], ids=["python", "go"])


def request(message: bytes | bytearray) -> InferRequest:
    decoded = decode_request(message)
    assert isinstance(decoded, InferRequest)
    return decoded


def vector_at(message: bytes, vector: bytes) -> int:
    """Where the elements of a vector stand that occurs once in the message."""
    at = message.find(vector)
    assert at > 0
    assert message.count(vector) == 1
    return at


@MANNERS
@pytest.mark.parametrize(("kind", "dtype"), NUMERIC)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3)])
def test_every_numeric_type_is_read(manner, kind, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    message = official.write_request([tensor_of(array)], manner=manner)
    (read,) = request(message).inputs
    assert (read.dtype, read.shape) == (dtype, shape)
    np.testing.assert_array_equal(read, array)


@MANNERS
def test_data_aligned_to_four_bytes_only_is_read(manner):
    doubles = Tensor(Type.FLOAT64, (2,), np.array([1.5, 2.5]).tobytes())
    remainders = set()
    for length in range(9):
        after = Tensor(Type.UINT8, (length,), bytes(length))
        message = official.write_request([doubles, after], manner=manner)
        remainders.add(vector_at(message, doubles.data) % 8)
        assert request(message).inputs[0].tolist() == [1.5, 2.5]
    assert 4 in remainders


def test_a_shape_at_four_modulo_eight_is_read():
    remainders = set()
    for length in range(9):
        after = Tensor(Type.UINT8, (length,), bytes(length))
        message = official.write_request([FLOATS, after], manner=ORIGINAL_GO)
        remainders.add(vector_at(message, struct.pack("<2q", 2, 3)) % 8)
        assert tensor_of(request(message).inputs[0]) == FLOATS
    assert 4 in remainders


def test_strings_without_a_trailing_nul_are_read():
    message = official.write_request([STRINGS], ["in"], ["out"], "config", ORIGINAL_GO)
    assert b"abcd\0" not in message.replace(b"abcd\0\0\0\0", b"")  # the next word follows at once
    read = request(message)
    assert read.inputs[0].tolist() == [[b"abcd", b""], [b"a\0b", b"\xff\xfe"]]
    assert (read.head.input_names, read.head.output_names, read.head.config) == (("in",), ("out",), "config")


@MANNERS
def test_several_tensors_of_different_types_keep_their_order(manner):
    read = request(official.write_request([BYTES, STRINGS, FLOATS], ["a", "b", "c"], manner=manner))
    assert [tensor_of(array) for array in read.inputs] == [BYTES, STRINGS, FLOATS]
    assert read.head.input_names == ("a", "b", "c")


def test_the_original_batchers_two_names_for_each_tensor_are_read():
    read = request(official.write_request([FLOATS, BYTES], ["a", "b", "a", "b"], manner=ORIGINAL_GO))
    assert read.head.input_names == ("a", "b", "a", "b")
    assert len(read.inputs) == 2


@MANNERS
def test_answers_and_their_errors_are_read(manner):
    response = decode_infer_response(official.write_infer_response([FLOATS, STRINGS], [(0, "no")], manner))
    assert [tensor_of(array) for array in response.outputs] == [FLOATS, STRINGS]
    assert [(e.code, e.message) for e in response.errors] == [(0, "no")]


def test_the_stray_errors_vector_of_the_original_python_server_does_not_hide_its_outputs():
    """With a current runtime it writes a vector of errors that points nowhere."""
    w = official.Writer(ORIGINAL_PYTHON)
    outputs = w.tensors([FLOATS])
    fbs.InferResponseStartErrorsVector(w.builder, 1)
    w.builder.PrependUint32(0x7FFF_FFF0)
    errors = w.builder.EndVector()
    fbs.InferResponseStart(w.builder)
    fbs.InferResponseAddOutputTensors(w.builder, outputs)
    fbs.InferResponseAddErrors(w.builder, errors)
    response = decode_infer_response(w.finish(fbs.InferResponseEnd(w.builder)))
    assert [tensor_of(array) for array in response.outputs] == [FLOATS]
    assert response.errors == []


# --- captured from the programs themselves ----------------------------------------------------------------------------

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
CAPTURED = sorted(path.name.removesuffix(".json") for path in GOLDEN.glob("*.re[qs]*.json"))
if not CAPTURED:
    CAPTURED = [pytest.param("", marks=pytest.mark.skip("the captured samples are not beside this clone"))]


def captured_tensors(described: list[dict[str, Any]]) -> list[Tensor]:
    return [
        Tensor(
            each["type_code"],
            tuple(each["shape"]),
            bytes.fromhex(each["data_hex"])
            if "data_hex" in each
            else [base64.b64decode(item) for item in each["strings_base64"]],
        )
        for each in described
    ]


def captured_ios(described: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(each["name"], each["description"], tuple(each["shape"]), each["type_code"]) for each in described]


@pytest.mark.parametrize("sample", CAPTURED)
def test_a_captured_message_is_remembered_unless_it_has_strings(sample):
    message = (GOLDEN / f"{sample}.bin").read_bytes()
    content = json.loads((GOLDEN / f"{sample}.json").read_text()).get("content", {})
    if "input_tensors" not in content and not content.get("output_tensors"):
        return
    asked = "input_tensors" in content
    decode: Any = decode_request if asked else decode_infer_response
    tensors = captured_tensors(content["input_tensors" if asked else "output_tensors"])
    memory: LayoutMemory[Any] = LayoutMemory()
    for _ in range(2):
        read = decode(message, memory)
        assert [tensor_of(array) for array in (read.inputs if asked else read.outputs)] == tensors
    assert len(memory) == (Type.STRING not in [tensor.type for tensor in tensors] and not content.get("errors"))


@pytest.mark.parametrize("sample", CAPTURED)
def test_a_captured_message_is_read_as_it_was_meant(sample):
    message = (GOLDEN / f"{sample}.bin").read_bytes()
    meant = json.loads((GOLDEN / f"{sample}.json").read_text())
    content = meant.get("content")
    assert len(message) == meant["bytes"]
    match meant["kind"]:
        case "request" if content["req_type"] == 2:
            assert decode_request(message) == MetadataRequest()
        case "request":
            read = request(message)
            assert [tensor_of(array) for array in read.inputs] == captured_tensors(content["input_tensors"])
            assert read.head.config == content["config"]
            assert list(read.head.input_names) == content["input_names"]
            assert list(read.head.output_names) == content["output_names"]
        case "infer_response":
            answer: InferResponse = decode_infer_response(message)
            assert [tensor_of(array) for array in answer.outputs] == captured_tensors(content["output_tensors"])
            assert [(e.code, e.message) for e in answer.errors] == [
                (each["code"], each["message"]) for each in content["errors"]
            ]
        case "metadata_response":
            meta = decode_metadata_response(message)
            for key in ("name", "version", "server", "description"):
                assert getattr(meta, key) == content[key]
            for key in ("inputs", "outputs"):
                ios = [(io.name, io.description, io.shape, io.type) for io in getattr(meta, key)]
                assert ios == captured_ios(content[key])
        case "json_text":
            assert json.loads(message).keys() == {"Name", "Version", "Server", "Description", "Inputs", "Outputs"}
        case other:
            pytest.fail(f"{sample} is a {other}, which nobody here reads")
