"""What is wrong is said in the protocol's own form, with the status of a caller's mistake, and the next caller is served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.backends.echo import Echo
from graphpipe.errors import InvalidRequest
from graphpipe.server.protocols.tensorflow_serving.request import predict_in
from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import InProcess, Way, in_process
from tests.open_inference.oracle import WAYS, post
from tests.open_inference.test_bad_input import JSONS
from tests.raw_http import call

ECHO = "/v1/models/echo:predict"
GOOD = b'{"instances": [1.5]}'


def error(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/json"
    said = json.loads(answer.body)
    assert set(said) == {"error"}
    assert len(said["error"]) < 700
    return str(said["error"])


# The body of a request; status; words.
BAD: dict[str, tuple[bytes, int, str]] = {
    "no body": (b"", 400, "this is no JSON"),
    "broken": (b'{"instances": [', 400, "this is no JSON"),
    "no UTF-8": (b'{"instances": ["\xff"]}', 400, "this is no JSON"),
    "NaN": (b'{"instances": [NaN]}', 400, "this is no JSON"),
    "infinity": (b'{"instances": [-Infinity]}', 400, "this is no JSON"),
    "deep": (b"[" * 5000 + b"]" * 5000, 400, "this is no JSON"),
    "deep rows": (b'{"instances": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "32 times"),
    "a list": (b"[1]", 400, "no JSON object"),
    "nothing": (b"{}", 400, '"instances"'),
    "rows and columns": (b'{"instances": [1], "inputs": [1]}', 400, "send one of both"),
    "rows that are none": (b'{"instances": 1}', 400, "a list of one row or more"),
    "rows that are an object": (b'{"instances": {"x": 1}}', 400, "a list of one row or more"),
    "no rows": (b'{"instances": []}', 400, "a list of one row or more"),
    "null": (b'{"instances": [null]}', 400, "null came"),
    "ragged": (b'{"instances": [[[1], [2]], [[1], [2, 3]]]}', 400, "instances[1][1]"),
    "ragged columns": (b'{"inputs": {"x": [[1, 2], [3]]}}', 400, "inputs['x'][1]"),
    "a list among numbers": (b'{"instances": [1, 2, [3]]}', 400, "instances[2]"),
    "a number among lists": (b'{"instances": [[1], 2]}', 400, "instances[1]"),
    "a number among strings": (b'{"instances": ["a", 1]}', 400, "a whole number came"),
    "an object among numbers": (b'{"instances": [1, {}]}', 400, "an object came"),
    "an object among strings": (b'{"instances": ["a", {}]}', 400, "among its strings"),
    "nothing but an object": (b'{"inputs": {"x": {}}}', 400, "among its strings"),
    "rows of different inputs": (b'{"instances": [{"x": 1}, {"y": 1}]}', 400, "instances[1] is no object with the inputs"),
    "rows of more inputs": (b'{"instances": [{"x": 1}, {"x": 1, "y": 1}]}', 400, "instances[1]"),
    "a row that is a number": (b'{"instances": [{"x": 1}, 1]}', 400, "instances[1]"),
    "base64 that is none": (b'{"instances": [{"b64": "!"}]}', 400, "no base64"),
    "base64 in another script": (b'{"instances": [{"b64": "\xc3\xa9"}]}', 400, "no base64"),
    "an input without a name": (b'{"inputs": {"": 1}}', 400, "empty name"),
    "a long name": (json.dumps({"inputs": {"x" * 65537: 1}}).encode(), 413, "65,537 characters"),
    "many inputs": (json.dumps({"inputs": {str(i): 1 for i in range(4097)}}).encode(), 413, "4097 inputs"),
    "a signature that is a number": (b'{"instances": [1], "signature_name": 1}', 400, "signature_name is a string"),
    "another signature": (b'{"instances": [1], "signature_name": "other"}', 400, "no signature 'other'"),
    "beyond all integers": (b'{"inputs": [18446744073709551615, -1]}', 400, "int64 cannot hold"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_what_is_wrong_by_every_way_in(ways: dict[str, Way], what: str) -> None:
    body, status, words = BAD[what]
    for way in WAYS:
        answer = post(ways, way, ECHO, body)
        assert words in error(answer)
        assert answer.status == status, way
        assert post(ways, way, ECHO, GOOD).status == 200


NESTED = st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=20)


@given(st.lists(NESTED, min_size=1, max_size=3))
def test_the_first_list_that_is_unlike_the_others_is_named(rows: list[Any]) -> None:
    signature = Signature((TensorSpec("x", np.dtype("i8")),), ())
    try:
        want = np.array(rows, np.int64)
    except ValueError:
        want = None
    try:
        (array,) = predict_in({"instances": rows}, signature, 10).arrays
    except InvalidRequest as error:
        assert want is None
        places = re.findall(r"\[(\d+)\]", error.message.rpartition("; the first that is unlike the others is ")[2])
        odd: Any = rows
        alike: Any = rows
        for place in map(int, places):
            odd, alike = odd[place], alike[0]
        assert places
        assert type(odd) is not type(alike) or len(odd) != len(alike)
    else:
        assert want is not None
        assert (array.shape, array.tolist()) == (want.shape, want.tolist())


class Strict(Echo):
    """Takes two tensors that belong together, and gives what is asked for by the first number."""

    gives_inputs = False
    signature = Signature(
        (TensorSpec("a", np.dtype("f4"), ("n", 2)), TensorSpec("b", np.dtype(object), ("n",))),
        (TensorSpec("y"), TensorSpec("z")),
        default_outputs=("y",),
    )

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        return {
            0: {"y": inputs["a"]},
            1: {"y": np.array([1.0, np.nan], "f4")},
            2: {"y": np.array([-np.inf])},
            3: {"y": np.array([b"\xff"], object)},
            4: {"y": np.float32(4)[...]},
            5: {"y": np.array([1j])},
            6: {"y": np.array([object()], object)},
            7: {"y": np.arange(3, dtype=">i4")},
            8: {"y": np.arange(6, dtype="i2")[::2]},
            9: {"y": np.array(["é", "ab"])},
            10: {"y": np.array([2, 0], np.uint8).view(bool)},
        }[int(inputs["a"][0, 0])]


class Uneven(Strict):
    signature = Signature(Strict.signature.inputs, Strict.signature.outputs)

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        return {"y": inputs["a"], "z": np.zeros(len(inputs["a"]) + 1)}


@pytest.fixture(scope="module")
def strict() -> Iterator[InProcess]:
    with in_process({"m": Strict(), "uneven": Uneven(), "typed": Ints()}) as server:
        yield server


class Ints(Echo):
    signature = Signature((TensorSpec("i", np.dtype("i4"), ("n",)),), (TensorSpec("i", np.dtype("i4"), ("n",)),))


def ask(server: InProcess, document: Any, model: str = "m") -> Any:
    return call(server.url, "POST", f"/v1/models/{model}:predict", json.dumps(document).encode())


def given_first(first: float, key: str = "inputs") -> Any:
    return {key: {"a": [[first, 0]], "b": ["x"]} if key == "inputs" else [{"a": [first, 0], "b": "x"}]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"inputs": {"a": [[1, 2]]}}, "missing input 'b'"),
        ({"instances": [[1, 2]]}, "missing input 'b'"),
        ({"inputs": [[1, 2]]}, "the model has 2 inputs"),
        ({"inputs": {"a": [[1, 2]], "b": ["x"], "c": 1}}, "there is no input 'c'"),
        ({"instances": [{"a": [1, 2], "b": "x"}, {"a": [1], "b": "x"}]}, "instances[1]['a']"),
        ({"inputs": {"a": [1, 2], "b": ["x"]}}, "dimensions"),
        ({"inputs": {"a": [[1, 2]], "b": ["x", "y"]}}, "is already 1"),
        ({"inputs": {"a": [["1", 2]], "b": ["x"]}}, "a string came"),
        ({"inputs": {"a": [[True, 2]], "b": ["x"]}}, "true or false came"),
        ({"inputs": {"a": [[1e39, 2]], "b": ["x"]}}, "float32 cannot hold"),
        ({"inputs": {"a": [[1, 2]], "b": [1]}}, "a whole number came"),
        ({"inputs": {"a": [[1, {"b64": ""}]], "b": ["x"]}}, "an object came"),
        ({"inputs": {"a": [[1, 2]], "b": [{"b64": "", "c": 1}]}}, 'no {"b64"'),
    ],
)
def test_what_does_not_fit_the_model_is_refused_in_words(strict: InProcess, document: Any, words: str) -> None:
    answer = ask(strict, document)
    assert words in error(answer)
    assert answer.status == 400


@pytest.mark.parametrize("value", [1.5, 1.0, 2**31, "1", True, None])
def test_whole_numbers_are_nothing_else(strict: InProcess, value: Any) -> None:
    assert ask(strict, {"instances": [value]}, "typed").status == 400
    assert ask(strict, {"instances": [1]}, "typed").status == 200


def test_more_strings_than_are_taken_are_refused() -> None:
    with in_process(strings_max=100) as server:
        for document in ({"instances": ["a"] * 101}, {"inputs": {"x": ["a"] * 60, "y": ["b"] * 41}}):
            answer = ask(server, document, "echo")
            assert answer.status == 413
            assert "--strings-max" in error(answer)
        assert ask(server, {"inputs": {"x": ["a"] * 60, "y": ["b"] * 40}}, "echo").status == 200


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize(("first", "words"), [(1, "NaN or infinities"), (2, "NaN or infinities"), (3, "_bytes")])
def test_an_answer_that_json_cannot_say_is_refused_and_never_null(
    strict: InProcess, key: str, first: float, words: str
) -> None:
    answer = ask(strict, given_first(first, key))
    assert answer.status == 400
    assert words in error(answer)


def test_outputs_that_are_no_rows_are_refused_as_rows_and_said_as_columns(strict: InProcess) -> None:
    refused = ask(strict, given_first(4, "instances"))
    assert (refused.status, 'send "inputs"' in error(refused)) == (400, True)
    assert ask(strict, given_first(4)).text == '{"outputs":4.0}'
    refused = ask(strict, given_first(0, "instances"), "uneven")
    assert (refused.status, "'z' has shape [2]" in error(refused)) == (400, True)
    assert json.loads(ask(strict, given_first(0), "uneven").body)["outputs"]["z"] == [0, 0]


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("first", [5, 6])
def test_an_answer_that_cannot_travel_is_the_model_s_failure(strict: InProcess, key: str, first: float) -> None:
    failed = ask(strict, given_first(first, key))
    assert failed.status == 500
    assert "model 'm'" in error(failed)


@pytest.mark.parametrize(("first", "want"), [(7, [0, 1, 2]), (8, [0, 2, 4]), (9, ["é", "ab"]), (10, [True, False])])
def test_however_a_model_s_arrays_lie_in_memory_they_travel(strict: InProcess, first: float, want: Any) -> None:
    assert json.loads(ask(strict, given_first(first)).body) == {"outputs": want}
    assert json.loads(ask(strict, given_first(first, "instances")).body) == {"predictions": want}


def test_a_body_beyond_the_limit_is_refused(ways: dict[str, Way]) -> None:
    large = json.dumps({"instances": [0] * (1 << 20)}).encode()
    for way in WAYS:
        answer = post(ways, way, ECHO, large)
        assert answer.status == 413, way
        error(answer)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(("instances", "inputs", "signature_name", "examples", "context")), JSONS, max_size=3
    ),
    st.sampled_from(("predict", "predict", "classify", "regress")),
)
def test_whatever_comes_is_answered_or_refused_as_a_caller_s_mistake(
    ways: dict[str, Way], document: dict[str, Any], verb: str
) -> None:
    answer = post(ways, "hot", f"/v1/models/echo:{verb}", json.dumps(document).encode())
    assert answer.status in (200, 400, 413), answer.text
    if answer.status != 200:
        error(answer)
