"""Cancelling touches one call: wherever it was waiting, the others go on, and no connection is lost or counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import random

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import DeadlineExceeded, TimedOut
from tests.serving import serving

A = np.arange(3, dtype=np.float32)
SERVER = """
import time, graphpipe
def slow(x):
    time.sleep(float(x.max()) / 1000)
    return x * 2
graphpipe.serve(slow, "127.0.0.1:0", threads=8, access_lines_per_s=0)
"""


@pytest.fixture(scope="module")
def url():
    with serving(code=SERVER) as server:
        yield server.url


async def all_usable(client: graphpipe.AsyncClient, connections: int) -> None:
    """As many calls as there may be connections, at once, twice."""
    for _ in range(2):
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(client.execute(A + i) for i in range(connections)))
        for i, answer in enumerate(answers):
            np.testing.assert_array_equal(answer, 2 * (A + i))
    assert len(client._pool) <= connections
    assert len(client._pool._idle) == len(client._pool)
    assert not client._pool._waiting


def after_turns(turns: int, do) -> None:
    """Do something so many turns of the loop from now."""
    loop = asyncio.get_running_loop()
    loop.call_soon(do if turns == 0 else lambda: after_turns(turns - 1, do))


@pytest.mark.parametrize("turns", range(5))
def test_a_waiter_cancelled_as_a_connection_comes_free_is_cancelled_and_the_next_gets_it(url, run, turns):
    async def call():
        def progress(sent, to_send, received, to_receive):
            if received and received == to_receive and not cancelled:
                cancelled.append(True)
                after_turns(turns, second.cancel)

        cancelled: list[bool] = []
        async with graphpipe.AsyncClient(url, connections_max=1, progress=progress) as client:
            first, second, third = (asyncio.create_task(client.execute(A)) for _ in range(3))
            np.testing.assert_array_equal(await first, 2 * A)
            with contextlib.suppress(asyncio.CancelledError):
                np.testing.assert_array_equal(await second, 2 * A)  # the cancelling came when all was done
            np.testing.assert_array_equal(await third, 2 * A)
            assert second.cancelled() or turns > 2
            await all_usable(client, 1)

    run(call())


@pytest.mark.parametrize("victim", range(3))
def test_a_call_may_be_cancelled_at_any_step(url, run, victim):
    """While it waits for its turn, connects, sends, receives: one call more steps on each time."""

    async def call():
        async with graphpipe.AsyncClient(url, connections_max=1) as client:
            for turns in range(60):
                if turns % 2:
                    await client.close_idle()  # so that the first has to connect
                tasks = [asyncio.create_task(client.execute(A)) for _ in range(3)]
                after_turns(turns, tasks[victim].cancel)
                for place, answer in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
                    if place != victim or not isinstance(answer, asyncio.CancelledError):
                        np.testing.assert_array_equal(answer, 2 * A)
                assert len(client._pool) <= 1

    run(call())


@pytest.mark.parametrize("how", ["asyncio.timeout", "wait_for", "task group"])
def test_what_cancels_gets_its_cancellation_back(url, run, how):
    async def call():
        async with graphpipe.AsyncClient(url, connections_max=1) as client:
            long = asyncio.create_task(client.execute(np.full(1, 200, np.float32)))
            await asyncio.sleep(0)
            if how == "asyncio.timeout":
                with pytest.raises(TimeoutError) as late:
                    async with asyncio.timeout(0.05):
                        await client.execute(A)
                assert not isinstance(late.value, TimedOut)
            elif how == "wait_for":
                with pytest.raises(TimeoutError) as late:
                    await asyncio.wait_for(client.execute(A), 0.05)
                assert not isinstance(late.value, TimedOut)
            else:
                with pytest.raises(ExceptionGroup) as group:
                    async with asyncio.TaskGroup() as tasks:
                        waiting = tasks.create_task(client.execute(A))
                        tasks.create_task(client.execute(A, timeout=0.01))
                assert waiting.cancelled()
                assert [type(error) for error in group.value.exceptions] == [TimedOut]
            await long
            await all_usable(client, 1)

    run(call())


def test_after_many_cancels_and_timeouts_every_connection_is_usable_and_none_is_lost(url, run):
    rnd = random.Random(7)

    async def call():
        async with graphpipe.AsyncClient(url, connections_max=4) as client:

            async def one(number: int) -> bool:
                x = np.array([rnd.randrange(4), number / 16], np.float32)
                try:
                    answer = await client.execute(x, timeout=rnd.choice([0.002, 0.006, 0.02, 10]))
                except (TimedOut, DeadlineExceeded):
                    return False
                np.testing.assert_array_equal(answer, 2 * x)
                return True

            async def cancelled(task: asyncio.Task[bool], turns: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()

            answered = cut = 0
            for _ in range(60):
                tasks = [asyncio.create_task(one(number)) for number in range(16)]
                victims = rnd.sample(tasks, 5)
                await asyncio.gather(*(cancelled(task, rnd.randrange(200)) for task in victims))
                results = await asyncio.gather(*tasks, return_exceptions=True)
                for result in results:
                    assert isinstance(result, bool | asyncio.CancelledError), repr(result)
                answered += results.count(True)
                cut += len(results) - results.count(True)
                assert len(client._pool) <= 4
            assert answered
            assert cut
            await all_usable(client, 4)

    run(call())


def test_a_coroutine_that_is_closed_while_it_waits_takes_no_connection_along(url, run):
    async def call():
        async with graphpipe.AsyncClient(url, connections_max=1) as client:
            long = asyncio.create_task(client.execute(np.full(1, 100, np.float32)))
            await asyncio.sleep(0)
            waiting = client.execute(A)
            waiting.send(None)
            waiting.close()
            await long
            await all_usable(client, 1)

    run(call())


def test_callers_who_wait_while_the_client_is_closed_get_their_answers(url, run):
    async def call():
        client = graphpipe.AsyncClient(url, connections_max=1)
        tasks = [asyncio.create_task(client.execute(A)) for _ in range(3)]
        await asyncio.sleep(0)
        await client.close()
        for answer in await asyncio.gather(*tasks):
            np.testing.assert_array_equal(answer, 2 * A)
        assert len(client._pool) == 0

    run(call())


def test_a_client_used_on_a_second_loop_while_the_first_lives_is_refused_and_works_when_it_is_gone(url, run):
    client = graphpipe.AsyncClient(url)
    first = asyncio.new_event_loop()
    try:
        first.run_until_complete(client.execute(A))

        async def elsewhere():
            with pytest.raises(RuntimeError, match="belongs to the event loop"):
                await client.execute(A)

        run(elsewhere())
        first.run_until_complete(client.close_idle())
    finally:
        first.close()

    async def later():
        np.testing.assert_array_equal(await client.execute(A), 2 * A)
        await client.close()

    run(later())
