"""TensorFlow Serving's calls, asked by grpcio with the messages that protobuf makes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.signature import Signature, TensorSpec
from tests.faults.callers import until
from tests.front.servers import Function, InProcess, in_process
from tests.grpc.official import Caller, caller, refusal
from tests.protocols.official import message_class
from tests.protocols.test_tensorflow_serving_messages import expected

NUMBERS = {
    "float_val": (1, "<f4"), "double_val": (2, "<f8"), "int_val": (3, "<i4"), "int64_val": (9, "<i8"),
    "bool_val": (10, "?"), "uint32_val": (22, "<u4"), "uint64_val": (23, "<u8"),
}  # fmt: skip
DTYPES = {**dict(NUMBERS.values()), 4: "u1", 5: "<i2", 6: "i1", 17: "<u2", 19: "<f2"}


def tensor(dtype: int, shape: tuple[int, ...], **fields: Any) -> Any:
    proto = message_class("tensorflow.serving.TensorProto")(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()
    return proto


def predict(call: Caller, model: str = "echo", outputs: tuple[str, ...] = (), spec: Any = None, **inputs: Any) -> Any:
    return call("Predict", model_spec={"name": model, **(spec or {})}, inputs=inputs, output_filter=outputs)


@pytest.mark.parametrize("shape", [(), (0, 2), (3,), (2, 3), (50, 1000)], ids=str)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_element_type_comes_back(call: Caller, dtype: int, shape: tuple[int, ...]):
    array = np.random.default_rng(3).integers(0, 2, shape).astype(DTYPES[dtype])
    answer = predict(call, x=tensor(dtype, shape, tensor_content=array.tobytes()))
    back = expected(answer.outputs["x"])
    assert back is not None
    assert (answer.outputs["x"].dtype, back.shape, back.tobytes()) == (dtype, shape, array.tobytes())
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("echo", 1)
    assert answer.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize("name", NUMBERS)
def test_lists_of_values_are_numbers_too_and_may_be_short(call: Caller, name: str):
    dtype, code = NUMBERS[name]
    values = (np.arange(40_000) % 2).astype(code)
    answer = predict(
        call,
        many=tensor(dtype, (40, 1000), **{name: values.tolist()}),
        one=tensor(dtype, (), **{name: [1]}),
        filled=tensor(dtype, (2, 3), **{name: [0, 1]}),
    )
    back = {key: expected(proto) for key, proto in answer.outputs.items()}
    assert np.array_equal(back["many"], values.reshape(40, 1000))
    assert np.array_equal(back["one"], np.array(1, code))
    assert np.array_equal(back["filled"], np.array([[0, 1, 1], [1, 1, 1]], code))


@pytest.mark.parametrize("number", [1, 20_000])
def test_strings_come_back(call: Caller, number: int):
    strings = [b"\xff\0" * (i % 5) for i in range(number)]
    answer = predict(call, x=tensor(7, (number,), string_val=strings))
    assert list(answer.outputs["x"].string_val) == strings


def pair(model: str = "simple") -> dict[str, Any]:
    ones = np.arange(4, dtype="<i4")
    return {
        "INPUT0": tensor(3, (1, 4), tensor_content=(ones + 10).tobytes()),
        "INPUT1": tensor(3, (1, 4), int_val=ones.tolist()),
    }


def test_it_answers_what_our_own_client_is_answered(call: Caller, server: InProcess):
    answer = predict(call, "simple", **pair())
    with graphpipe.Client(f"{server.url}/models/simple") as client:
        ours = client.infer({name: np.atleast_2d(expected(proto)) for name, proto in pair().items()})
    assert {name: expected(proto).tolist() for name, proto in answer.outputs.items()} == {  # type: ignore[union-attr]
        name: array.tolist() for name, array in ours.items()
    }


def test_a_filter_chooses_outputs_and_the_default_signature_may_be_named(call: Caller):
    answer = predict(
        call, "simple", ("OUTPUT1",), {"signature_name": "serving_default", "version": {"value": 1}}, **pair()
    )
    assert [*answer.outputs] == ["OUTPUT1"]
    assert expected(answer.outputs["OUTPUT1"]).tolist() == [[10] * 4]  # type: ignore[union-attr]


REFUSALS: list[tuple[Any, dict[str, Any], str, str]] = [
    ({"name": "nobody"}, {}, "NOT_FOUND", "there is no model 'nobody'"),
    ({"version": {"value": 7}}, {}, "NOT_FOUND", "no version '7'"),
    ({"version_label": "stable"}, {}, "NOT_FOUND", "label 'stable'"),
    ({"signature_name": "other"}, {}, "INVALID_ARGUMENT", "there is no signature 'other'"),
    ({}, {"INPUT7": tensor(3, (1, 4), int_val=[1])}, "INVALID_ARGUMENT", "there is no input 'INPUT7'"),
    ({}, {"INPUT0": tensor(1, (1, 4), float_val=[1])}, "INVALID_ARGUMENT", "is float32, but the model takes int32"),
    ({}, {"INPUT0": tensor(3, (1, 3), int_val=[1])}, "INVALID_ARGUMENT", "3 along axis 1"),
    ({}, {"INPUT0": tensor(14, (1, 4), half_val=[1])}, "INVALID_ARGUMENT", "bfloat16"),
    ({}, {"INPUT0": tensor(3, (1 << 40, 4), int_val=[1])}, "RESOURCE_EXHAUSTED", "so many are not filled in"),
    ({}, {"INPUT0": tensor(3, (2, 4), tensor_content=b"1234")}, "INVALID_ARGUMENT", "has 32 bytes; 4 came"),
]


@pytest.mark.parametrize(("spec", "inputs", "status", "words"), REFUSALS, ids=[words for *_, words in REFUSALS])
def test_what_cannot_be_is_refused_in_words(
    call: Caller, server: InProcess, spec: Any, inputs: Any, status: str, words: str
):
    with pytest.raises(grpc.RpcError) as error:
        predict(call, "simple", spec=spec, **{**pair(), **inputs})
    assert refusal(error)[0] == status
    assert words in refusal(error)[1]
    del error
    until(lambda: server.app.pool.leased_bytes == 0)


def test_few_bytes_do_not_stand_for_much_memory_in_several_tensors_either(call: Caller):
    large = tensor(1, (10 << 20,), float_val=[1])  # 40 MiB: of these one is filled in, and not two
    with pytest.raises(grpc.RpcError) as error:
        predict(call, one=large, other=large)
    assert refusal(error)[0] == "RESOURCE_EXHAUSTED"


def test_what_is_filled_in_is_counted_as_long_as_somebody_looks_at_it():
    """A call of forty bytes that waits for its model may hold as much as a large one, so it waits for room like one."""
    go_on = threading.Event()

    def slow(inputs: Any) -> Any:
        go_on.wait(30)
        return {"y": inputs["x"][:3] * 2}

    large = tensor(1, (10 << 20,), float_val=[3, 1])
    limits = {"body_bytes_max": 64 << 20, "in_flight_bytes_max": 64 << 20}
    try:
        with in_process({"slow": Function(slow)}, **limits) as server, caller(server) as call:
            with ThreadPoolExecutor() as threads:
                first = threads.submit(predict, call, "slow", x=large)
                until(lambda: server.app.admission.held_bytes >= 40 << 20)
                with pytest.raises(grpc.RpcError) as error:
                    predict(call, "slow", x=large)
                assert refusal(error)[0] == "UNAVAILABLE"
                go_on.set()
                assert expected(first.result(30).outputs["y"]).tolist() == [6, 2, 2]  # type: ignore[union-attr]
            until(lambda: server.app.admission.held_bytes == 0)
    finally:
        go_on.set()


def test_few_strings_do_not_stand_for_many(call: Caller):
    assert expected(predict(call, x=tensor(7, (4,), string_val=[b"a"])).outputs["x"]).tolist() == [b"a"] * 4  # type: ignore[union-attr]
    with pytest.raises(grpc.RpcError) as error:
        predict(call, x=tensor(7, (100_000,), string_val=[b"a"]))
    assert refusal(error)[0] == "RESOURCE_EXHAUSTED"


def test_more_strings_than_are_taken_are_refused(call: Caller):
    with pytest.raises(grpc.RpcError) as error:
        predict(call, x=tensor(7, (201_000,), string_val=[b""] * 201_000))
    assert refusal(error)[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    "message", [b"\xff", b"\x0a\x05abc", b"\x0b\x0c", b"\x00\x00", b"\x0a\x03\x0a\x01\xff"], ids=repr
)
@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.PredictionService/Predict",
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
    ],
)
def test_what_is_no_message_is_refused(call: Caller, path: str, message: bytes):
    with pytest.raises(grpc.RpcError) as error:
        call.raw(path, message)
    assert refusal(error)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "path",
    [
        "PredictionService/MultiInference",
        "PredictionService/GetModelStatus",
        "ModelService/HandleReloadConfigRequest",
        "ModelService/Predict",
        "SessionService/SessionRun",
    ],
)
def test_calls_that_are_not_served_are_unimplemented(call: Caller, path: str):
    with pytest.raises(grpc.RpcError) as error:
        call.raw(f"/tensorflow.serving.{path}", b"")
    assert refusal(error)[0] == "UNIMPLEMENTED"


def test_metadata_says_what_a_model_takes_and_gives(call: Caller):
    answer = call("GetModelMetadata", model_spec={"name": "simple"}, metadata_field=["signature_def"])
    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    assert answer.metadata["signature_def"].Unpack(signatures)
    described = signatures.signature_def["serving_default"]
    assert {name: ([d.size for d in t.tensor_shape.dim], t.dtype) for name, t in described.inputs.items()} == {
        "INPUT0": ([-1, 4], 3),
        "INPUT1": ([-1, 4], 3),
    }
    assert set(described.outputs) == {"OUTPUT0", "OUTPUT1"}
    for fields in ([], ["other"]):
        with pytest.raises(grpc.RpcError) as error:
            call("GetModelMetadata", model_spec={"name": "simple"}, metadata_field=fields)
        assert refusal(error)[0] == "INVALID_ARGUMENT"
        assert "'signature_def'" in refusal(error)[1]


class Named(Echo):
    """One that TensorFlow has a name for."""

    signature_name, method_name = "scores", "tensorflow/serving/classify"


def test_a_signature_has_the_name_that_its_model_has():
    with in_process({"echo": Named()}) as server, caller(server) as call:
        described = call("GetModelMetadata", model_spec={"name": "echo"}, metadata_field=["signature_def"])
        signatures = message_class("tensorflow.serving.SignatureDefMap")()
        assert described.metadata["signature_def"].Unpack(signatures)
        assert {name: each.method_name for name, each in signatures.signature_def.items()} == {
            "scores": "tensorflow/serving/classify"
        }
        for asked in ("scores", "serving_default", ""):
            answer = predict(call, spec={"signature_name": asked}, x=tensor(1, (1,), float_val=[1]))
            assert answer.model_spec.signature_name == "scores"
        with pytest.raises(grpc.RpcError) as error:
            predict(call, spec={"signature_name": "other"}, x=tensor(1, (1,), float_val=[1]))
        assert refusal(error)[0] == "INVALID_ARGUMENT"


def test_status_says_which_versions_are_served(call: Caller):
    for spec in ({"name": "simple"}, {"name": "simple", "version": {"value": 1}}):
        answer = call("GetModelStatus", model_spec=spec)
        assert [(v.version, v.state, v.status.error_code) for v in answer.model_version_status] == [(1, 30, 0)]
    for spec in ({"name": "nobody"}, {"name": "simple", "version": {"value": 2}}, {}):
        with pytest.raises(grpc.RpcError) as error:
            call("GetModelStatus", model_spec=spec)
        assert refusal(error)[0] == "NOT_FOUND"


def test_of_many_inputs_that_a_model_does_not_have_none_is_read_unless_they_are_to_be_left_out():
    class Unread:
        signature = Signature((TensorSpec("x", np.dtype("f4")),), (TensorSpec("y", np.dtype("f4")),))

        def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
            return {"y": inputs["x"]}

        def close(self) -> None:
            pass

    one = tensor(1, (1,), float_val=[5.0])
    inputs = {"x": one, **{f"more{number}": tensor(1, (2,), tensor_content=b"no floats") for number in range(99)}}
    with in_process({"m": Unread()}) as server, caller(server) as call:
        with pytest.raises(grpc.RpcError) as error:
            predict(call, "m", **inputs)
        assert refusal(error)[0] == "INVALID_ARGUMENT"
        assert "100 inputs came, and the model has 1" in refusal(error)[1]
        del error
    good = {"x": one, **{f"more{number}": one for number in range(99)}}
    with (
        in_process({"m": Unread()}, model_settings={"ignore_extra_inputs": True}) as server,
        caller(server) as call,
    ):
        answer = expected(predict(call, "m", **good).outputs["y"])
        assert answer is not None
        assert answer.tolist() == [5.0]
    with in_process({"m": Echo()}) as server, caller(server) as call:
        assert len(predict(call, "m", **good).outputs) == 100
