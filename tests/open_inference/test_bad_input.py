"""What is wrong is said in the protocol's own form, with the status of a caller's mistake, and the next caller is served."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.backends.echo import Echo
from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import InProcess, Way, in_process
from tests.open_inference.oracle import WAYS, Tensor, answered, post, request
from tests.raw_http import Wire, call

INFER = "/v2/models/echo/infer"
ONE = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}
GOOD = json.dumps({"inputs": [ONE]}).encode()


def with_input(**more: Any) -> bytes:
    return json.dumps({"inputs": [{key: each for key, each in (ONE | more).items() if each is not ...}]}).encode()


def as_bytes(size: Any, **more: Any) -> bytes:
    return with_input(data=..., parameters={"binary_data_size": size}, **more)


def with_output(**more: Any) -> bytes:
    return json.dumps({"inputs": [ONE], "outputs": [{"name": "x"} | more]}).encode()


# The JSON of a request, and what follows it, if that is told by Inference-Header-Content-Length; status; words.
BAD: dict[str, tuple[bytes, bytes | None, int, str]] = {
    "no body": (b"", None, 400, "this is no JSON"),
    "broken": (b'{"inputs": [', None, 400, "this is no JSON"),
    "two documents": (GOOD + GOOD, None, 400, "this is no JSON"),
    "no UTF-8": (GOOD.replace(b'"x"', b'"\xff"'), None, 400, "this is no JSON"),
    "half a surrogate": (GOOD.replace(b'"x"', b'"\\ud800"'), None, 400, "this is no JSON"),
    "deep": (b"[" * 5000 + b"]" * 5000, None, 400, "this is no JSON: depth limit"),
    "deep data": (with_input(data=...)[:-3] + b', "data": ' + b"[" * 40 + b"]" * 40 + b"}]}", None, 400, "32 times"),
    "NaN": (GOOD.replace(b"1.5", b"NaN"), None, 400, "this is no JSON"),
    "infinity": (GOOD.replace(b"1.5", b"-Infinity"), None, 400, "this is no JSON"),
    "as good as infinity": (GOOD.replace(b"1.5", b"1e999"), None, 400, "this is no JSON"),
    "a list": (b"[]", None, 400, "the request is no JSON object"),
    "no inputs": (b"{}", None, 400, "no inputs: a list"),
    "inputs are an object": (b'{"inputs": {}}', None, 400, "no inputs: a list"),
    "an input is a number": (b'{"inputs": [1]}', None, 400, "inputs[0] is no JSON object"),
    "many inputs": (json.dumps({"inputs": [ONE] * 4097}).encode(), None, 413, "4097 inputs came"),
    "no name": (with_input(name=...), None, 400, "inputs[0] has no name"),
    "a number for a name": (with_input(name=1), None, 400, "inputs[0] has no name"),
    "a long name": (with_input(name="x" * 65537), None, 413, "65,537 characters"),
    "no datatype": (with_input(datatype=...), None, 400, "has no datatype"),
    "an unknown datatype": (with_input(datatype="FLOAT"), None, 400, "there are BOOL, UINT8"),
    "bfloat16": (with_input(datatype="BF16"), None, 400, "send it as FP32"),
    "no shape": (with_input(shape=...), None, 400, "has no shape"),
    "a negative shape": (with_input(shape=[-1]), None, 400, "no dimension of a tensor is negative"),
    "a shape of fractions": (with_input(shape=[1.0]), None, 400, "a list of whole numbers"),
    "a shape of truths": (with_input(shape=[True]), None, 400, "a list of whole numbers"),
    "a huge shape": (with_input(shape=[2**40]), None, 400, "2 GiB or more"),
    "a shape that overflows": (with_input(shape=[2**33, 2**33]), None, 400, "2 GiB or more"),
    "a huge shape of nothing": (with_input(shape=[0, 2**62], data=[]), None, 400, "2 GiB or more"),
    "many dimensions": (with_input(shape=[1] * 33), None, 400, "33 dimensions; at most 32"),
    "no data": (with_input(data=...), None, 400, "has no data"),
    "data that is a number": (with_input(data=1.5), None, 400, "has no data"),
    "too few elements": (with_input(shape=[2]), None, 400, "takes 2 elements; 1 came"),
    "too many elements": (with_input(data=[1, 2]), None, 400, "takes 1 elements; 2 came"),
    "elements for nothing": (with_input(shape=[0]), None, 400, "takes 0 elements; 1 came"),
    "ragged rows": (with_input(shape=[3], data=[[1], [2, 3]]), None, 400, "rows of different lengths: 1 and 2"),
    "rows and numbers": (with_input(shape=[2], data=[[1], 2]), None, 400, "side by side"),
    "numbers and rows": (with_input(shape=[2], data=[1, [2]]), None, 400, "takes numbers; a list came"),
    "a string for a number": (with_input(data=["1"]), None, 400, "takes numbers; a string came"),
    "null for a number": (with_input(data=[None]), None, 400, "takes numbers; null came"),
    "an object for a number": (with_input(data=[{}]), None, 400, "takes numbers; an object came"),
    "true for a number": (with_input(data=[True]), None, 400, "takes numbers; true or false came"),
    "beyond FP32": (with_input(data=[1e39]), None, 400, "float32 cannot hold"),
    "beyond FP16": (with_input(datatype="FP16", data=[65520]), None, 400, "float16 cannot hold"),
    "a fraction for INT32": (with_input(datatype="INT32"), None, 400, "takes whole numbers; a number with a fraction"),
    "1.0 for INT32": (with_input(datatype="INT32", data=[1.0]), None, 400, "takes whole numbers"),
    "beyond INT8": (with_input(datatype="INT8", data=[128]), None, 400, "int8 cannot hold"),
    "below UINT8": (with_input(datatype="UINT8", data=[-1]), None, 400, "uint8 cannot hold"),
    "below UINT64": (with_input(datatype="UINT64", data=[-1]), None, 400, "uint64 cannot hold"),
    "beyond INT64": (with_input(datatype="INT64", data=[2**63]), None, 400, "int64 cannot hold"),
    "beyond UINT64": (with_input(datatype="UINT64", data=[2**64]), None, 400, "takes whole numbers"),
    "1 for true": (with_input(datatype="BOOL", data=[1]), None, 400, "takes true and false; a whole number came"),
    "a number for BYTES": (with_input(datatype="BYTES", data=[1]), None, 400, "takes strings; a whole number came"),
    "an input twice": (json.dumps({"inputs": [ONE, ONE]}).encode(), None, 400, "came twice"),
    "an id that is a number": (GOOD[:-1] + b', "id": 7}', None, 400, "id is a string"),
    "a long id": (GOOD[:-1] + b', "id": "' + b"i" * 65537 + b'"}', None, 413, "id has 65,537 characters"),
    "parameters that are a list": (GOOD[:-1] + b', "parameters": [1]}', None, 400, "parameters is no JSON object"),
    "a config that is a number": (GOOD[:-1] + b', "parameters": {"config": 1}}', None, 400, "config is a string"),
    "a flag that is a number": (
        GOOD[:-1] + b', "parameters": {"binary_data_output": 1}}', None, 400, "binary_data_output is true or false",
    ),
    "an output without a name": (with_output(name=""), None, 400, "outputs[0] has no name"),
    "an output twice": (
        json.dumps({"inputs": [ONE], "outputs": [{"name": "x"}] * 2}).encode(), None, 400, "asked for twice",
    ),
    "classes": (with_output(parameters={"classification": 3}), None, 501, "ask for the scores"),
    "an input in shared memory": (
        with_input(data=..., parameters={"shared_memory_region": "r", "shared_memory_byte_size": 4}), None, 501, "shared",
    ),
    "an output in shared memory": (with_output(parameters={"shared_memory_region": "r"}), None, 501, "shared memory"),
    "bytes and data": (with_input(parameters={"binary_data_size": 4}), bytes(4), 400, "comes twice"),
    "bytes without their length": (as_bytes(4), None, 400, "only 0 are left; Inference-Header-Content-Length says"),
    "a size that is a string": (as_bytes("4"), bytes(4), 400, "is a number of bytes"),
    "a negative size": (as_bytes(-4), bytes(4), 400, "is a number of bytes"),
    "too few bytes": (as_bytes(4), bytes(3), 400, "takes 4 bytes behind the JSON, where only 3 are left"),
    "too many bytes": (as_bytes(4), bytes(5), 400, "5 bytes follow the JSON, and its inputs take 4"),
    "bytes for nobody": (GOOD, bytes(4), 400, "4 bytes follow the JSON, and its inputs take 0"),
    "a size that is not the shape's": (as_bytes(8), bytes(8), 400, "which takes 4 bytes; binary_data_size is 8"),
    "more strings than bytes": (
        as_bytes(4, datatype="BYTES", shape=[2]), bytes(4), 400, "each behind a length of 4 bytes; only 4 bytes came",
    ),
    "a string beyond the end": (
        as_bytes(5, datatype="BYTES"), struct.pack("<Ic", 2, b"a"), 400, "claims 2 bytes, and only 1 are left",
    ),
    "a string of 4 GiB": (as_bytes(4, datatype="BYTES"), b"\xff" * 4, 400, "claims 4294967295 bytes"),
    "a string cut in its length": (
        as_bytes(8, datatype="BYTES", shape=[2]), struct.pack("<I3sc", 3, b"abc", b"d"), 400, "ends after 1 of its 2",
    ),
    "bytes behind the last string": (
        as_bytes(6, datatype="BYTES"), struct.pack("<Icc", 1, b"a", b"b"), 400, "1 bytes more than its 1 elements",
    ),
    "many strings": (as_bytes(8, datatype="BYTES", shape=[1 << 21]), bytes(8), 413, "at most 1048576 are taken"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_what_is_wrong_by_every_way_in(ways: dict[str, Way], what: str) -> None:
    text, behind, status, words = BAD[what]
    length = None if behind is None else len(text)
    for way in WAYS:
        answer = post(ways, way, INFER, text + (behind or b""), length)
        assert answer.headers["content-type"] == "application/json"
        said = json.loads(answer.body)
        assert set(said) == {"error"}
        assert words in said["error"], said
        assert len(said["error"]) < 600
        assert answer.status == status, way
        assert post(ways, way, INFER, GOOD).status == 200


@pytest.mark.parametrize("length", ["-1", "+5", "x", "", "0x5", "5 5", "9" * 13, "\u0665", str(len(GOOD) + 1)])
def test_a_length_of_json_that_cannot_be_is_refused(ways: dict[str, Way], length: str) -> None:
    for way in WAYS:
        answer = post(ways, way, INFER, GOOD, None, f"Inference-Header-Content-Length: {length}")
        assert answer.status == 400, way
        assert "Inference-Header-Content-Length" in json.loads(answer.body)["error"]


def test_a_length_of_json_that_comes_twice_is_refused(ways: dict[str, Way]) -> None:
    field = f"Inference-Header-Content-Length: {len(GOOD)}"
    for way in WAYS:
        assert post(ways, way, INFER, GOOD, None, field, field.lower()).status == 400, way


@pytest.mark.parametrize("path", ["/v2/models/nobody/infer", "/v2/models/echo/versions/2/infer", "/v2/models//infer"])
def test_a_model_that_is_not_there_is_not_found(ways: dict[str, Way], path: str) -> None:
    for way in WAYS:
        answer = post(ways, way, path, GOOD)
        assert answer.status == 404, way
        assert set(json.loads(answer.body)) == {"error"}


def test_a_body_beyond_the_limit_and_a_bomb_are_refused(ways: dict[str, Way]) -> None:
    large = with_input(shape=[1 << 20], data=[0] * (1 << 20))
    for way in WAYS:
        answer = post(ways, way, INFER, large)
        assert answer.status == 413, way
        assert set(json.loads(answer.body)) == {"error"}


class Strict(Echo):
    """Takes two tensors that belong together, and gives one of two."""

    signature = Signature(
        (TensorSpec("a", np.dtype("f4"), ("n", 2)), TensorSpec("b", np.dtype(object), ("n",))),
        (TensorSpec("c", np.dtype("f4"), ("n", 2)), TensorSpec("d", np.dtype("f8"), ())),
        default_outputs=("c",),
    )

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        answer = {"c": inputs["a"] * 2, "d": np.array(len(inputs["b"]) * 1.0)}
        return {name: answer[name] for name in outputs or ("c",)}


@pytest.fixture(scope="module")
def strict() -> Any:
    with in_process({"m": Strict()}) as server:
        yield server


A = Tensor("a", "FP32", (2, 2), (1.0, 2.0, 3.0, 4.0))
B = Tensor("b", "BYTES", (2,), (b"x", b"y"))


def ask(server: InProcess, *inputs: Tensor, **more: Any) -> tuple[int, Any]:
    answer = call(server.url, "POST", "/v2/models/m/infer", request(list(inputs), **more)[0])
    return answer.status, answered(answer)[1] if answer.status == 200 else json.loads(answer.body)["error"]


def test_what_does_not_fit_the_model_is_refused_in_words(strict: InProcess) -> None:
    for inputs, outputs, words in (
        ((A,), None, "missing input 'b'"),
        ((A, B, Tensor("e", "FP32", (), (1.0,))), None, "there is no input 'e'"),
        ((Tensor("a", "FP64", (2, 2), A.elements), B), None, "is float64, but the model takes float32"),
        ((Tensor("a", "FP32", (4,), A.elements), B), None, "takes 2 dimensions"),
        ((Tensor("a", "FP32", (1, 2), A.elements[:2]), B), None, "is already 1"),
        ((A, Tensor("b", "INT32", (2,), (1, 2))), None, "text and numbers"),
        ((A, B), [{"name": "e"}], "there is no output 'e'"),
    ):
        status, said = ask(strict, *inputs, outputs=outputs)
        assert (status, words in said) == (400, True), said


def test_outputs_come_in_the_order_that_they_are_asked_for(strict: InProcess) -> None:
    c, d = Tensor("c", "FP32", (2, 2), (2.0, 4.0, 6.0, 8.0)), Tensor("d", "FP64", (), (2.0,))
    assert ask(strict, B, A) == (200, [c])
    assert ask(strict, A, B, outputs=[]) == (200, [c])
    assert ask(strict, A, B, outputs=[{"name": "d"}, {"name": "c"}]) == (200, [d, c])


class Odd(Echo):
    """Answers what cannot travel, or not in JSON."""

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        return {
            "nan": {"y": np.array([1.0, np.nan], "f4")},
            "infinite": {"y": np.array([-np.inf])},
            "no text": {"y": np.array([b"\xff"], object)},
            "complex": {"y": np.array([1j])},
            "objects": {"y": np.array([object()], object)},
            "a list": [1],
            "foreign order": {"y": np.arange(3, dtype=">i4")},
            "strided": {"y": np.arange(6, dtype="i2")[::2]},
            "fixed width": {"y": np.array(["é", "ab"])},
            "half true": {"y": np.array([2, 0], np.uint8).view(bool)},
        }[config]


@pytest.fixture(scope="module")
def odd() -> Any:
    with in_process({"m": Odd()}) as server:
        yield server


def ask_odd(server: InProcess, config: str, as_bytes: bool) -> Any:
    more = {"parameters": {"config": config, "binary_data_output": as_bytes}}
    return call(server.url, "POST", "/v2/models/m/infer", request([A], **more)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "words"),
    [("nan", "NaN or infinities"), ("infinite", "NaN or infinities"), ("no text", "no text in UTF-8")],
)
def test_an_answer_that_json_cannot_say_is_refused_and_can_be_had_as_bytes(
    odd: InProcess, config: str, words: str
) -> None:
    refused = ask_odd(odd, config, False)
    assert refused.status == 400
    said = json.loads(refused.body)["error"]
    assert words in said
    assert "ask for it as bytes (binary_data)" in said
    assert len(answered(ask_odd(odd, config, True))[1]) == 1


@pytest.mark.parametrize("config", ["complex", "objects", "a list"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_an_answer_that_cannot_travel_is_the_model_s_failure(odd: InProcess, config: str, as_bytes: bool) -> None:
    failed = ask_odd(odd, config, as_bytes)
    assert failed.status == 500
    assert "model 'm'" in json.loads(failed.body)["error"]


@pytest.mark.parametrize("as_bytes", [True, False])
def test_however_a_model_s_arrays_lie_in_memory_they_travel(odd: InProcess, as_bytes: bool) -> None:
    for config, want in (
        ("foreign order", Tensor("y", "INT32", (3,), (0, 1, 2))),
        ("strided", Tensor("y", "INT16", (3,), (0, 2, 4))),
        ("fixed width", Tensor("y", "BYTES", (2,), ("é".encode(), b"ab"))),
        ("half true", Tensor("y", "BOOL", (2,), (True, False))),
    ):
        assert answered(ask_odd(odd, config, as_bytes))[1] == [want]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("name", "datatype", "shape", "data", "parameters")


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSONS, max_size=5),
    st.dictionaries(st.sampled_from(("id", "inputs", "outputs", "parameters")), JSONS, max_size=2),
    st.binary(max_size=9),
    st.none() | st.integers(0, 60),
)
def test_whatever_comes_is_answered_or_refused_as_a_caller_s_mistake(
    ways: dict[str, Way], damage: dict[str, Any], around: dict[str, Any], behind: bytes, length: int | None
) -> None:
    text = json.dumps({"inputs": [ONE | damage]} | around).encode()
    answer = post(ways, "hot", INFER, text + behind, len(text) if length == 60 else length)
    assert answer.status in (200, 400, 413, 501), answer.text
    assert answer.status == 200 or set(json.loads(answer.body)) == {"error"}


def test_a_name_that_is_long_does_not_make_the_refusal_long(ways: dict[str, Way]) -> None:
    name = "m" * 8000
    for way in WAYS:
        for path in (f"/v2/models/{name}/infer", f"/v2/models/echo/versions/{name}/infer", f"/v2/{name}"):
            refused = post(ways, way, path, GOOD)
            assert refused.status == 404
            assert len(refused.body) < 600


@pytest.mark.parametrize("way", ["", "?x"])
def test_a_body_that_does_not_come_is_refused_in_the_protocol_s_form(way: str) -> None:
    with in_process(body_timeout_s=0.1) as server, Wire(server.url, 30) as wire:
        wire.send(f"POST {INFER}{way} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{{".encode())
        answer = wire.answer()
        assert answer.status == 408
        assert answer.headers["content-type"] == "application/json"
        assert "--body-timeout-s" in json.loads(answer.body)["error"]
        assert wire.ended()
