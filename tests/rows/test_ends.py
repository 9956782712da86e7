"""However a batch, a flight, a question or a thread ends, nobody waits for it for ever."""

from __future__ import annotations

import asyncio

import pytest

from graphpipe.errors import ModelFailed, UpstreamFailed
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.batching.ragged import RaggedAxes
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.cache.upstream import UpstreamVersion
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.faults.misdeeds import PanicException, Singular
from tests.rows.conftest import Call, Model, doubling, signature, turns, until, x


def batched(closing, model, **limits):
    limits = BatchLimits(**{"rows_max": 3, "wait_s": 600.0} | limits)
    return closing(Batcher(limits, ModelRunner(model, "model", 1), RowEvidence(model.signature), "model"))


def cached(closing, tmp_path, model, version="1"):
    store = RowStore.open(tmp_path / "rows", 1 << 24)
    runner = ModelRunner(model, "model", 1)
    return closing(
        RowCache(store, runner, ModelIdentity(version), RowKeys(in_order=False), RowEvidence(model.signature))
    )


async def test_a_batch_that_is_cancelled_fails_all_its_members(closing):
    model = doubling()
    model.gate.clear()
    stage = batched(closing, model)
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    await until(lambda: stage._running)
    for run in stage._running:
        run.task.cancel()
    for call in calls:
        with pytest.raises(ModelFailed, match="came to no end"):
            await call.answer()
    model.gate.set()


class Torn(RaggedAxes):
    """Cuts nothing right: a bug of ours."""

    def cut(self, outputs, inputs):
        raise PanicException

    def pad(self, parts):
        raise MemoryError


async def test_a_bug_of_ours_fails_who_waits_and_no_more(closing):
    model = doubling()
    stage = batched(closing, model, ragged=Torn({"x": {1: 0}}, {}))
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    for i, call in enumerate(calls):  # joining them took too much memory: each alone
        assert (await call.answer())["y"][0, 0] == 2 * i


async def test_an_error_that_cannot_be_copied_reaches_every_member(closing):
    def away(inputs, config):
        raise Singular("the upstream", " is", " away")

    stage = batched(closing, Model(away, signature()))
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    for call in calls:
        with pytest.raises(UpstreamFailed, match="the upstream is away"):
            await call.answer()


async def test_a_flight_that_is_cancelled_leaves_nobody_waiting(closing, tmp_path):
    model = doubling()
    stage = cached(closing, tmp_path, model)
    model.gate.clear()
    calls = [Call(stage.infer(x(1))) for _ in range(3)]
    for task in [*stage._tasks]:  # before its first step, and then in its midst
        task.cancel()
    await turns()
    model.gate.set()
    for call in calls:
        assert (await call.answer())["y"][0, 0] == 2
    assert not stage._flights


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, StopIteration, PanicException, ValueError])
async def test_an_upstream_that_cannot_be_asked_answers_itself(closing, tmp_path, error):
    def ask():
        raise error

    stage = cached(closing, tmp_path, doubling(), UpstreamVersion(ask))
    calls = [Call(stage.infer(x(1))) for _ in range(3)]
    for call in calls:
        assert (await call.answer())["y"][0, 0] == 2


def test_a_models_thread_outlives_a_loop(closing):
    runner = closing(ModelRunner(doubling(), "model", 1))
    loop = asyncio.new_event_loop()

    async def leave():
        call = asyncio.ensure_future(runner.infer(x(1)))
        await asyncio.sleep(0)
        call.cancel()

    runner._model.gate.clear()
    loop.run_until_complete(leave())
    loop.close()
    runner._model.gate.set()

    async def ask():
        async with asyncio.timeout(20):
            return await runner.infer(x(2))

    assert asyncio.run(ask())["y"][0, 0] == 4
