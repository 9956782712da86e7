"""What a client sends comes back from echo as it was, in whatever form it was sent and asked for."""

from __future__ import annotations

import json
import math
import struct
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from tests.front.servers import Way
from tests.open_inference.oracle import FORMATS, WAYS, Tensor, answered, post, request

INFER = "/v2/models/echo/infer"

LIMITS = {
    "INT8": (-(2**7), 2**7 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT8": (0, 2**8 - 1),
    "UINT16": (0, 2**16 - 1),
    "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**64 - 1),
}
WIDTHS = {"FP16": 16, "FP32": 32, "FP64": 64}
DTYPES = {
    "BOOL": "?", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "UINT16": "u2",
    "UINT32": "u4", "UINT64": "u8", "FP16": "f2", "FP32": "f4", "FP64": "f8", "BYTES": object,
}  # fmt: skip


def elements(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(max_size=9).map(str.encode)
    if datatype in LIMITS:
        return st.integers(*LIMITS[datatype])
    return st.floats(width=WIDTHS[datatype], allow_nan=False, allow_infinity=False)


@st.composite
def tensors(draw: st.DrawFn) -> list[Tensor]:
    made = []
    for name in draw(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True)):
        datatype = draw(st.sampled_from([*FORMATS, "BYTES"]))
        shape = draw(st.lists(st.integers(0, 3), max_size=4).map(tuple))
        number = math.prod(shape)
        made.append(
            Tensor(name, datatype, shape, tuple(draw(st.lists(elements(datatype), min_size=number, max_size=number))))
        )
    return made


@settings(max_examples=150, deadline=None)
@given(
    tensors(),
    st.sets(st.integers(0, 3)),
    st.sampled_from(WAYS),
    st.booleans(),
    st.dictionaries(st.integers(0, 3), st.booleans()),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, "", "7", "é"]),
)
def test_tensors_come_back_as_they_were_in_the_form_that_was_asked_for(
    ways: dict[str, Way],
    inputs: list[Tensor],
    as_bytes: set[int],
    way: str,
    nested: bool,
    form: dict[int, bool],
    others: bool | None,
    called: str | None,
) -> None:
    names = [tensor.name for tensor in inputs]
    more: dict[str, Any] = {} if others is None else {"parameters": {"binary_data_output": others, "unknown": [1]}}
    if called is not None:
        more["id"] = called
    wanted = [names[i] for i in sorted(form) if i < len(names)]
    outputs = [
        {"name": name, "parameters": {"binary_data": form[names.index(name)]}} for name in reversed(wanted)
    ] or None
    bytes_of = {names[i] for i in as_bytes if i < len(names)}
    body, length = request(inputs, bytes_of or None, nested=nested, outputs=outputs, **more)
    answer = post(ways, way, INFER, body, length)
    said, came = answered(answer)
    assert said == {"model_name": "echo", "model_version": "1", **({"id": called} if called is not None else {})}
    assert came == ([inputs[names.index(each["name"])] for each in outputs] if outputs else inputs)
    document = json.loads(answer.body[: int(answer.headers.get("inference-header-content-length", len(answer.body)))])
    for output in document["outputs"]:
        asked = form[names.index(output["name"])] if outputs else bool(others)
        assert ("parameters" in output) == asked


