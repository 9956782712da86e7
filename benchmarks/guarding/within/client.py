"""Calls to a server that answers every request with the same bytes, so that only the client is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from graphpipe import AsyncClient, Client

__all__ = ["batches"]

Batch = Callable[[int], object]


def batches(url: str) -> Mapping[str, Callable[[], Batch]]:
    """What makes so many calls one after another, by its name."""
    return {"Client, 1 KB": lambda: blocking(url), "AsyncClient, 1 KB": lambda: asynchronous(url)}


def blocking(url: str) -> Batch:
    client, array = Client(url), np.zeros(256, np.float32)

    def batch(times: int) -> None:
        for _ in range(times):
            client.execute(array)

    return batch


def asynchronous(url: str) -> Batch:
    runner, array = asyncio.Runner(), np.zeros(256, np.float32)

    async def opened() -> AsyncClient:
        return AsyncClient(url)

    client = runner.run(opened())

    async def batch(times: int) -> None:
        for _ in range(times):
            await client.execute(array)

    return lambda times: runner.run(batch(times))
