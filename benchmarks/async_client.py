"""Which transport should the asynchronous client have? Its calls beside the blocking client's and those of aiohttp's
client.

Every client calls the same echo server, in turns, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import numpy as np
import uvloop

import graphpipe
from graphpipe.wire import decode_infer_response, encode_request

ROUNDS = 7
SMALL_CALLS = 300
AT_ONCE, CALLS_AT_ONCE = 32, 1500

Call = Callable[[np.ndarray], Awaitable[Any]]


@contextmanager
def echo_server() -> Iterator[str]:
    """An echo server in a process of its own."""
    code = "from graphpipe.server.cli import main; main()"
    command = [sys.executable, "-c", code, "--model", "echo", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


async def with_aiohttp(url: str, measure: Callable[[Call], Awaitable[list[float]]]) -> list[float]:
    """The same calls over aiohttp's client, with our messages: large bodies as the segments that they are."""
    async with aiohttp.ClientSession() as session:

        async def call(value: np.ndarray) -> Any:
            segments = encode_request([value], [], [])
            if value.nbytes < 1 << 16:
                data: Any = b"".join(segments)
            else:

                async def data() -> Any:
                    for segment in segments:
                        yield segment

                data = data()
            headers = {"Content-Length": str(sum(map(len, segments)))}
            async with session.post(url, data=data, headers=headers) as response:
                return decode_infer_response(memoryview(await response.read())).outputs[0]

        return await measure(call)


async def with_ours(url: str, measure: Callable[[Call], Awaitable[list[float]]]) -> list[float]:
    """AsyncClient."""
    async with graphpipe.AsyncClient(url) as client:
        return await measure(client.execute)


async def with_blocking(url: str, measure: Callable[[Call], Awaitable[list[float]]]) -> list[float]:
    """The blocking client, called from a coroutine that never waits."""
    with graphpipe.Client(url) as client:

        async def call(value: np.ndarray) -> Any:
            return client.execute(value)

        return await measure(call)


async def small(call: Call) -> list[float]:
    """Seconds of single small calls, one after another."""
    value = np.arange(256, dtype=np.float32)
    await call(value)
    begin = time.perf_counter()
    for _ in range(SMALL_CALLS):
        await call(value)
    return [(time.perf_counter() - begin) / SMALL_CALLS]


async def large(call: Call) -> list[float]:
    """Seconds of a 77 MB call; the first is not counted."""
    value = np.ones((128, 224, 224, 3), np.float32)
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        answer = await call(value)
        took.append(time.perf_counter() - begin)
        assert answer.nbytes == value.nbytes
        del answer
    return took[1:]


async def many(call: Call) -> list[float]:
    """Seconds a call when many are under way at once."""
    value = np.arange(256, dtype=np.float32)

    async def one_after_another(count: int) -> None:
        for _ in range(count):
            await call(value)

    begin = time.perf_counter()
    await asyncio.gather(*(one_after_another(CALLS_AT_ONCE // AT_ONCE) for _ in range(AT_ONCE)))
    return [(time.perf_counter() - begin) / CALLS_AT_ONCE]


CLIENTS = {
    "blocking Client": (asyncio.run, with_blocking),
    "AsyncClient, asyncio": (asyncio.run, with_ours),
    "AsyncClient, uvloop": (uvloop.run, with_ours),
    "aiohttp, asyncio": (asyncio.run, with_aiohttp),
    "aiohttp, uvloop": (uvloop.run, with_aiohttp),
}


def main() -> None:
    """Measure and print."""
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    questions = {
        "1 KB call, us": (small, 1e6),
        "77 MB echo, ms": (large, 1e3),
        f"1 KB, {AT_ONCE} at once, us": (many, 1e6),
    }
    print(f"{'':<22}" + "".join(f"{question:>24}" for question in questions))
    results: dict[tuple[str, str], list[float]] = {}
    with echo_server() as url:
        for _ in range(ROUNDS):
            for name, (run, client) in CLIENTS.items():
                for question, (measure, _) in questions.items():
                    results.setdefault((name, question), []).extend(run(client(url, measure)))
    base = {question: statistics.median(results["blocking Client", question]) for question in questions}
    for name in CLIENTS:
        cells = []
        for question, (_, unit) in questions.items():
            median = statistics.median(results[name, question])
            cells.append(f"{median * unit:>15.0f} ({median / base[question]:.2f}x)")
        print(f"{name:<22}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
