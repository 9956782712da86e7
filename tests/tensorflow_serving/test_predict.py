"""What is sent in JSON comes back in JSON, in rows for rows and in columns for columns, exactly."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import InProcess, Way, in_process
from tests.open_inference.oracle import WAYS, post
from tests.open_inference.test_tensors import DTYPES, elements
from tests.raw_http import Answer, call

Array = NDArray[Any]
ECHO = "/v1/models/echo:predict"


class Typed(Echo):
    """Gives back what it gets, which is of these types."""

    gives_inputs = False

    def __init__(self, **dtypes: Any) -> None:
        specs = tuple(TensorSpec(name, np.dtype(dtype)) for name, dtype in dtypes.items())
        self.signature = Signature(specs, specs)

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        return {spec.name: inputs[spec.name].copy() for spec in self.signature.inputs}


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    models: dict[str, Any] = {name: Typed(x=dtype) for name, dtype in DTYPES.items()}
    with in_process(models | {"several": Typed(a="f4", b=object, c="i8")}, strings_max=5000) as running:
        yield running


def said(answer: Answer, key: str) -> Any:
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.text
    document = json.loads(answer.body)
    assert set(document) == {key}
    return document[key]


def predict(server: InProcess, model: str, document: Any, way: str = "hot") -> Answer:
    return post({"hot": Way(server)}, way, f"/v1/models/{model}:predict", json.dumps(document).encode())


def listed(array: Array) -> Any:
    return json.loads(json.dumps(array.tolist(), default=bytes.decode))


def same(value: Any, array: Array) -> bool:
    """Whether a value of JSON is the array: of its shape, as far as lists without elements have one."""
    if array.dtype.kind == "O":
        return bool(value == listed(array))
    come = np.array(value, array.dtype)
    return come.tobytes() == array.tobytes() and (come.shape == array.shape or not array.size)


@st.composite
def tensors(draw: st.DrawFn, rows: int | None = None) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    shape = shape if rows is None else (rows, *shape)
    flat = np.empty(math.prod(shape), DTYPES[datatype])
    flat[:] = draw(st.lists(elements(datatype), min_size=flat.size, max_size=flat.size))
    return datatype, flat.reshape(shape)


NOT_BY_ITSELF = {"unix", "tls"}  # servers of their own, which have echo alone


@settings(max_examples=200, deadline=None)
@given(tensors(), st.sampled_from(sorted(set(WAYS) - NOT_BY_ITSELF)), st.booleans(), st.booleans())
def test_columns_come_back_as_they_were(
    server: InProcess, sent: tuple[str, Array], way: str, named: bool, versioned: bool
) -> None:
    datatype, array = sent
    model = f"{datatype}/versions/1" if versioned else datatype
    document = {"inputs": {"x": listed(array)} if named else listed(array), "signature_name": "serving_default"}
    assert same(said(predict(server, model, document, way), "outputs"), array)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4).flatmap(lambda rows: tensors(rows)), st.booleans())
def test_rows_come_back_as_they_were(server: InProcess, sent: tuple[str, Array], named: bool) -> None:
    datatype, array = sent
    rows = [{"x": row} if named else row for row in listed(array)]
    assert same(said(predict(server, datatype, {"instances": rows}), "predictions"), array)


@pytest.mark.parametrize("number", [1, 3, 2000])
def test_several_inputs_come_back_in_rows_and_in_columns(server: InProcess, number: int) -> None:
    a = np.linspace(-1, 1, number * 6, dtype=np.float32).reshape(number, 2, 3)
    columns = {"a": a.tolist(), "b": [f"é{i}" for i in range(number)], "c": list(range(number))}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    came = said(predict(server, "several", {"inputs": columns}), "outputs")
    assert same(came.pop("a"), a)
    assert came == {"b": columns["b"], "c": columns["c"]}
    came = said(predict(server, "several", {"instances": rows}), "predictions")
    assert same([row.pop("a") for row in came], a)
    assert came == [{"b": row["b"], "c": row["c"]} for row in rows]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [[1.5, -2.25], [7, 2**31 - 1], [2**40], [2**63], ["a", "é", ""], [True, False], [[]]])
def test_a_model_that_says_no_type_gets_what_the_values_are(ways: dict[str, Way], way: str, value: Any) -> None:
    body = json.dumps({"instances": value}).encode()
    assert said(post(ways, way, ECHO, body), "predictions") == value


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1.5, 2], "f4"),
        ([1, 2], "i4"),
        ([-(2**31)], "i4"),
        ([2**31], "i8"),
        ([2**63], "u8"),
        ([True], "?"),
        (["a"], object),
    ],
)
def test_the_types_of_values_are_tensorflow_s(value: Any, dtype: Any) -> None:
    got: list[Any] = []

    class Looking(Echo):
        def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
            got.append(inputs["input"].dtype)
            return dict(inputs)

    with in_process({"m": Looking()}) as server:
        assert said(predict(server, "m", {"inputs": value}), "outputs") == value
    assert got == [np.dtype(dtype)]


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_a_tensor_is_the_same_to_whoever_speaks_graphpipe(server: InProcess, datatype: str) -> None:
    array = np.array([["a", "é"], ["", "b"]], object) if datatype == "BYTES" else np.eye(2).astype(DTYPES[datatype])
    with graphpipe.Client(f"{server.url}/models/{datatype}") as client:
        ours = client.infer({"x": array})["x"]
    assert said(predict(server, datatype, {"inputs": listed(array)}), "outputs") == listed(ours)


def test_bytes_travel_as_base64(server: InProcess) -> None:
    with in_process({"m": Typed(image_bytes=object, n="i4"), "one": Typed(image_bytes=object)}) as running:
        strings = [b"", b"\xff\x00", bytes(range(256))]
        coded = [{"b64": base64.b64encode(each).decode()} for each in strings]
        rows = [{"image_bytes": each, "n": i} for i, each in enumerate(coded)]
        assert said(predict(running, "m", {"instances": rows}), "predictions") == rows
        columns = {"image_bytes": coded, "n": [1, 2, 3]}
        assert said(predict(running, "m", {"inputs": columns}), "outputs") == columns
        for document, key in (({"instances": coded}, "predictions"), ({"inputs": [coded, coded]}, "outputs")):
            assert said(predict(running, "one", document), key) == next(iter(document.values()))
        assert said(predict(running, "one", {"inputs": coded[1]}), "outputs") == coded[1]
        assert said(predict(running, "one", {"inputs": ["text", coded[0]]}), "outputs")[0] == {"b64": "dGV4dA=="}
        # As some encoders write it: in lines, or without its padding.
        for written in (base64.encodebytes(strings[2]).decode(), base64.b64encode(strings[1]).decode().rstrip("=")):
            (came,) = said(predict(running, "one", {"instances": [{"b64": written}]}), "predictions")
            assert base64.b64decode(came["b64"]) in strings


@pytest.mark.parametrize("way", WAYS)
def test_large_tensors_come_back_whole(ways: dict[str, Way], way: str) -> None:
    numbers = (np.arange(70_000, dtype=np.float32) / 8).reshape(700, 100)
    texts = [[f"{i}"] * 10 for i in range(5000)]
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        assert same(said(post(ways, way, ECHO, json.dumps({key: numbers.tolist()}).encode()), answer), numbers)
        assert said(post(ways, way, ECHO, json.dumps({key: texts}).encode()), answer) == texts


def test_whole_numbers_are_numbers_of_floating_point_too(server: InProcess) -> None:
    answer = predict(server, "FP32", {"instances": [1, 2.5, -3]})
    assert answer.text == '{"predictions":[1.0,2.5,-3.0]}'
    assert predict(server, "FP32", {"inputs": 0.1}).text == '{"outputs":0.1}'


def test_what_else_a_request_says_is_ignored(server: InProcess) -> None:
    assert said(
        predict(server, "INT32", {"instances": [1], "parameters": {}, "signature_name": ""}), "predictions"
    ) == [1]


def test_who_asks_again_on_one_connection_is_answered_again(ways: dict[str, Way]) -> None:
    with ways["hot"].wire() as wire:
        for i in range(5):
            body = json.dumps({"instances": [i]}).encode()
            assert said(wire.call("POST", ECHO, body), "predictions") == [i]
            assert wire.call("GET", "/v1/models/echo").status == 200
            assert call(ways["hot"].server.url, "GET", "/livez").status == 200
