"""FastAPI on uvicorn (with uvloop and httptools): bytes, and JSON by orjson.

A body of bytes is read by hand, JSON too: pydantic's lists of floats would take many times what orjson and numpy do.

    MODELS=FOLDER uvicorn fastapi_server:app --port P --no-access-log
"""

from __future__ import annotations

import anyio.to_thread
import numpy as np
import orjson
from anyio import CapacityLimiter
from fastapi import FastAPI, Request, Response
from models import CALLS_AT_ONCE, SHAPES, Model

app = FastAPI()
MODELS = {name: Model(name) for name in SHAPES}
LIMITER = CapacityLimiter(CALLS_AT_ONCE)


@app.post("/{model}")
async def infer(model: str, request: Request) -> Response:
    data = await request.body()
    answer = await anyio.to_thread.run_sync(MODELS[model].of_bytes, data, limiter=LIMITER)
    return Response(answer, media_type="application/octet-stream")


@app.post("/json/{model}")
async def infer_json(model: str, request: Request) -> Response:
    data = await request.body()

    def answer() -> bytes:
        rows = np.asarray(orjson.loads(data)["x"], np.float32)
        return orjson.dumps({"y": MODELS[model](rows)}, option=orjson.OPT_SERIALIZE_NUMPY)

    return Response(await anyio.to_thread.run_sync(answer, limiter=LIMITER), media_type="application/json")
