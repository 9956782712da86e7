"""The client's calls against a real server: the shapes of answers, the types of values, the names of things."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import remote
from graphpipe.errors import InvalidRequest, NotFound, TooLarge
from graphpipe.wire import InferRequest, Type, decode_request
from tests import onnx_graphs
from tests.canned import Caller, answer, canned, metadata, outputs
from tests.serving import Server, environment, serving

A = np.array([[1, 2, 3]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    models = [
        onnx_graphs.pair_sum(folder / "pair.onnx"),
        onnx_graphs.scaled(folder / "scaled.onnx", 2),
        onnx_graphs.passing(folder / "text.onnx", onnx_graphs.STRING, ["n"]),
        onnx_graphs.passing(folder / "flags.onnx", onnx_graphs.BOOL, ["n"]),
        onnx_graphs.passing(folder / "half.onnx", onnx_graphs.FLOAT16, ["n", 2]),
        onnx_graphs.passing(folder / "whole.onnx", onnx_graphs.INT64, []),
        onnx_graphs.passing(folder / "small.onnx", 3, ["n"]),  # int8
        "echo",
    ]
    with serving(*(part for model in models for part in ("-m", model))) as server:
        yield server


def at(server: Server, model: str) -> str:
    return f"{server.url}/models/{model}"


# --- the original's calls ---------------------------------------------------------------------------------------------


def test_one_output_is_an_array_and_several_are_a_list(server: Server) -> None:
    one = remote.execute(at(server, "scaled"), np.ones((2, 4), np.float32))
    assert isinstance(one, np.ndarray)
    assert one.tolist() == [[2] * 4] * 2
    both = remote.execute_multi(server.url, [A, 10 * A])
    assert isinstance(both, list)
    assert [array.tolist() for array in both] == [[[11, 22, 33]], [[2, 4, 6]]]
    with graphpipe.Client(server.url) as client:
        single = client.execute_multi([A, A], ["a", "b"], ["sum"])
        assert isinstance(single, list)
        assert len(single) == 1


def test_names_may_be_given_partly_in_any_order_and_twice(server: Server) -> None:
    call = remote.execute_multi
    assert call(server.url, [A, 10 * A], ["b", "a"])[1].tolist() == [[20, 40, 60]]
    assert call(server.url, [A, 10 * A], ["a"])[1].tolist() == [[2, 4, 6]]
    assert call(server.url, [A, 10 * A], [None, "b"], ["twice"])[0].tolist() == [[2, 4, 6]]
    assert call(server.url, [A, 10 * A], ["a", "b", "more", "names"], ["twice"])[0].tolist() == [[2, 4, 6]]
    asked = call(server.url, [A, 10 * A], None, ["twice", "sum", "twice"])
    assert [array[0, 0] for array in asked] == [2, 11, 2]
    assert [array[0, 0] for array in call(server.url, [A, 10 * A], None, [None, ""])] == [11, 2]
    assert remote.execute(at(server, "scaled"), np.ones((1, 4), np.float32), "x", "y")[0, 0] == 2


def test_what_a_model_takes_and_gives_is_said_as_the_original_said_it(server: Server) -> None:
    assert remote.get_input_names(server.url) == ["a", "b"]
    assert remote.get_output_names(server.url) == ["sum", "twice"]
    assert remote.get_input_shapes(server.url) == [[None, 3], [None, 3]]
    assert remote.get_output_shapes(server.url) == [[None, 3], [None, 3]]
    assert remote.get_input_types(server.url) == [np.dtype("float32")] * 2
    assert remote.get_output_types(at(server, "text")) == [np.dtype(object)]
    assert remote.get_input_types(at(server, "flags")) == [np.dtype("uint8")]  # how bool travels
    assert remote.get_input_types(at(server, "half")) == [np.dtype("float16")]
    assert remote.get_input_shapes(at(server, "whole")) == [[]]
    assert remote.get_input_types(at(server, "echo")) == [None]
    message = remote.metadata(server.url)
    assert (message.name, message.server) == ("pair", f"graphpipe/{graphpipe.__version__}")
    assert (message.inputs[0].name, message.inputs[0].type) == ("a", Type.FLOAT32)


def test_the_config_reaches_the_model_as_it_is() -> None:
    seen: list[str] = []

    def talk(caller: Caller) -> None:
        while body := caller.read_request():
            message = decode_request(body)
            assert isinstance(message, InferRequest)
            seen.append(message.head.config)
            caller.send(answer(outputs(A)))

    text = '{"k": "ü"}' + "x" * 10_000
    with canned(talk) as server:
        remote.execute(server.url, A, config=text)
        remote.execute_multi(server.url, [A], None, None, text)
        remote.execute_multi(server.url, [A], None, None, None)
        graphpipe.Client(server.url).infer({"x": A}, ["y"], config=text)
    assert seen == [text, text, "", text]


def test_a_single_string_for_a_list_of_names_is_refused_before_it_is_sent(server: Server) -> None:
    with pytest.raises(InvalidRequest, match=r"\['a'\]"):
        remote.execute_multi(server.url, [A, A], "a")  # type: ignore[arg-type]


# --- infer ------------------------------------------------------------------------------------------------------------


def test_infer_takes_and_gives_arrays_by_name(server: Server) -> None:
    with graphpipe.Client(server.url) as client:
        answer = client.infer({"b": A, "a": 10 * A})
        assert list(answer) == ["sum", "twice"]
        assert answer["twice"].tolist() == [[20, 40, 60]]
        assert list(client.infer({"a": A, "b": A}, ["twice"])) == ["twice"]
        assert list(client.infer({"a": A, "b": A}, ["twice", "sum"])) == ["twice", "sum"]
        assert list(client.infer({"a": A, "b": A}, [])) == ["sum", "twice"]


def test_infer_asks_for_metadata_once(server: Server) -> None:
    with canned() as counted, graphpipe.Client(counted.url) as client:
        for _ in range(5):
            assert client.infer({"x": A})["y"].tolist() == A.tolist()
        assert counted.requests == 6


@pytest.mark.parametrize("call", ["infer", "list"])
def test_a_model_that_took_the_place_of_another_is_noticed(serve, tmp_path: Path, call: str) -> None:
    """Between two calls on one port: other outputs, other types."""
    floats = serve("-m", onnx_graphs.scaled(tmp_path / "scaled.onnx", 2))
    with graphpipe.Client(floats.url) as client:

        def run() -> object:
            if call == "infer":
                return {name: array.tolist() for name, array in client.infer({"x": [[1, 2, 3, 4]]}).items()}
            return client.execute([[1, 2, 3, 4]]).tolist()

        assert run() == ({"y": [[2, 4, 6, 8]]} if call == "infer" else [[2, 4, 6, 8]])
        floats.stop()
        other = onnx_graphs.save(
            tmp_path / "other.onnx", [onnx_graphs.helper.make_node("Neg", ["x"], ["negative"])],
            [("x", onnx_graphs.INT64, ["n", 4])], [("negative", onnx_graphs.INT64, ["n", 4])],
        )  # fmt: skip
        serve("-m", other, listen=f"127.0.0.1:{floats.port}")
        negative = [[-1, -2, -3, -4]]
        assert run() == ({"negative": negative} if call == "infer" else negative)


def test_a_wrong_request_is_refused_in_the_servers_words_and_not_repeated() -> None:
    def talk(caller: Caller) -> None:
        while body := caller.read_request():
            wrong = isinstance(decode_request(body), InferRequest)
            caller.send(answer(b"no\n", "400 Bad Request") if wrong else answer(metadata(["x"], ["y"])))

    with canned(talk) as server, graphpipe.Client(server.url) as client:
        for requests in (2, 4, 6):  # metadata and the call; then the call, and metadata to see whether it is still true
            with pytest.raises(InvalidRequest, match="no"):
                client.infer({"x": A})
            assert server.requests == requests
        for requests in (7, 8):
            with pytest.raises(InvalidRequest, match="no"):
                client.execute(A)
            assert server.requests == requests


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "value", "expected"),
    [
        ("scaled", [[1, 2, 3, 4]], [[2, 4, 6, 8]]),
        ("scaled", [[0.5, 1, 1.5, 2.0]], [[1, 2, 3, 4]]),
        ("scaled", np.zeros((0, 4), np.float32), []),
        ("half", [[1, 0.5]], [[1, 0.5]]),
        ("whole", 7, 7),
        ("whole", True, 1),
        ("small", [-128, 127], [-128, 127]),
        ("small", [], []),
        ("small", range(3), [0, 1, 2]),
        ("flags", [True, False], [1, 0]),
        ("flags", [1, 0], [1, 0]),
        ("flags", np.array([True, False]), [1, 0]),
        ("text", ["a", "ü", ""], [b"a", "ü".encode(), b""]),
        ("text", [b"nul\0", "nul\0\0"], [b"nul\0", b"nul\0\0"]),
        ("text", np.array(["a", "bc"]), [b"a", b"bc"]),
        ("text", [], []),
        ("echo", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("echo", 1.5, 1.5),
    ],
    ids=repr,
)  # fmt: skip
def test_lists_and_numbers_take_the_models_type(server: Server, model: str, value: object, expected: object) -> None:
    assert remote.execute(at(server, model), value).tolist() == expected


@pytest.mark.parametrize(
    ("model", "value", "words"),
    [
        ("scaled", np.ones((1, 4)), "cast=True in the client"),
        ("scaled", [["1", "2", "3", "4"]], "text and numbers are not converted"),
        ("scaled", [[1e300] * 4], "values that float32 cannot hold"),
        ("small", [1.5], r"convert it first: .astype\('int8'\)"),
        ("small", [128], "values that int8 cannot hold"),
        ("small", [2**70], "whole numbers that 64 bits cannot hold"),
        ("text", [1, 2], "text and numbers are not converted"),
        ("text", ["a", 1], "text and numbers"),
        ("text", [None], "element of type NoneType"),
        ("scaled", [[1, 2], [3]], "'x' is no array|input 0 is no array"),
        ("scaled", 1j, "does not travel"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(server: Server, model: str, value: object, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        remote.execute(at(server, model), value)


def test_cast_converts_numbers_that_fit(server: Server) -> None:
    with graphpipe.Client(at(server, "scaled")) as client:
        assert client.execute(np.ones((1, 4)), cast=True).tolist() == [[2] * 4]
        assert client.infer({"x": np.ones((1, 4), np.int32)}, cast=True)["y"].tolist() == [[2] * 4]
        with pytest.raises(InvalidRequest, match="cannot hold"):
            client.execute(np.full((1, 4), 1e300), cast=True)
    with graphpipe.Client(at(server, "small")) as client:
        assert client.execute(np.array([-128, 127]), cast=True).tolist() == [-128, 127]
        with pytest.raises(InvalidRequest, match="int8 cannot hold"):
            client.execute(np.array([300]), cast=True)  # and not 44
        with pytest.raises(InvalidRequest, match="convert it first"):
            client.execute(np.array([1.5]), cast=True)


def test_arrays_of_any_layout_are_sent_by_their_values(server: Server) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for given in (array.T, array[:, ::-1, ::2], np.asfortranarray(array), array.astype(">f4"), array[:, 1]):
        assert np.array_equal(remote.execute(at(server, "echo"), given), given)
    assert remote.execute(at(server, "echo"), np.float64(2.5)).dtype == np.float64


def test_answers_may_be_written_to_and_outlive_client_and_later_calls(server: Server) -> None:
    large = np.arange(300_000, dtype=np.float32)
    with graphpipe.Client(at(server, "echo")) as client:
        kept = [client.execute(large + i) for i in range(5)]
        part = client.execute(large)[1000:1010]
        for _ in range(5):
            client.execute(-large)
    for i, array in enumerate(kept):
        assert np.array_equal(array, large + i)
        array += 1
    assert part.tolist() == list(range(1000, 1010))


def test_large_answers_come_into_memory_that_is_used_again(server: Server) -> None:
    large = np.zeros(4_000_000, np.float32)
    places = set()
    with graphpipe.Client(at(server, "echo")) as client:
        for _ in range(10):
            places.add(client.execute(large).ctypes.data)
    assert len(places) == 1
    assert places.pop() % 64 == 0


def test_large_arrays_are_sent_from_their_own_memory() -> None:
    """Peak memory tells: a copy of 64 MB would show."""
    code = """
