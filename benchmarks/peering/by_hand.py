"""What one writes by hand with aiohttp and onnxruntime: raw bytes in, raw bytes out, nothing that says what they are.

    python by_hand.py [MODEL.onnx --models N] [--workers N]

POST / gives the bytes back; POST /models/mI runs session I on one row of float32. As its users tune it: uvloop, no access
log, one thread of the runtime in a session, a pool of one thread for all of them so that the loop goes on, and a process for
each worker, which share the socket. Prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop
from aiohttp import web


def sessions(path: str, count: int) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return [onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for _ in range(count)]


async def serve(listener: socket.socket, path: str, count: int) -> None:
    app = web.Application(client_max_size=1 << 30)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app.router.add_post("/", echo)
    if path:
        import numpy as np

        pool, loop = ThreadPoolExecutor(1), asyncio.get_running_loop()
        loaded = sessions(path, count)

        async def infer(request: web.Request) -> web.Response:
            session = loaded[int(request.match_info["number"])]
            x = np.frombuffer(await request.read(), np.float32).reshape(1, -1)
            (y,) = await loop.run_in_executor(pool, session.run, None, {"x": x})
            return web.Response(body=y.tobytes())

        app.router.add_post("/models/m{number}", infer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await asyncio.Event().wait()


def forked(count: int) -> list[int]:
    """The workers' processes, for the one that watches; for each of them nothing."""
    children = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            return []
        children.append(pid)
    return children


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?", default="")
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    if options.workers > 1 and (children := forked(options.workers)):

        def end(*_: object) -> None:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)

        signal.signal(signal.SIGTERM, end)
        while True:
            signal.pause()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener, options.path, options.models))


if __name__ == "__main__":
    main()
