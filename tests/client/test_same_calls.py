"""A client, an asynchronous one and a model in this process: the same calls, the same words."""

from __future__ import annotations

import asyncio
import inspect
import threading

import numpy as np
import pytest

import graphpipe
from tests import onnx_graphs
from tests.serving import serving

CALLS = ["execute", "execute_multi", "infer", "metadata"]
A = np.array([[1, 2, 3]], np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return onnx_graphs.pair_sum(tmp_path_factory.mktemp("models") / "pair.onnx")


@pytest.fixture(scope="module")
def each(path):
    """What calls a method, or reads an attribute, of each of the three."""
    with serving("--model", path) as server, graphpipe.Client(server.url) as client, graphpipe.load(path) as model:

        def awaited(name, *args, **kwargs):
            async def run():
                async with graphpipe.AsyncClient(server.url) as other:
                    await other.metadata()
                    found = getattr(other, name)
                    return await (found(*args, **kwargs) if callable(found) else found)

            return asyncio.run(run())

        def of(thing):
            def call(name, *args, **kwargs):
                found = getattr(thing, name)
                return found(*args, **kwargs) if callable(found) else found

            return call

        client.metadata()
        yield [of(client), awaited, of(model)]


@pytest.mark.parametrize("name", CALLS)
def test_the_calls_have_the_same_arguments(name):
    of_client, of_async, of_loaded = (
        getattr(kind, name) for kind in (graphpipe.Client, graphpipe.AsyncClient, graphpipe.LoadedModel)
    )
    assert inspect.signature(of_client) == inspect.signature(of_async) == inspect.signature(of_loaded)
    assert inspect.iscoroutinefunction(of_async)
    assert not inspect.iscoroutinefunction(of_client)
    assert not inspect.iscoroutinefunction(of_loaded)


def test_signatures_and_metadata_agree(each):
    signatures = [call("signature") for call in each]
    assert signatures[0] == signatures[1]
    assert str(signatures[0]) == str(signatures[2])
    metadata = [call("metadata", timeout=5, headers={"X-Team": "vision"}) for call in each]
    assert metadata[0] == metadata[1]
    assert metadata[2].inputs == metadata[0].inputs
    assert metadata[2].outputs == metadata[0].outputs


def test_the_calls_give_the_same(each):
    for call in each:
        assert call("execute_multi", [A, 10 * A])[0].tolist() == [[11, 22, 33]]
        assert call("execute_multi", [10 * A, A], ["b", "a"], ["twice", "sum"])[1].tolist() == [[11, 22, 33]]
        assert sorted(call("infer", {"a": A, "b": A}, timeout=5, headers={"X-Team": "a"})) == ["sum", "twice"]
        assert call("infer", {"a": A, "b": A}, ["sum"], outputs_as="numpy")["sum"].tolist() == [[2, 4, 6]]


def test_several_outputs_by_name_are_a_list_in_that_order(tmp_path):
    def pair(x):
        return {"a": x, "b": 2 * x}

    pair = graphpipe.model(inputs={"x": "float32[n, 3]"}, outputs={"a": "float32[n, 3]", "b": "float32[n, 3]"})(pair)
    with graphpipe.load(pair) as model:
        assert [each.tolist() for each in model.execute(A, output_name=["b", "a"])] == [(2 * A).tolist(), A.tolist()]
        assert isinstance(model.execute(A, output_name=["b"]), list)
        assert model.execute(A, output_name="b").tolist() == (2 * A).tolist()
        assert isinstance(model.execute(A), list)


def test_several_outputs_of_a_server_are_a_list_too():
    with serving("--model", "echo") as server:
        with graphpipe.Client(server.url) as client:
            assert [each.tolist() for each in client.execute(A, output_name=["y"])] == [A.tolist()]
        assert isinstance(graphpipe.remote.execute(server.url, A, output_name=["y"]), list)

        async def run():
            async with graphpipe.AsyncClient(server.url) as client:
                return await client.execute(A, output_name=("y",))

        assert isinstance(asyncio.run(run()), list)


def test_an_array_without_a_name_is_refused_with_the_names_that_are_known(each):
    words = (
        r"inputs is a dict .*; a ndarray came: infer\({'a': array, 'b': array}\) says their names, and execute_multi"
    )
    for call in each:
        for value in (A, [A, A]):
            with pytest.raises(graphpipe.InvalidRequest, match=words.replace("a ndarray", r"a (ndarray|list)")):
                call("infer", value)
    with graphpipe.Client("http://127.0.0.1:1") as client:  # which nobody can ask
        for value in (A, [A]):
            with pytest.raises(
                graphpipe.InvalidRequest, match=r"infer\({'name': array}\) says their names, and execute\(array\)"
            ):
                client.infer(value)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 2], [3]], r"row \[1\] has 1 element, row \[0\] has 2 elements"),
        ([[[1], [2]], [[3], [4, 5]]], r"row \[1\]\[1\] has 2 elements, row \[0\]\[0\] has 1 element"),
        ([1, [2]], r"row \[1\] has 1 element, row \[0\] is one element"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], r"row \[1\]\[0\] has 4 elements, row \[0\]\[0\] has 3 elements"),
    ],
)
def test_a_ragged_list_is_refused_with_the_row_and_what_pads_it(each, rows, words):
    for call in each:
        with pytest.raises(graphpipe.InvalidRequest, match=f"a ragged list: {words}; pad the rows.*--batch-pad"):
            call("execute_multi", [rows, rows])


def test_a_model_here_is_waited_for_no_longer_than_the_timeout_and_closed_when_it_has_ended():
    begun, may_end, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __call__(self, x):
            begun.set()
            assert may_end.wait(60)
            return x

        def close(self):
            closed.set()

    with graphpipe.load(Slow()) as model:
        with pytest.raises(graphpipe.TimedOut, match="gave no answer in 0.05 s; it goes on"):
            model.execute(A, timeout=0.05)
        with pytest.raises(TimeoutError):
            model.infer({"x": A}, timeout=0.05)
        assert begun.wait(60)
    assert not closed.is_set()
    may_end.set()
    assert closed.wait(60)


def test_a_timeout_that_does_not_pass_changes_nothing():
    def fails(x):
        raise ValueError("no")

    with graphpipe.load(fails) as model:
        with pytest.raises(graphpipe.ModelFailed) as failure:
            model.execute(A, timeout=60)
        assert "no" in str(failure.value.__cause__)
    with graphpipe.load("echo") as model:
        assert model.execute(A, timeout=60).tolist() == A.tolist()
        with pytest.raises(graphpipe.InvalidRequest, match="cannot be a header's name"):
            model.execute(A, headers={"a b": "c"})


def test_a_closed_model_is_an_error_that_says_so_and_is_not_served():
    model = graphpipe.load("echo")
    model.close()
    for call in (
        lambda: model.execute([1]),
        lambda: model.infer({"x": [1]}),
        lambda: model.execute_multi([[1]], timeout=1),
        model.metadata,
        lambda: graphpipe.serving(model),
    ):
        with pytest.raises(
            graphpipe.GraphPipeError, match=r"model 'echo' is closed; graphpipe.load\(\) loads another$"
        ):
            call()
    model.close()