import resource, sys
import numpy as np, graphpipe
array = np.ones(64 << 18, np.float32)
client = graphpipe.Client(sys.argv[1])
client.execute_multi([array[:10]], None, None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
client.execute_multi([array], None, None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

    def talk(caller: Caller) -> None:
        while caller.read_request():
            caller.send(answer(outputs(A)))

    with canned(talk) as server:
        ended = subprocess.run(
            [sys.executable, "-c", code, server.url], env=environment(), capture_output=True, text=True, check=True
        )
    assert int(ended.stdout) < 16 * 1024  # KiB


def test_a_message_of_two_gib_is_refused_before_it_is_sent() -> None:
    half = np.empty(2**30, np.uint8)  # never touched: no memory is taken
    with canned() as server, graphpipe.Client(server.url) as client:
        with pytest.raises(TooLarge, match="send fewer rows"):
            client.execute_multi([half, half])
        assert server.requests == 0


def test_errors_carry_what_the_server_said(server: Server) -> None:
    with pytest.raises(NotFound, match="there is no model 'nobody'; there are 'pair', 'scaled'") as failure:
        remote.execute(at(server, "nobody"), A)
    assert (failure.value.code, failure.value.http_status) == (3, 404)
    with pytest.raises(InvalidRequest, match="did you mean 'sum'") as refusal:
        remote.execute_multi(server.url, [A, A], None, ["summ"])
    assert (refusal.value.code, refusal.value.http_status) == (2, 400)
    assert issubclass(InvalidRequest, graphpipe.ServiceError)
    assert issubclass(graphpipe.ServiceError, graphpipe.GraphPipeError)


# --- the import -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use", ["pass", "graphpipe.Client('http://h')", "graphpipe.remote", "graphpipe.TensorSpec", "dir(graphpipe)"]
)
def test_a_bare_import_loads_no_server_and_no_framework(use: str) -> None:
    code = f"import sys, graphpipe; {use}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert not loaded & {
        "aiohttp",
        "onnxruntime",
        "tensorflow",
        "torch",
        "uvloop",
        "click",
        "lmdb",
        "urllib3",
        "flatbuffers",
    }
    if use == "pass":
        assert "numpy" not in loaded


def test_every_public_name_is_there() -> None:
    for name in graphpipe.__all__:
        assert getattr(graphpipe, name) is not None
        assert name in dir(graphpipe)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = graphpipe.nothing
