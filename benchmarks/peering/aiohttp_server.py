"""aiohttp: a handler of ten lines, bytes in, bytes out; what people write who want no framework.

MODELS=FOLDER python aiohttp_server.py PORT
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop
from aiohttp import web
from models import CALLS_AT_ONCE, SHAPES, Model

MODELS = {name: Model(name) for name in SHAPES}
THREADS = ThreadPoolExecutor(CALLS_AT_ONCE)


async def infer(request: web.Request) -> web.Response:
    model = MODELS[request.match_info["model"]]
    data = await request.read()
    answer = await asyncio.get_running_loop().run_in_executor(THREADS, model.of_bytes, data)
    return web.Response(body=answer)


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/{model}", infer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, loop=uvloop.new_event_loop(), print=None)
