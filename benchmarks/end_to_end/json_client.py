"""Callers of JSON: aiohttp's client on uvloop, orjson, arrays on both ends.

python json_client.py HOST:PORT INPUTS

What is timed has both conversions in it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import callers
import numpy as np
import orjson
import uvloop


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def open_session() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(f"http://{sys.argv[1]}")

        session = runner.run(open_session())

        async def ask(model: str, array: Any) -> Any:
            body = orjson.dumps({"instances": array}, option=orjson.OPT_SERIALIZE_NUMPY)
            headers = {"Content-Type": "application/json"}
            async with session.post(f"/v1/models/{model}:predict", data=body, headers=headers) as response:
                response.raise_for_status()
                return np.array(orjson.loads(await response.read())["predictions"], np.float32)

        callers.answer_lines(
            sys.argv[2],
            lambda model, array: runner.run(ask(model, array)),
            lambda *told: runner.run(callers.in_tasks(ask, *told)),
        )
        runner.run(session.close())


if __name__ == "__main__":
    main()
