"""The asynchronous client shows its large tensors in the same way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

import graphpipe
from graphpipe.errors import NoAnswer, TimedOut
from graphpipe.memory.segment import available
from graphpipe.wire import ErrorInfo, encode_infer_response
from tests.canned import Caller, X, answer
from tests.sharing.peer import ASKED, Shown, hand_made, looking

pytestmark = pytest.mark.skipif(not available(), reason="this system has no memory that can be passed")

LARGE = np.arange(200_000, dtype=np.float32)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Any:
    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(main, 30))

    return run


def doubled(shown: Shown) -> bytes:
    return shown.answer(*[2 * array for array in shown.inputs])


def test_large_tensors_are_shown_and_small_ones_are_sent(tmp_path: Path, run: Any) -> None:
    requests: list[Shown] = []

    def look(shown: Shown) -> bytes:
        requests.append(shown)
        return doubled(shown)

    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            array = await client.empty("x", LARGE.shape, "float32")
            for i in range(5):
                array[:] = LARGE + i
                for value in (LARGE + i, array, (LARGE + i).reshape(800, 250).T):
                    assert np.array_equal(await client.execute(value), 2 * value)
                assert np.array_equal(await client.execute(X), X)

    with hand_made(tmp_path, looking(look)) as server:
        run(main(server.url))
        assert server.connections == 2
        assert len(requests) == 15
        assert all(request.area is not None for request in requests[3:])


def test_many_at_once_get_their_own_answers(tmp_path: Path, run: Any) -> None:
    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url, connections_max=3) as client:
            answers = await asyncio.gather(*(client.execute(LARGE + i) for i in range(60)))
            for i, found in enumerate(answers):
                assert np.array_equal(found, 2 * (LARGE + i))

    with hand_made(tmp_path, looking(doubled)) as server:
        run(main(server.url))
        assert server.connections <= 3


def test_one_connection_serves_both_kinds_of_calls(tmp_path: Path, run: Any) -> None:
    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url, connections_max=1) as client:
            assert np.array_equal(await client.execute(X), X)
            for _ in range(3):
                assert np.array_equal(await client.execute(LARGE), 2 * LARGE)
                assert np.array_equal(await client.execute(X), 2 * X)

    with hand_made(tmp_path, looking(doubled)) as server:
        run(main(server.url))
        assert server.connections == 2


def test_other_servers_get_bytes_and_are_asked_once(tmp_path: Path, run: Any) -> None:
    asked = []

    def talk(caller: Caller) -> None:
        asked.append(caller.read_head() == ASKED)
        if asked[-1]:
            caller.send(answer(b"no", "404 Not Found"))
        else:
            caller.unread_head()
        caller.serve()

    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            for i in range(5):
                assert np.array_equal(await client.execute(LARGE + i), LARGE + i)

    with hand_made(tmp_path, talk) as server:
        run(main(server.url))
        assert asked == [True]


def test_a_server_that_refuses_what_it_was_shown_gets_the_same_as_bytes(tmp_path: Path, run: Any) -> None:
    body = b"".join(encode_infer_response([], [ErrorInfo(2, "descriptors are missing")]))
    refusal = answer(body, "400 Bad Request", "GraphPipe-Memory: refused")

    def refuse(shown: Shown) -> bytes:
        return refusal if shown.places else shown.answer(shown.inputs[0])

    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            for i in range(4):
                assert np.array_equal(await client.execute(LARGE + i), LARGE + i)

    with hand_made(tmp_path, looking(refuse)) as server:
        run(main(server.url))
        assert server.requests == 5


def test_memory_that_a_server_may_still_look_at_is_never_used_again(tmp_path: Path, run: Any) -> None:
    looked_at: list[Shown] = []
    third, go_on = threading.Event(), threading.Event()

    def look(shown: Shown) -> bytes:
        looked_at.append(shown)
        if len(looked_at) == 3:
            third.set()
        if 2 <= len(looked_at) <= 3:
            go_on.wait(20)
        return doubled(shown)

    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            await client.execute(LARGE)
            with pytest.raises(TimedOut):
                await client.execute(LARGE + 1, timeout=0.2)
            cancelled = asyncio.ensure_future(client.execute(LARGE + 2))
            await asyncio.to_thread(third.wait, 20)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            for i in range(3, 9):
                assert np.array_equal(await client.execute(LARGE + i), 2 * (LARGE + i))
        go_on.set()

    with hand_made(tmp_path, looking(look)) as server:
        run(main(server.url))
        for i, late in enumerate(looked_at[1:3]):
            assert np.array_equal(late.inputs[0], LARGE + 1 + i)
            assert all(not set(late.inodes) & set(later.inodes) for later in looked_at[3:])


def test_an_answer_that_says_what_cannot_be_is_no_answer(tmp_path: Path, run: Any) -> None:
    body = b"".join(encode_infer_response([LARGE], elsewhere={0}))
    lie = answer(body, "200 OK", "GraphPipe-Memory: 0=0+400000")

    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            with pytest.raises(NoAnswer, match="was lent no memory for outputs"):
                await client.execute(LARGE)

    with hand_made(tmp_path, looking(lambda shown: lie)) as server:
        run(main(server.url))
