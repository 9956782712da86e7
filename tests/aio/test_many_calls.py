"""Many callers at once: all are answered, those who leave take nothing along, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import urllib.request

import numpy as np
import pytest

import graphpipe
from tests import onnx_graphs
from tests.aio.conftest import until

LARGE_BYTES = 80 * 1024  # enough for a buffer that the pool counts


@pytest.fixture
def server(serve, tmp_path):
    return serve("-m", onnx_graphs.scaled(tmp_path / "scaled.onnx", 3.0), "--threads", "2")


def rows(i):
    return np.full((LARGE_BYTES // 16, 4), i, np.float32)


def open_connections(server):
    with urllib.request.urlopen(f"{server.url}/control/client_count", timeout=10) as answer:
        return int(answer.read()) - 1  # without its own


def test_a_thousand_calls_at_once_are_all_answered_rightly_by_two_threads(server, run):
    async def call():
        async with graphpipe.AsyncClient(server.url, connections_max=50) as client:
            answers = await asyncio.gather(*(client.execute(np.full((2, 4), i, np.float32)) for i in range(1000)))
            assert await asyncio.to_thread(open_connections, server) == len(client._pool) <= 50
            return answers

    for i, answer in enumerate(run(call())):
        np.testing.assert_array_equal(answer, np.full((2, 4), 3 * i, np.float32))


@pytest.fixture
def without_collector():
    gc.disable()  # rings would wait for it
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_callers_who_leave_take_nothing_along_and_nothing_leaks(server, run):
    async def one(client, i):
        answer = await client.execute(rows(i))
        return i, bool((answer == 3 * i).all())

    async def call():
        client = graphpipe.AsyncClient(server.url, connections_max=20)
        chance = random.Random(3)
        tasks = [asyncio.create_task(one(client, i)) for i in range(1000)]
        for _ in range(100):
            chance.choice([task for task in tasks if not task.done() and not task.cancelling()] or tasks).cancel()
            await asyncio.sleep(chance.random() * 0.005)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        answered = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert len(answered) >= 900
        assert all(right for _, right in answered)

        # Whatever was cancelled, the client is as good as new, and holds what it counts and no more.
        assert await one(client, 7) == (7, True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        del results, answered, tasks
        await until(lambda: client._buffers.leased_bytes, 0)
        assert not client._pool._waiting
        assert len(client._pool) == len(client._pool._idle) <= 20
        await until(lambda: open_connections(server), len(client._pool))
        await client.close()
        assert len(client._pool) == 0
        await until(lambda: open_connections(server), 0)

    run(call())


def test_a_cancelled_call_closes_its_own_connection_and_no_other(serve, run, tmp_path):
    server = serve("-m", onnx_graphs.slow(tmp_path / "slow.onnx"), "-m", "echo", "--threads", "2")

    async def call():
        async with (
            graphpipe.AsyncClient(f"{server.url}/models/slow") as slow,
            graphpipe.AsyncClient(f"{server.url}/models/echo") as quick,
        ):
            await quick.execute(rows(1))
            left, stays = (asyncio.create_task(slow.execute(np.int64(60))) for _ in range(2))
            await until(lambda: open_connections(server), 3)
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left
            await stays
            assert (len(slow._pool), len(quick._pool)) == (1, 1)

    run(call())


def test_callers_get_connections_in_the_order_they_came(server, run):
    async def call():
        order = []

        async def one(i):
            await client.execute(np.full((1, 4), i, np.float32))
            order.append(i)

        async with graphpipe.AsyncClient(server.url, connections_max=1) as client:
            await asyncio.gather(*(one(i) for i in range(50)))
        assert order == list(range(50))

    run(call())


def test_a_caller_who_finds_no_connection_in_time_is_told_so_and_the_next_one_served(serve, run, tmp_path):
    server = serve("-m", onnx_graphs.slow(tmp_path / "slow.onnx"), "-m", "echo")

    async def call():
        async with graphpipe.AsyncClient(f"{server.url}/models/slow", connections_max=1) as client:
            long = asyncio.create_task(client.execute(np.int64(60)))
            await asyncio.sleep(0)  # so that it comes first
            with pytest.raises(graphpipe.errors.TimedOut, match="connections_max=1"):
                await client.metadata(timeout=0.05)
            waiting = asyncio.create_task(client.metadata())
            long.cancel()
            assert (await waiting).name == "slow"

    run(call())


def test_cancelled_in_the_middle_of_a_large_request_the_memory_is_free_again(serve, run):
    server = serve("-m", "echo")

    async def call():
        async with graphpipe.AsyncClient(server.url, connections_max=2) as client:
            for pause in (0, 0.002, 0.005, 0.01, 0.02, 0.04):
                value = np.ones(8 << 20, np.float32)
                task = asyncio.create_task(client.execute(value))
                await asyncio.sleep(pause)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del task
                await asyncio.sleep(0)
                value.resize(1)  # numpy refuses while anybody else looks at it
            await client.execute(rows(1))

    run(call())
