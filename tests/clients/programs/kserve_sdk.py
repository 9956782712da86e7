"""KServe's SDK, protocol v2: python kserve_sdk.py HOST:PORT rest|grpc"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import grpc
import httpx
import kserve
import numpy as np
from asking import ASKS, HUGE, NEXT, RECORDED, SLOW, Ask, datatype_of, say, told
from kserve.inference_client import RESTConfig


def request_of(ask: Ask, binary: bool, outputs_binary: bool | None) -> Any:
    inputs = []
    for name, array in ask.inputs.items():
        each = kserve.InferInput(name, list(array.shape), datatype_of(array))
        each.set_data_from_numpy(array, binary_data=binary)
        each.shape = list(ask.shapes.get(name, array.shape))
        each._datatype = ask.said.get(name, each._datatype)
        inputs.append(each)
    parameters = None if outputs_binary is None else {"binary_data": outputs_binary}
    outputs = [kserve.protocol.infer_type.RequestedOutput(name, parameters) for name in ask.outputs]
    return kserve.InferRequest(
        ask.model, inputs, ask.id or None, model_version=ask.version or None, request_outputs=outputs
    )


def tell(ask: Ask, way: str, answer: Any) -> None:
    arrays = {each.name: told(each.as_numpy()) for each in answer.outputs}
    types = {each.name: each.datatype for each in answer.outputs}
    say(
        ask.subject,
        ask.name,
        way,
        outputs=arrays,
        types=types,
        id=answer.id,
        model_name=answer.model_name,
        model_version=answer.model_version,
    )


async def rest(address: str) -> None:
    url = f"http://{address}"
    client = kserve.InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))

    async def infer(ask: Ask, way: str, binary: bool, **more: Any) -> None:
        try:
            request = request_of(ask, binary, binary)
            tell(ask, way, await client.infer(url, request, model_name=ask.model, **more))
        except httpx.HTTPStatusError as error:
            say(ask.subject, ask.name, way, error=str(error), status=str(error.response.status_code))
        except httpx.TimeoutException as error:
            say(ask.subject, ask.name, way, error=type(error).__name__)

    # The SDK asks for a version by no path, sends float16 as no JSON and binary tensors without a byte as none, and
    # reads texts as UTF-8.
    for ask in [each for each in ASKS if not each.version]:
        if all(array.size for array in ask.inputs.values()) and ask.name not in ("not-utf8", "mixed"):
            await infer(ask, "binary", True)
        if ask.json and not any(array.dtype == np.float16 for array in ask.inputs.values()):
            await infer(ask, "json", False)
    for name, question in (
        ("live", client.is_server_live(url)),
        ("ready", client.is_server_ready(url)),
        ("model-ready simple", client.is_model_ready(url, "simple")),
        ("model-ready nobody", client.is_model_ready(url, "nobody")),
    ):
        try:
            say("pages", name, "http", answer=await question)
        except (httpx.HTTPError, ValueError) as error:
            say("pages", name, "http", error=f"{type(error).__name__}: {error}")
    if not RECORDED:
        await infer(SLOW, "binary", True, timeout=0.5)
    await infer(NEXT, "binary", True)
    await infer(HUGE, "json", False)
    await client.close()


async def rpc(address: str) -> None:
    client = kserve.InferenceGRPCClient(address, timeout=30)

    async def infer(ask: Ask, way: str, binary: bool, **more: Any) -> None:
        try:
            tell(ask, way, await client.infer(request_of(ask, binary, None), **more))
        except grpc.RpcError as error:
            say(ask.subject, ask.name, way, error=error.details(), status=str(error.code()))

    for ask in ASKS:
        await infer(ask, "raw", True)
        # There are no typed contents of float16, and this client writes texts from UTF-8 alone.
        says_all = ask.json or ask.name in ("not-finite", "mixed")
        if says_all and not ask.said and not any(array.dtype == np.float16 for array in ask.inputs.values()):
            await infer(ask, "typed", False)
    for name, question in (
        ("live", client.is_server_live()),
        ("ready", client.is_server_ready()),
        ("model-ready simple", client.is_model_ready("simple")),
        ("model-ready nobody", client.is_model_ready("nobody")),
    ):
        try:
            say("pages", name, "grpc", answer=await question)
        except grpc.RpcError as error:
            say("pages", name, "grpc", error=error.details(), status=str(error.code()))
    if not RECORDED:
        await infer(SLOW, "raw", True, timeout=0.5)
    await infer(NEXT, "raw", True)
    await infer(HUGE, "typed", False)
    await client.close()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # it logs each error that it raises
    asyncio.run({"rest": rest, "grpc": rpc}[sys.argv[2]](sys.argv[1]))
