"""KServe's SDK over TLS, without a key and with one: python guarded_kserve.py HOST:PORT AUTHORITY.pem KEY"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from typing import Any

import grpc
import httpx
import kserve
from asking import PAIR, say, told
from kserve.inference_client import RESTConfig

address, authority, key = sys.argv[1:]


def request() -> Any:
    inputs = []
    for name, array in PAIR.items():
        inputs.append(kserve.InferInput(name, list(array.shape), "INT32"))
        inputs[-1].set_data_from_numpy(array)
    return kserve.InferRequest("simple", inputs)


async def main() -> None:
    url = f"https://{address}"
    rest = kserve.InferenceRESTClient(RESTConfig(protocol="v2", verify=ssl.create_default_context(cafile=authority)))
    for question, headers in (("without", {}), ("with", {"Authorization": f"Bearer {key}"})):
        say("guarded", f"live {question}", "http", answer=await rest.is_server_live(url, headers=headers))
        try:
            answer = await rest.infer(url, request(), model_name="simple", headers=dict(headers))
            say("guarded", question, "http", answer=told(answer.outputs[0].as_numpy()))
        except httpx.HTTPStatusError as error:
            say("guarded", question, "http", error=str(error), status=str(error.response.status_code))
    await rest.close()
    rpc = kserve.InferenceGRPCClient(address, use_ssl=True, root_certificates=authority)
    for question, metadata in (("without", ()), ("with", (("authorization", f"Bearer {key}"),))):
        say("guarded", f"live {question}", "grpc", answer=await rpc.is_server_live(headers=metadata))
        try:
            answer = await rpc.infer(request(), headers=metadata)
            say("guarded", question, "grpc", answer=told(answer.outputs[0].as_numpy()))
        except grpc.RpcError as error:
            say("guarded", question, "grpc", error=error.details(), status=str(error.code()))
    await rpc.close()


logging.disable(logging.CRITICAL)
asyncio.run(main())
