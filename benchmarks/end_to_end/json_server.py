"""JSON in front of a model as people write it: aiohttp, orjson and a pool of threads; paths and bodies are TF-Serving's.

    python json_server.py NAME=PATH...

The loop is uvloop's and nothing is logged. The model, and what makes arrays of lists and text of arrays, run in the pool,
so that a long body holds up nobody longer than it must.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson
import runtime
import uvloop
from aiohttp import web


async def main() -> None:
    runtime.end_with_stdin()
    models = runtime.named(sys.argv[1:])
    pool = ThreadPoolExecutor(runtime.THREADS)

    def predictions(model: runtime.Model, body: bytes) -> bytes:
        array = np.array(orjson.loads(body)["instances"], np.float32)
        return orjson.dumps({"predictions": model(array)}, option=orjson.OPT_SERIALIZE_NUMPY)

    async def predict(request: web.Request) -> web.Response:
        model = models[request.match_info["name"]]
        body = await request.read()
        answer = await asyncio.get_running_loop().run_in_executor(pool, predictions, model, body)
        return web.Response(body=answer, content_type="application/json")

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/models/{name}:predict", predict)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as everything:
        everything.run(main())