@pytest.mark.parametrize("datatype", [*FORMATS, "BYTES"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_tensor_is_the_same_to_whoever_speaks_graphpipe(ways: dict[str, Way], datatype: str, as_bytes: bool) -> None:
    low, high = LIMITS.get(datatype, (0, 1))
    array = np.array([[low, high, 1], [0, 1, 0]], DTYPES[datatype])
    if datatype == "BYTES":
        array = np.array([[b"a", b"", "é".encode()]], object)
    tensor = Tensor("x", datatype, array.shape, tuple(array.reshape(-1).tolist()))
    body, length = request([tensor], {"x"} if as_bytes else None)
    _, (came,) = answered(post(ways, "hot", INFER, body, length))
    with graphpipe.Client(ways["hot"].server.url) as client:
        ours = client.infer({"x": array}, outputs=["x"])["x"]
    assert came.shape == ours.shape
    assert list(came.elements) == ours.reshape(-1).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_bytes_that_are_no_text_travel_as_bytes(ways: dict[str, Way], way: str) -> None:
    tensor = Tensor("x", "BYTES", (3,), (b"\xff\x00", b"", bytes(range(256))))
    body, length = request([tensor], {"x"}, parameters={"binary_data_output": True})
    assert answered(post(ways, way, INFER, body, length))[1] == [tensor]


def test_infinities_and_nan_travel_as_bytes(ways: dict[str, Way]) -> None:
    tensor = Tensor("x", "FP32", (3,), (math.inf, -math.inf, math.nan))
    body, length = request([tensor], {"x"}, parameters={"binary_data_output": True})
    _, (came,) = answered(post(ways, "hot", INFER, body, length))
    assert came.octets == tensor.octets


def test_true_is_any_byte_but_zero(ways: dict[str, Way]) -> None:
    body, length = request([Tensor("x", "BOOL", (4,), (True, True, False, True))], {"x"})
    body = body[:-4] + b"\x01\xff\x00\x02"
    assert answered(post(ways, "hot", INFER, body, length))[1][0].elements == (True, True, False, True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BYTES", "BOOL"])
def test_large_tensors_come_back_whole(ways: dict[str, Way], way: str, datatype: str) -> None:
    number = 40_000
    values: dict[str, list[Any]] = {
        "FP32": np.linspace(-1, 1, number, dtype=np.float32).tolist(),
        "INT64": list(range(-(2**40), -(2**40) + number)),
        "BYTES": [b"%d" % i for i in range(number)],
        "BOOL": [bool(i % 3) for i in range(number)],
    }
    tensor = Tensor("x", datatype, (number // 100, 100), tuple(values[datatype]))
    for sent, wanted in product((None, {"x"}), (False, True)):
        body, length = request([tensor], sent, parameters={"binary_data_output": wanted})
        if len(body) > 1 << 20:
            continue  # more than this server takes
        assert answered(post(ways, way, INFER, body, length))[1] == [tensor]


def test_numbers_in_json_are_rounded_as_floating_point_is(ways: dict[str, Way]) -> None:
    text = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [0.1, 16777217, -3]}]}'
    _, (came,) = answered(post(ways, "hot", INFER, text))
    assert came.octets == struct.pack("<3f", 0.1, 16777217, -3)


def test_a_scalar_has_a_shape_without_dimensions(ways: dict[str, Way]) -> None:
    tensor = Tensor("x", "INT32", (), (5,))
    for as_bytes in (None, {"x"}):
        assert answered(post(ways, "hot", INFER, *request([tensor], as_bytes)))[1] == [tensor]


def test_what_is_null_is_not_there(ways: dict[str, Way]) -> None:
    one = {"name": "x", "datatype": "INT8", "shape": [1], "data": [1], "parameters": None}
    text = json.dumps({"id": None, "parameters": None, "outputs": None, "inputs": [one]}).encode()
    assert answered(post(ways, "hot", INFER, text)) == (
        {"model_name": "echo", "model_version": "1"},
        [Tensor("x", "INT8", (1,), (1,))],
    )


def test_a_json_that_is_remembered_says_of_other_bodies_what_it_said_of_the_first(ways: dict[str, Way]) -> None:
    first, second = (Tensor("x", "INT16", (4,), (i, 2, 3, 4)) for i in (1, 9))
    body, length = request([first], {"x"})
    for _ in range(2):
        assert answered(post(ways, "hot", INFER, body, length))[1] == [first]
    assert answered(post(ways, "hot", INFER, *request([second], {"x"})))[1] == [second]
    refused = post(ways, "hot", INFER, body + b"\0", length)
    assert (refused.status, json.loads(refused.body)) == (
        400,
        {"error": "9 bytes follow the JSON, and its inputs take 8 (binary_data_size)"},
    )
    assert answered(post(ways, "hot", INFER, body, length))[1] == [first]
