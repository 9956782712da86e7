"""Few strings that are very long are as much work as many: a thread's, whichever protocol they leave in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import encode_request
from tests.front.servers import Function, InProcess, in_process
from tests.grpc.official import caller
from tests.protocols.official import message_class
from tests.raw_http import call

LONG = 1 << 20


class Counting(ThreadPoolExecutor):
    """What the loop has done beside it."""

    given = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(*args, **kwargs)


def _texts(inputs: Any) -> dict[str, Any]:
    (number,) = inputs["x"].ravel().tolist()
    return {"y": np.array([["é" * int(number), b"a" * int(number)]], object)}


@pytest.fixture(scope="module", params=[True, False], ids=["quick", "threads"])
def server(request: pytest.FixtureRequest) -> Iterator[InProcess]:
    model = Function(_texts, quick=request.param)
    model.signature = Signature(
        (TensorSpec("x", np.dtype("i8"), ("n",)),), (TensorSpec("y", np.dtype(object), ("n", 2)),)
    )
    with in_process({"m": model}) as running:
        yield running


def _v2(server: InProcess, number: int, as_bytes: bool) -> bytes:
    body = {
        "inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [number]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": as_bytes}}],
    }
    answer = call(server.url, "POST", "/v2/models/m/infer", json.dumps(body).encode())
    assert answer.status == 200
    return answer.body


def _v1(server: InProcess, number: int, asked: dict[str, Any]) -> bytes:
    answer = call(server.url, "POST", "/v1/models/m:predict", json.dumps(asked).encode())
    assert answer.status == 200
    return answer.body


def _grpc(server: InProcess, number: int) -> bytes:
    request = message_class("inference.ModelInferRequest")(
        model_name="m", raw_input_contents=[np.array([number], "<i8").tobytes()]
    )
    request.inputs.add(name="x", datatype="INT64", shape=[1])
    with caller(server) as calls:
        return bytes(calls("ModelInfer", request).raw_output_contents[0])


def _ours(server: InProcess, number: int) -> bytes:
    return call(server.url, "POST", "/", b"".join(encode_request([np.array([number])]))).body


ASKED = {
    "GraphPipe": _ours,
    "Open Inference": lambda server, number: _v2(server, number, False),
    "Open Inference, as bytes": lambda server, number: _v2(server, number, True),
    "TensorFlow Serving, rows": lambda server, number: _v1(server, number, {"instances": [number]}),
    "TensorFlow Serving, columns": lambda server, number: _v1(server, number, {"inputs": [number]}),
    "Open Inference over gRPC": _grpc,
}


@pytest.mark.parametrize("how", ASKED)
def test_long_strings_become_bytes_beside_the_loop_and_short_ones_on_it(server: InProcess, how: str) -> None:
    aside = Counting(2)
    server.ask(lambda: server.loop.set_default_executor(aside))
    assert b"a" * 3 in ASKED[how](server, 3)
    assert aside.given == 0
    said = ASKED[how](server, LONG)
    assert b"a" * LONG in said
    assert "é".encode() * LONG in said
    assert aside.given == 1
