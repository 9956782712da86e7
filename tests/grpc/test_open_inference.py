"""The Open Inference Protocol over gRPC, asked by grpcio with the messages that protobuf makes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.faults.callers import until
from tests.front.servers import InProcess, in_process
from tests.grpc.official import Caller, caller, refusal
from tests.protocols.official import message_class

DTYPES = {
    "BOOL": "?", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "UINT16": "u2",
    "UINT32": "u4", "UINT64": "u8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
CONTENTS = {
    "BOOL": "bool", "INT8": "int", "INT16": "int", "INT32": "int", "INT64": "int64", "UINT8": "uint", "UINT16": "uint",
    "UINT32": "uint", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes",
}  # fmt: skip
SHAPES = [(), (0,), (3,), (2, 0, 3), (2, 3), (70, 1000)]


def numbers(datatype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    dtype = np.dtype(DTYPES[datatype])
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    limits = np.iinfo(dtype)
    return np.asarray(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))


def typed(model: str, datatype: str, array: np.ndarray[Any, Any]) -> Any:
    """A ModelInferRequest with contents of a type."""
    request = message_class("inference.ModelInferRequest")(model_name=model)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(tensor.contents, f"{CONTENTS[datatype]}_contents").extend(array.ravel().tolist())
    return request


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("datatype", DTYPES)
def test_every_element_type_comes_back_raw_however_it_was_sent(call: Caller, datatype: str, shape: Any):
    array = numbers(datatype, shape)
    answers = [call.infer("echo", ("x", datatype, array))]
    if datatype in CONTENTS:
        answers.append(call("ModelInfer", typed("echo", datatype, array)))
    for answer in answers:
        [output] = answer.outputs
        assert (output.name, output.datatype, tuple(output.shape)) == ("x", datatype, shape)
        assert list(answer.raw_output_contents) == [array.tobytes()]


@pytest.mark.parametrize("number", [0, 3, 20_000])
def test_strings_come_back_raw_however_they_were_sent(call: Caller, number: int):
    strings = np.empty(number, object)
    strings[:] = [b"\xff\0" * (i % 5) for i in range(number)]
    raw = b"".join(len(each).to_bytes(4, "little") + each for each in strings)
    request = message_class("inference.ModelInferRequest")(model_name="echo", raw_input_contents=[raw])
    request.inputs.add(name="x", datatype="BYTES", shape=strings.shape)
    for message in (request, typed("echo", "BYTES", strings)):
        answer = call("ModelInfer", message)
        assert answer.outputs[0].datatype == "BYTES"
        assert list(answer.raw_output_contents) == [raw]


@given(st.lists(st.sampled_from([*DTYPES]), min_size=1, max_size=4), st.data())
@settings(max_examples=40, deadline=None)
def test_several_tensors_come_back_in_their_order(datatypes: list[str], data: st.DataObject):
    with caller(_shared()) as call:
        tensors = []
        for i, datatype in enumerate(datatypes):
            shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))
            tensors.append((f"t{i}", datatype, numbers(datatype, shape)))
        answer = call.infer("echo", *tensors)
        assert [(o.name, o.datatype, tuple(o.shape)) for o in answer.outputs] == [
            (name, datatype, array.shape) for name, datatype, array in tensors
        ]
        assert list(answer.raw_output_contents) == [array.tobytes() for _, _, array in tensors]


_running: list[InProcess] = []


def _shared() -> InProcess:
    return _running[0]


@pytest.fixture(autouse=True)
def _remembered(server: InProcess):
    _running[:] = [server]
    yield
    _running.clear()


def simple(**more: Any) -> Any:
    request = message_class("inference.ModelInferRequest")(model_name="simple", **more)
    for name, start in (("INPUT0", 10), ("INPUT1", 0)):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 4])
        request.raw_input_contents.append(np.arange(start, start + 4, dtype="<i4").tobytes())
    return request


def test_outputs_come_as_they_are_asked_for(call: Caller):
    answer = call("ModelInfer", simple(id="call 7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("simple", "1", "call 7")
    assert [output.name for output in answer.outputs] == ["OUTPUT0", "OUTPUT1"]
    request = simple()
    for name in ("CONFIG", "OUTPUT1"):
        request.outputs.add(name=name)
    request.parameters["config"].string_param = "Zoë"
    answer = call("ModelInfer", request)
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("CONFIG", "BYTES", []),
        ("OUTPUT1", "INT32", [1, 4]),
    ]
    assert answer.raw_output_contents[0] == b"\x04\0\0\0" + "Zoë".encode()
    assert np.frombuffer(answer.raw_output_contents[1], "<i4").tolist() == [10, 10, 10, 10]


def test_it_answers_what_our_own_client_is_answered(server: InProcess, call: Caller):
    inputs = {"INPUT0": numbers("INT32", (5, 4)), "INPUT1": numbers("INT32", (5, 4))}
    with graphpipe.Client(f"{server.url}/models/simple") as client:
        ours = client.infer(inputs)
    answer = call.infer("simple", *((name, "INT32", array) for name, array in inputs.items()))
    assert list(answer.raw_output_contents) == [ours[name].tobytes() for name in ("OUTPUT0", "OUTPUT1")]


def test_a_large_tensor_comes_back(call: Caller, server: InProcess):
    array = numbers("FP32", (20, 250_000))
    answer = call.infer("echo", ("x", "FP32", array))
    assert answer.raw_output_contents[0] == array.tobytes()
    until(lambda: server.app.pool.leased_bytes == 0)


def _changed(change: Any) -> bytes:
    request = simple()
    change(request)
    return request.SerializeToString()


def _clear(request: Any) -> None:
    request.inputs[0].name = ""


def _widen(request: Any) -> None:
    for number in range(98):
        request.inputs.add(name=f"more{number}", datatype="FP32", shape=[1])


REFUSALS = [
    (_widen, "INVALID_ARGUMENT", "100 inputs came, and the model has 2"),
    (lambda r: setattr(r, "model_name", "nobody"), "NOT_FOUND", "there is no model 'nobody'"),
    (lambda r: setattr(r, "model_version", "9"), "NOT_FOUND", "no version '9'"),
    (lambda r: setattr(r.inputs[0], "name", "INPUT7"), "INVALID_ARGUMENT", "there is no input 'INPUT7'"),
    (lambda r: setattr(r.inputs[1], "name", "INPUT0"), "INVALID_ARGUMENT", "came twice"),
    (_clear, "INVALID_ARGUMENT", "has no name"),
    (lambda r: r.outputs.add(name="OUTPUT7"), "INVALID_ARGUMENT", "there is no output 'OUTPUT7'"),
    (lambda r: [r.outputs.add(name="OUTPUT0") for _ in "12"], "INVALID_ARGUMENT", "asked for twice"),
    (lambda r: setattr(r.inputs[0], "datatype", "FP32"), "INVALID_ARGUMENT", "is float32, but the model takes int32"),
    (lambda r: setattr(r.inputs[0], "datatype", "BF16"), "INVALID_ARGUMENT", "send it as FP32"),
    (lambda r: setattr(r.inputs[0], "datatype", "INT"), "INVALID_ARGUMENT", "'INT'"),
    (lambda r: r.inputs[0].shape.append(2), "INVALID_ARGUMENT", "has 32 bytes; 16 came"),
    (lambda r: r.inputs[0].ClearField("shape"), "INVALID_ARGUMENT", "has 4 bytes; 16 came"),
    (lambda r: r.inputs[0].shape.__setitem__(0, -1), "INVALID_ARGUMENT", "none is negative"),
    (lambda r: r.raw_input_contents.pop(), "INVALID_ARGUMENT", "2 inputs came, but 1 raw_input_contents"),
    (lambda r: r.inputs[0].contents.int_contents.append(1), "INVALID_ARGUMENT", "one of both"),
    (
        lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "r"),
        "UNIMPLEMENTED",
        "shared memory",
    ),
    (
        lambda r: setattr(r.outputs.add(name="OUTPUT0").parameters["classification"], "int64_param", 3),
        "UNIMPLEMENTED",
        "classification",
    ),
    (lambda r: setattr(r.parameters["config"], "int64_param", 3), "INVALID_ARGUMENT", "config is a string"),
    (
        lambda r: setattr(r.parameters["config"], "string_param", "x" * (1 << 21)),
        "RESOURCE_EXHAUSTED",
        "config has 2,097,152 characters",
    ),
]


@pytest.mark.parametrize(("change", "status", "words"), REFUSALS, ids=[words for _, _, words in REFUSALS])
def test_what_cannot_be_is_refused_in_words(call: Caller, server: InProcess, change: Any, status: str, words: str):
    with pytest.raises(grpc.RpcError) as error:
        call.raw("/inference.GRPCInferenceService/ModelInfer", _changed(change))
    assert refusal(error)[0] == status
    assert words in refusal(error)[1]
    del error
    assert call("ServerLive").live  # on the same connection
    until(lambda: server.app.pool.leased_bytes == 0)


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05abc", b"\x0b\x0c", b"\x00\x00", b"\x0a\x01\xff"], ids=repr)
@pytest.mark.parametrize("name", ["ModelInfer", "ModelMetadata", "ServerLive", "RepositoryIndex", "ModelStatistics"])
def test_what_is_no_message_is_refused(call: Caller, name: str, message: bytes):
    if name in ("ServerLive", "RepositoryIndex") and message == b"\x0a\x01\xff":
        return  # of a field that is not looked at
    with pytest.raises(grpc.RpcError) as error:
        call.raw(f"/inference.GRPCInferenceService/{name}", message)
    assert refusal(error)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("name", ["ModelStreamInfer", "RepositoryModelLoad", "TraceSetting", "Nonsense"])
def test_calls_that_are_not_served_are_unimplemented(call: Caller, name: str):
    with pytest.raises(grpc.RpcError) as error:
        call.raw(f"/inference.GRPCInferenceService/{name}", b"")
    assert refusal(error)[0] == "UNIMPLEMENTED"
    assert refusal(error)[1].startswith(f"{name!r}: ")
    assert call("ServerLive").live


def test_a_message_of_many_fields_is_refused(call: Caller):
    with pytest.raises(grpc.RpcError) as error:
        call.raw("/inference.GRPCInferenceService/ModelInfer", b"\x78\x01" * 100_000)
    assert refusal(error)[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("is_raw", [True, False])
@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "FP32", "INT64"])
def test_a_shape_that_no_tensor_can_have_is_refused_though_it_has_no_elements(
    call: Caller, datatype: str, is_raw: bool
):
    tensor = {"name": "x", "datatype": datatype, "shape": [2**63 - 1, 4, 0]}
    with pytest.raises(grpc.RpcError) as error:
        call("ModelInfer", model_name="echo", inputs=[tensor], raw_input_contents=[b""] if is_raw else [])
    assert refusal(error)[0] == "INVALID_ARGUMENT"
    assert "more than a tensor can have" in refusal(error)[1]


@pytest.mark.parametrize("letter", ["m", "\u6a21", "\U0001f600", "\n"])
def test_words_about_a_long_name_arrive_whatever_its_letters_are(call: Caller, letter: str):
    with pytest.raises(grpc.RpcError) as error:
        call("ModelMetadata", name=letter * 10_000)
    assert refusal(error)[0] == "NOT_FOUND"
    assert refusal(error)[1].startswith("there is no model")


def test_a_model_that_fails_is_internal_and_says_no_cause(call: Caller, server: InProcess):
    for datatype in ("FP32", "INT64"):
        with pytest.raises(grpc.RpcError) as error:
            call("ModelInfer", typed("broken", datatype, numbers(datatype, (30_000,))))
        assert refusal(error)[0] == "INTERNAL"
        assert "as some libraries do" not in refusal(error)[1]
        del error
    until(lambda: server.app.pool.leased_bytes == 0)


def test_what_is_unpacked_in_a_thread_lets_go_of_the_message(call: Caller, server: InProcess):
    array = numbers("INT32", (400, 1000))
    answer = call("ModelInfer", typed("echo", "INT32", array))
    assert answer.raw_output_contents[0] == array.tobytes()
    until(lambda: server.app.pool.leased_bytes == 0)
    with pytest.raises(grpc.RpcError):
        call("ModelInfer", typed("simple", "INT32", array))
    until(lambda: server.app.pool.leased_bytes == 0)


def test_numbers_that_come_alone_are_read_beside_the_loop(call: Caller, server: InProcess):
    values = np.arange(150_000, dtype="<f4")
    contents = b"".join(b"\x35" + octets for octets in (values[i : i + 1].tobytes() for i in range(len(values))))
    tensor = b"\x0a\x01x\x12\x04FP32\x1a\x03" + bytes((0xF0, 0x93, 0x09)) + _field(b"\x2a", contents)
    message = memoryview(b"\x0a\x04echo" + _field(b"\x2a", tensor))
    rpcs = server.app.dialects.rpcs["inference.GRPCInferenceService"]
    answered = server.ask(lambda: rpcs.endpoint("/inference.GRPCInferenceService/ModelInfer", message).answer(message))
    assert asyncio.iscoroutine(answered)
    segments, rows = asyncio.run_coroutine_threadsafe(answered, server.loop).result(20)
    assert rows == 150_000
    answer = message_class("inference.ModelInferResponse").FromString(b"".join(segments))
    assert answer.raw_output_contents[0] == values.tobytes()


def _field(key: bytes, value: bytes) -> bytes:
    size, octets = len(value), b""
    while size > 127:
        octets += bytes((size & 127 | 128,))
        size >>= 7
    return key + octets + bytes((size,)) + value


def test_more_strings_than_are_taken_are_refused(call: Caller):
    strings = np.array([b""] * 200_001, object)
    with pytest.raises(grpc.RpcError) as error:
        call("ModelInfer", typed("echo", "BYTES", strings))
    assert refusal(error)[0] == "RESOURCE_EXHAUSTED"
    assert "--strings-max" in refusal(error)[1]


def test_it_says_what_it_is_and_what_a_model_takes(call: Caller):
    about = call("ServerMetadata")
    assert (about.name, about.version) == ("graphpipe", graphpipe.__version__)
    assert call("ServerReady").ready
    assert call("ModelReady", name="simple", version="1").ready
    model = call("ModelMetadata", name="simple")
    assert (model.name, list(model.versions)) == ("simple", ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        ("INPUT0", "INT32", [-1, 4]),
        ("INPUT1", "INT32", [-1, 4]),
    ]
    assert [t.name for t in model.outputs] == ["OUTPUT0", "OUTPUT1"]
    index = call("RepositoryIndex")
    assert [(m.name, m.version, m.state) for m in index.models] == [
        ("echo", "1", "READY"), ("simple", "1", "READY"), ("broken", "1", "READY"),
    ]  # fmt: skip
    assert not call("ModelReady", name="nobody").ready
    assert not call("ModelReady", name="simple", version="9").ready
    for name in ("ModelMetadata", "ModelStatistics", "ModelConfig"):
        with pytest.raises(grpc.RpcError) as error:
            call(name, name="nobody")
        assert refusal(error)[0] == "NOT_FOUND"


def test_a_configuration_has_every_dimension(call: Caller):
    config = call("ModelConfig", name="simple").config
    assert (config.name, config.max_batch_size) == ("simple", 0)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("INPUT0", 8, [-1, 4]),
        ("INPUT1", 8, [-1, 4]),
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("OUTPUT0", 8, [-1, 4]),
        ("OUTPUT1", 8, [-1, 4]),
    ]
    any_type = call("ModelConfig", name="echo").config.input[0]
    assert (any_type.data_type, list(any_type.dims)) == (0, [-1])


def test_statistics_count_what_was_answered(call: Caller):
    [before] = call("ModelStatistics", name="simple").model_stats
    call("ModelInfer", simple())
    [after] = call("ModelStatistics", name="simple", version="1").model_stats
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert [each.name for each in call("ModelStatistics").model_stats] == ["echo", "simple", "broken"]


def test_a_server_that_is_not_ready_says_so(call: Caller, server: InProcess):
    workers = server.app.state.workers
    server.ask(lambda: setattr(server.app.state, "workers", lambda: (0, 1)))
    try:
        assert not call("ServerReady").ready
        assert call("ServerLive").live
        assert call("Check").status == 2
    finally:
        server.ask(lambda: setattr(server.app.state, "workers", workers))
    assert call("Check").status == 1


def test_batched_and_alone_are_answered_alike():
    with in_process({"echo": Echo()}, model_settings={"batch_rows_max": 8, "batch_wait_ms": 1}) as server:
        with caller(server) as call:
            array = numbers("FP32", (3, 4))
            assert call.infer("echo", ("x", "FP32", array)).raw_output_contents[0] == array.tobytes()


SECRETS = {name: new_key() for name in ("full", "infer", "metadata", "only-b")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory):
    def line(name: str, scopes: list[str], **more: Any) -> str:
        return text_of(key_of(name, digest_of(SECRETS[name].encode()), scopes, **more)) + "\n"

    file: Path = tmp_path_factory.mktemp("keys") / "keys"
    both = ["infer", "metadata"]
    file.write_text(
        line("full", both)
        + line("infer", ["infer"])
        + line("metadata", ["metadata"])
        + line("only-b", both, models=["b"])
    )
    with in_process({"a": Echo(), "b": Echo()}, api_key_file=str(file)) as server, caller(server) as call:
        yield call


def _status(ask: Any) -> str:
    try:
        ask()
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    return "OK"


KEYED = [
    ("", "ServerLive", "", "OK"), ("", "ServerReady", "", "OK"), ("", "Check", "", "OK"),
    ("", "ServerMetadata", "", "UNAUTHENTICATED"), ("", "ModelReady", "a", "UNAUTHENTICATED"),
    ("", "ModelReady", "nobody", "UNAUTHENTICATED"), ("full", "ModelReady", "nobody", "OK"),
    ("infer", "ModelReady", "nobody", "PERMISSION_DENIED"), ("infer", "ModelReady", "a", "PERMISSION_DENIED"),
    ("", "ModelInfer", "a", "UNAUTHENTICATED"),
    ("", "Check", "a", "UNAUTHENTICATED"), ("", "Check", "nobody", "UNAUTHENTICATED"),
    ("full", "ModelInfer", "a", "OK"), ("full", "ModelMetadata", "a", "OK"), ("full", "ModelInfer", "nobody", "NOT_FOUND"),
    ("infer", "ModelInfer", "a", "OK"), ("infer", "ModelMetadata", "a", "PERMISSION_DENIED"),
    ("infer", "RepositoryIndex", "", "PERMISSION_DENIED"), ("infer", "ServerLive", "", "OK"),
    ("metadata", "ModelMetadata", "a", "OK"), ("metadata", "ModelInfer", "a", "PERMISSION_DENIED"),
    ("only-b", "ModelInfer", "b", "OK"), ("only-b", "ModelInfer", "a", "PERMISSION_DENIED"),
    ("only-b", "ModelInfer", "nobody", "PERMISSION_DENIED"), ("only-b", "ModelMetadata", "a", "PERMISSION_DENIED"),
    ("only-b", "ModelStatistics", "a", "PERMISSION_DENIED"), ("only-b", "Predict", "a", "PERMISSION_DENIED"),
    ("only-b", "GetModelStatus", "a", "PERMISSION_DENIED"), ("only-b", "GetModelStatus", "b", "OK"),
    ("", "GetModelStatus", "a", "UNAUTHENTICATED"), ("", "GetModelMetadata", "a", "UNAUTHENTICATED"),
    ("infer", "GetModelStatus", "a", "PERMISSION_DENIED"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "what", "model", "status"), KEYED)
def test_a_key_is_good_for_its_scopes_and_models(kept: Caller, name: str, what: str, model: str, status: str):
    fields: dict[str, Any] = {}
    if what == "ModelInfer":
        fields = {"model_name": model}
    elif what in ("Predict", "GetModelStatus", "GetModelMetadata"):
        fields = {"model_spec": {"name": model}}
    elif what == "Check":
        fields = {"service": model}
    elif model:
        fields = {"name": model}
    if what == "ModelInfer":
        fields["inputs"] = [{"name": "x", "datatype": "FP32", "shape": [1]}]
        fields["raw_input_contents"] = [b"1234"]
    assert _status(lambda: kept(what, key=SECRETS.get(name, ""), **fields)) == status


def test_a_model_that_is_not_his_and_one_that_is_not_there_look_alike(kept: Caller):
    for what, field in (
        ("ModelReady", "name"),
        ("ModelMetadata", "name"),
        ("ModelInfer", "model_name"),
        ("Check", "service"),
    ):
        told = []
        for model in ("a", "nobody"):
            with pytest.raises(grpc.RpcError) as error:
                kept(what, key=SECRETS["only-b"], **{field: model})
            told.append(refusal(error))
        assert told[0] == told[1]
        assert told[0][0] == "PERMISSION_DENIED"


@pytest.mark.parametrize("name", ["only-b", "metadata"])
def test_what_is_wrong_with_a_call_is_not_told_to_who_may_not_call(kept: Caller, name: str):
    said = {"name": "a"}, {"name": "a", "signature_name": "other"}, {"name": "a", "signature_name": "x" * 40_000}
    bad: list[tuple[str, dict[str, Any]]] = [("Predict", {"model_spec": spec, "inputs": {"x": {}}}) for spec in said]
    bad.append(("ModelInfer", {"model_name": "a", "inputs": [{"name": "x", "datatype": "NONE", "shape": [1]}]}))
    bad.append(("ModelInfer", {"model_name": "a", "inputs": [{"name": ""}]}))
    for what, fields in bad:
        with pytest.raises(grpc.RpcError) as error:
            kept(what, key=SECRETS["full"], **fields)
        assert refusal(error)[0] == "INVALID_ARGUMENT"
        with pytest.raises(grpc.RpcError) as error:
            kept(what, key=SECRETS[name], **fields)
        assert refusal(error)[0] == "PERMISSION_DENIED"


def test_lists_have_the_models_that_a_key_may_use(kept: Caller):
    key = SECRETS["only-b"]
    assert [model.name for model in kept("RepositoryIndex", key=key).models] == ["b"]
    assert [model.name for model in kept("ModelStatistics", key=key).model_stats] == ["b"]
    assert [model.name for model in kept("RepositoryIndex", key=SECRETS["full"]).models] == ["a", "b"]


def test_each_protocol_can_be_left_out():
    with in_process(protocols=("open-inference", "grpc")) as server, caller(server) as call:
        assert call("ServerLive").live
        assert _status(lambda: call("Predict")) == "UNIMPLEMENTED"
        assert call("Check", service="inference.GRPCInferenceService").status == 1
        assert _status(lambda: call("Check", service="tensorflow.serving.PredictionService")) == "NOT_FOUND"
    with in_process(protocols=("tensorflow-serving", "grpc")) as server, caller(server) as call:
        assert _status(lambda: call("ServerLive")) == "UNIMPLEMENTED"
        assert call("GetModelStatus", model_spec={"name": "echo"}).model_version_status[0].version == 1
