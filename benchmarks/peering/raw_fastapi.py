"""The same as by_hand.py with FastAPI and uvicorn: raw bytes in, raw bytes out. Prints its port.

As its users tune it: the request's body and a bare Response, so that no validation is paid for; uvloop and httptools, which
uvicorn[standard] brings; no access log; models in a pool of one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response


def application(path: str) -> FastAPI:
    app = FastAPI()

    @app.post("/")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    if path:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        pool = ThreadPoolExecutor(1)

        @app.post("/models/m0")
        async def infer(request: Request) -> Response:
            x = np.frombuffer(await request.body(), np.float32).reshape(1, -1)
            (y,) = await asyncio.get_running_loop().run_in_executor(pool, session.run, None, {"x": x})
            return Response(y.tobytes(), media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?", default="")
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(application(parser.parse_args().path), access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
