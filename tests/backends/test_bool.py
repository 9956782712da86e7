"""A bool input is bool to a program that declares no types, and what was declared to others; here and from far."""

from __future__ import annotations

import asyncio
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphpipe
from graphpipe.wire import decode_infer_response, encode_request
from tests.serving import serving

KEEP = np.array([True, False, True])
X = np.array([1, 2, 3], np.float32)
FUNCTIONS = """
import numpy as np
import graphpipe

def negate(x, keep):
    return x * ~keep

def of_any_number(*tensors):
    return np.array([str(tensor.dtype) for tensor in tensors], object)

def dtype(keep):
    return [str(keep.dtype)] * len(keep)

@graphpipe.model(inputs={"keep": "bool[n]"}, outputs={"y": "string[n]"})
def declared_bool(keep):
    return dtype(keep)

@graphpipe.model(inputs={"keep": "uint8[n]"}, outputs={"y": "string[n]"})
def declared_uint8(keep):
    return dtype(keep)

@graphpipe.model(inputs={"keep": "float32[n]"}, outputs={"y": "string[n]"})
def declared_float(keep):
    return dtype(keep)
"""
NAMES = ("negate", "of_any_number", "dtype", "declared_bool", "declared_uint8", "declared_float")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bool") / "bool_functions.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture(scope="module", params=["in process", "server", "batched", "proxy"])
def ask(request, file, tmp_path_factory):
    """A call of one of the functions: name, inputs, and what more infer takes."""
    if request.param == "in process":
        yield lambda name, inputs, **more: graphpipe.load(f"{file}:{name}").infer(inputs, **more)
        return
    sources = [part for name in NAMES for part in ("-m", f"{file}:{name}")]
    batching = ("--batch-rows-max", "8") if request.param == "batched" else ()
    with serving(*sources, *batching) as server:
        if request.param != "proxy":
            yield lambda name, inputs, **more: graphpipe.Client(f"{server.url}/models/{name}").infer(inputs, **more)
            return
        remotes = [part for name in NAMES for part in ("-m", f"{name}={server.url}/models/{name}")]
        with serving(*remotes) as proxy:
            yield lambda name, inputs, **more: graphpipe.Client(f"{proxy.url}/models/{name}").infer(inputs, **more)


def text(outputs):
    [array] = outputs.values()
    return {item.decode() if isinstance(item, bytes) else item for item in array.tolist()}


def test_a_program_that_declares_no_types_gets_the_bool_that_the_caller_gave(ask):
    assert ask("negate", {"x": X, "keep": KEEP})["output_0"].tolist() == [0, 2, 0]
    assert text(ask("dtype", {"keep": KEEP})) == {"bool"}
    assert text(ask("dtype", {"keep": KEEP.view(np.uint8)})) == {"uint8"}
    assert text(ask("dtype", {"keep": [True, False]})) == {"bool"}
    assert text(ask("of_any_number", {"input_0": KEEP}, outputs=["output_0"])) == {"bool"}


def test_a_declared_type_is_what_the_program_gets(ask):
    for keep in (KEEP, KEEP.view(np.uint8), np.array([0, 2, 255], np.uint8)):
        assert text(ask("declared_bool", {"keep": keep})) == {"bool"}
        assert text(ask("declared_uint8", {"keep": keep})) == {"uint8"}
    assert text(ask("declared_float", {"keep": KEEP}, cast=True)) == {"float32"}
    with pytest.raises(graphpipe.InvalidRequest, match="but the model takes float32"):
        ask("declared_float", {"keep": KEEP})


def test_true_is_one_whatever_byte_it_was(ask):
    odd = np.array([255, 0, 2], np.uint8).view(bool)
    assert ask("negate", {"x": X, "keep": odd})["output_0"].tolist() == [0, 2, 0]


def test_bool_and_uint8_rows_side_by_side_are_not_taken_for_each_other(file):
    with (
        serving("-m", f"{file}:dtype", "--batch-rows-max", "16", "--cache", "--cache-version", "1") as server,
        graphpipe.Client(server.url) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        kinds = [KEEP[:1], KEEP[:1].view(np.uint8)] * 20
        got = list(pool.map(lambda keep: text(client.infer({"keep": keep})), kinds))
        assert got == [{"bool"}, {"uint8"}] * 20


def test_large_ones_and_the_asynchronous_client_too(file):
    async def call(url, keep):
        async with graphpipe.AsyncClient(url) as client:
            return (await client.infer({"x": np.ones(keep.shape, np.float32), "keep": keep}))["output_0"]

    keep = np.random.default_rng(0).random(1_000_000) > 0.5
    with serving("-m", f"{file}:negate") as server:
        for _ in range(2):
            assert np.array_equal(asyncio.run(call(server.url, keep)), ~keep)


def test_a_marked_tensor_of_other_numbers_is_made_bool(file):
    data = b"".join(encode_request([np.ones(3, np.float32), KEEP], ["x", "keep"]))
    assert data.endswith(bytes((1, 0, 1)))
    with serving("-m", f"{file}:negate") as server:
        for _ in range(2):
            body = urllib.request.urlopen(urllib.request.Request(server.url, data[:-3] + bytes((2, 0, 255)))).read()
            assert decode_infer_response(body).outputs[0].tolist() == [0, 1, 0]
