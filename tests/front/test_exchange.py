"""A request has one life, whichever way it came in: it begins once, and is answered or left once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graphpipe.errors import DeadlineExceeded, ModelFailed
from graphpipe.server.exchange import Exchange
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.accesslog import NOBODY_KNOWS, AccessLog
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.state import State
from graphpipe.server.target import Target


class Life:
    """An exchange, and what is seen of it."""

    def __init__(self, answer: Any) -> None:
        self.state, self.counters = State(), Counters(["m"])
        self.service = Service("m", None, None, self.counters.meter("m"))  # type: ignore[arg-type]
        self.exchange = Exchange(self.state, AccessLog(0), self.counters.meter(""), asyncio.get_running_loop())
        self.target = Target(self.service, answer, lambda size: None)
        self.told: list[tuple[Any, BaseException | None]] = []
        self.let_go: list[Service] = []

    def start(self, timeout_ms: int | None = None) -> Any:
        self.exchange.start(self.service)
        return self.exchange.answer(self.target, b"", timeout_ms, lambda *told: self.told.append(told))

    def finish(self, status: int = 200) -> None:
        self.exchange.finish(status, None, 0, 0, 1, NOBODY_KNOWS)

    @property
    def abandoned(self) -> float:
        return self.counters.total("graphpipe_abandoned_requests", "m")


ANSWER = ([b"bytes"], 1)


def at_once(body: Any, deadline: float | None, request_id: str) -> Any:
    return ANSWER


async def soon(body: Any, deadline: float | None, request_id: str) -> Any:
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    return ANSWER


async def never(body: Any, deadline: float | None, request_id: str) -> Any:
    await asyncio.get_running_loop().create_future()


async def fails(body: Any, deadline: float | None, request_id: str) -> Any:
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    raise ModelFailed("no")


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 10))


async def until(condition: Any) -> None:
    for _ in range(9000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not become true")


def test_an_answer_that_needs_no_waiting_is_there_at_once_and_nothing_is_in_flight():
    async def live() -> None:
        life = Life(at_once)
        assert life.start() == ANSWER
        assert life.state.in_flight == 0
        life.finish()
        assert life.told == []

    run(live())


@pytest.mark.parametrize(("answer", "kind"), [(soon, type(None)), (fails, ModelFailed)])
def test_what_takes_waiting_is_told_once_and_held_until_then(answer, kind):
    async def live() -> None:
        life = Life(answer)
        assert life.start() is None
        assert life.state.in_flight == 1
        life.service.retire(life.let_go.append)
        assert life.let_go == []
        await until(lambda: life.told)
        [(_, error)] = life.told
        assert type(error) is kind
        assert life.state.in_flight == 0
        assert life.let_go == [life.service]
        life.finish(200 if error is None else 500)

    run(live())


def test_a_deadline_ends_the_waiting_and_what_waited():
    async def live() -> None:
        life = Life(never)
        assert life.start(timeout_ms=5) is None
        await until(lambda: life.told)
        [(answer, error)] = life.told
        assert answer is None
        assert isinstance(error, DeadlineExceeded)
        assert life.state.in_flight == 0
        life.finish(504)
        assert life.abandoned == 0

    run(live())


def test_a_caller_who_leaves_ends_it_without_a_word_and_is_counted_once():
    async def live() -> None:
        life = Life(never)
        life.start(timeout_ms=60_000)
        life.exchange.leave()
        life.exchange.leave()
        assert (life.state.in_flight, life.told, life.abandoned) == (0, [], 1)

    run(live())


def test_a_caller_who_leaves_after_the_answer_is_not_counted_as_gone():
    async def live() -> None:
        life = Life(at_once)
        life.start()
        life.finish()
        life.exchange.leave()
        assert life.abandoned == 0

    run(live())


@pytest.mark.parametrize("order", ["start start", "finish", "start finish finish", "start leave finish"])
def test_what_cannot_be_is_not_let_pass(order):
    async def live() -> None:
        life = Life(at_once)
        steps = {"start": life.start, "finish": life.finish, "leave": life.exchange.leave}
        *before, last = order.split()
        for step in before:
            steps[step]()
        with pytest.raises(AssertionError):
            steps[last]()

    run(live())


def test_it_is_not_finished_while_its_answer_is_under_way():
    async def live() -> None:
        life = Life(never)
        life.start()
        with pytest.raises(AssertionError):
            life.finish()
        life.exchange.leave()

    run(live())


def test_an_exchange_is_used_again_for_the_next_request():
    async def live() -> None:
        life = Life(soon)
        for number in range(3):
            life.start(timeout_ms=60_000)
            await until(lambda number=number: len(life.told) == number + 1)
            life.finish()

    run(live())


def test_a_limit_counts_from_when_it_was_set_whatever_is_waited_for():
    async def live() -> None:
        life = Life(never)
        late: list[DeadlineExceeded] = []
        life.exchange.start(life.service)
        life.exchange.limit(20, late.append)
        began = asyncio.get_running_loop().time()
        life.exchange.wait(soon(None, None, ""), lambda *told: life.told.append(told))  # for room, say
        await until(lambda: life.told)
        life.exchange.answer(life.target, b"", 60_000, lambda *told: life.told.append(told))
        await until(lambda: len(life.told) == 2)
        assert isinstance(life.told[1][1], DeadlineExceeded)
        assert asyncio.get_running_loop().time() - began < 30
        assert late == []
        life.finish(504)

    run(live())


def test_a_limit_is_told_of_while_nothing_is_under_way():
    async def live() -> None:
        life = Life(never)
        late: list[DeadlineExceeded] = []
        for _ in range(2):
            life.exchange.start(life.service)
            life.exchange.limit(5, late.append)
            life.exchange.leave()
        life.exchange.start(life.service)
        life.exchange.limit(5, late.append)
        await until(lambda: late)
        life.finish(504)
        await asyncio.sleep(0.02)  # the others' limits ended with them
        assert len(late) == 1

    run(live())
