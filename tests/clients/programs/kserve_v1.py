"""KServe's SDK, protocol v1, which is TensorFlow Serving's: python kserve_v1.py HOST:PORT"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import httpx
import kserve
from asking import ERRORS, MANY, SHAPES, TYPES, Ask, say
from kserve.inference_client import RESTConfig


def columns(ask: Ask) -> dict[str, Any]:
    inputs = {}
    for name, array in ask.inputs.items():
        values = array.tolist()
        inputs[name] = texts(values) if array.dtype == object else values
    return {"inputs": inputs}


def texts(values: Any) -> Any:
    return [texts(each) for each in values] if isinstance(values, list) else values.decode()


async def main(address: str) -> None:
    url = f"http://{address}"
    client = kserve.InferenceRESTClient(RESTConfig(protocol="v1", timeout=30))

    async def infer(ask: Ask, way: str, question: dict[str, Any]) -> None:
        try:
            answer = await client.infer(url, question, model_name=ask.model)
            say(ask.subject, ask.name, way, answer=answer)
        except httpx.HTTPStatusError as error:
            say(ask.subject, ask.name, way, error=str(error), status=str(error.response.status_code))

    # This protocol says neither types nor shapes, and names no outputs: mistakes in them cannot be made.
    for ask in [*TYPES, *SHAPES, *MANY]:
        if ask.json and not ask.version:
            await infer(ask, "columns", columns(ask))
    for ask in ERRORS:
        if ask.name in (
            "unknown-model",
            "unknown-input",
            "missing-input",
            "other-shape",
            "other-rank",
            "failing-model",
        ):
            await infer(ask, "columns", columns(ask))
    pair = MANY[0]
    rows = [
        dict(zip(pair.inputs, row, strict=True))
        for row in zip(*(a.tolist() for a in pair.inputs.values()), strict=True)
    ]
    await infer(pair, "rows", {"instances": rows})
    for name, question in (
        ("live", client.is_server_live(url)),
        ("model-ready simple", client.is_model_ready(url, "simple")),
        ("model-ready nobody", client.is_model_ready(url, "nobody")),
    ):
        try:
            say("pages", name, "http", answer=await question)
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            say("pages", name, "http", error=f"{type(error).__name__}: {error}")
    await client.close()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(sys.argv[1]))
