"""Callers of ours: AsyncClient on uvloop, which is the better one for many callers.

    python graphpipe_client.py URL INPUTS [threads]

``threads``: Client instead, one for all threads, which is the better one for few.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import callers
import uvloop

import graphpipe


def tasks(url: str, inputs: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clients: dict[str, graphpipe.AsyncClient] = {}

        async def ask(model: str, array: Any) -> Any:
            if model not in clients:
                clients[model] = graphpipe.AsyncClient(_of(url, model), 600)
            return await clients[model].execute(array)

        callers.answer_lines(
            inputs,
            lambda model, array: runner.run(ask(model, array)),
            lambda *told: runner.run(callers.in_tasks(ask, *told)),
        )


def threads(url: str, inputs: str) -> None:
    clients: dict[str, graphpipe.Client] = {}

    def ask(model: str, array: Any) -> Any:
        if model not in clients:
            clients[model] = graphpipe.Client(_of(url, model), 600)
        return clients[model].execute(array)

    callers.answer_lines(inputs, ask, lambda *told: callers.in_threads(ask, *told))


def _of(url: str, model: str) -> str:
    return f"{url}{':' if url.startswith('unix:') else ''}/models/{model}"


if __name__ == "__main__":
    (threads if "threads" in sys.argv[3:] else tasks)(*sys.argv[1:3])
