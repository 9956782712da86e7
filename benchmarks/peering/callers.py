"""The clients that peers recommend, each as its documents show it: an array in, an array out, one call after another.

    python callers.py KIND PORT MODEL IN.npy OUT.npy

Writes what the first call answers to OUT.npy. Then each line of standard input, a number of seconds, is answered by a line
of JSON with what was found meanwhile: calls a second.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Call = Callable[[Array], Array]
OUTPUT = {"identity": (-1, 256), "squeezenet": (-1, 1000, 1, 1)}


def graphpipe(port: int, model: str) -> Call:
    import graphpipe

    return graphpipe.Client(f"http://127.0.0.1:{port}/models/{model}").execute


def requests_bytes(port: int, model: str, path: str = "") -> Call:
    import requests

    session, shape = requests.Session(), OUTPUT[model]

    def call(array: Array) -> Array:
        answer = session.post(
            f"http://127.0.0.1:{port}/{path}{model}",
            data=array.tobytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        answer.raise_for_status()
        return np.frombuffer(answer.content, np.float32).reshape(shape)

    return call


def torchserve(port: int, model: str) -> Call:
    return requests_bytes(port, model, "predictions/")


def httpx_bytes(port: int, model: str) -> Call:
    import httpx

    client, shape = httpx.Client(timeout=60), OUTPUT[model]

    def call(array: Array) -> Array:
        answer = client.post(f"http://127.0.0.1:{port}/{model}", content=array.tobytes())
        answer.raise_for_status()
        return np.frombuffer(answer.content, np.float32).reshape(shape)

    return call


def httpx_json(port: int, model: str) -> Call:
    import httpx
    import orjson

    client = httpx.Client(timeout=60)

    def call(array: Array) -> Array:
        body = orjson.dumps({"x": array}, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = client.post(f"http://127.0.0.1:{port}/json/{model}", content=body)
        answer.raise_for_status()
        return np.asarray(orjson.loads(answer.content)["y"], np.float32)

    return call


def aiohttp(port: int, model: str) -> Call:
    import aiohttp

    loop, shape = asyncio.new_event_loop(), OUTPUT[model]

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = loop.run_until_complete(opened())

    async def asked(array: Array) -> Array:
        async with session.post(f"http://127.0.0.1:{port}/{model}", data=array.tobytes()) as answer:
            answer.raise_for_status()
            return np.frombuffer(await answer.read(), np.float32).reshape(shape)

    return lambda array: loop.run_until_complete(asked(array))


def litserve(port: int, model: str) -> Call:
    import requests

    session, shape = requests.Session(), OUTPUT[model]

    def call(array: Array) -> Array:
        answer = session.post(
            f"http://127.0.0.1:{port}/{model}", json={"x": base64.b64encode(array.tobytes()).decode()}
        )
        answer.raise_for_status()
        return np.frombuffer(base64.b64decode(answer.json()["y"]), np.float32).reshape(shape)

    return call


def pytriton(port: int, model: str) -> Call:
    from pytriton.client import ModelClient

    client = ModelClient(f"http://127.0.0.1:{port}", model, lazy_init=False)
    return lambda array: client.infer_sample(array)["y"]


def bentoml(port: int, model: str) -> Call:
    import bentoml

    client = bentoml.SyncHTTPClient(f"http://127.0.0.1:{port}")
    method = getattr(client, model)
    return lambda array: method(x=array)


def mlserver(port: int, model: str) -> Call:
    import requests
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceRequest, InferenceResponse

    session = requests.Session()

    def call(array: Array) -> Array:
        request = InferenceRequest(inputs=[NumpyCodec.encode_input("x", array)])
        answer = session.post(f"http://127.0.0.1:{port}/v2/models/{model}/infer", json=request.model_dump())
        answer.raise_for_status()
        return NumpyCodec.decode_output(InferenceResponse.model_validate_json(answer.content).outputs[0])

    return call


def kserve(port: int, model: str) -> Call:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    loop = asyncio.new_event_loop()

    async def opened() -> InferenceRESTClient:
        return InferenceRESTClient(RESTConfig(protocol="v2"))

    client = loop.run_until_complete(opened())

    async def asked(array: Array) -> Array:
        rows = InferInput("x", list(array.shape), "FP32")
        rows.set_data_from_numpy(array, binary_data=True)
        request = InferRequest(model, [rows], request_outputs=[RequestedOutput("y", {"binary_data": True})])
        answer = await client.infer(f"http://127.0.0.1:{port}", request, model_name=model)
        return answer.outputs[0].as_numpy()

    return lambda array: loop.run_until_complete(asked(array))


KINDS = {
    each.__name__: each
    for each in (
        graphpipe, requests_bytes, torchserve, httpx_bytes, httpx_json, aiohttp, litserve, pytriton, bentoml, mlserver,
        kserve,
    )
}  # fmt: skip


def main(kind: str, port: str, model: str, taken: str, given: str) -> None:
    call, array = KINDS[kind](int(port), model), np.load(taken)
    np.save(given, call(array))
    print("ready", flush=True)
    for line in sys.stdin:
        calls, began = 0, time.perf_counter()
        while (now := time.perf_counter()) < began + float(line):
            call(array)
            calls += 1
        print(json.dumps({"per_second": calls / (now - began)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
