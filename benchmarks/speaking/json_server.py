"""Open Inference's JSON and TF-Serving's row form by FastAPI and orjson, on uvicorn (with uvloop and httptools).

    uvicorn json_server:app --port P --no-access-log

As its users tune it: the body is read by hand, since pydantic's lists of floats would take many times what orjson and numpy
do, and answered by a bare Response. Nothing is checked.
"""

from __future__ import annotations

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.post("/v2/models/echo/infer")
async def infer(request: Request) -> Response:
    (tensor,) = orjson.loads(await request.body())["inputs"]
    array = np.asarray(tensor["data"], np.float32).reshape(tensor["shape"])
    output = {"name": tensor["name"], "datatype": "FP32", "shape": array.shape, "data": array.reshape(-1)}
    answer = {"model_name": "echo", "model_version": "1", "outputs": [output]}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


@app.post("/v1/models/echo:predict")
async def predict(request: Request) -> Response:
    array = np.asarray(orjson.loads(await request.body())["instances"], np.float32)
    answer = orjson.dumps({"predictions": array}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")
