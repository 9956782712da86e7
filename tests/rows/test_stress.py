"""Many callers at once, who leave, hurry and send bad rows, over models that keep what they give: no answer is another's."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

import numpy as np
import pytest

from graphpipe.errors import DeadlineExceeded, ModelFailed
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.faults.misdeeds import PanicException
from tests.rows.conftest import Call, Model, signature, x

BAD = 13.0
MODELS = {"fresh": False, "keeping": True}


def tripling(*, keeps: bool) -> Model:
    """y = 3 x; fails on a row that begins with BAD; ``keeps``: gives the same memory again and again."""
    own = threading.local()

    def function(inputs, config):
        rows = inputs["x"]
        if (rows[:, 0] == BAD).any():
            raise PanicException("a bad row")
        if not keeps:
            return {"y": rows * 3}
        if not hasattr(own, "y"):
            own.y = np.empty((4096, 2), np.float32)
        y = own.y[: len(rows)]
        np.multiply(rows, 3, out=y)
        return {"y": y}

    return Model(function, signature())


def stage_of(kind: str, model: Model, folder) -> object:
    stage = ModelRunner(model, "model", 2)
    if "batched" in kind:
        stage = Batcher(BatchLimits(16, 0.001, at_once=2), stage, RowEvidence(model.signature))
    if "cached" in kind:
        store = RowStore.open(folder / "rows", 1 << 26)
        keys = RowKeys(in_order=False)
        stage = RowCache(store, stage, ModelIdentity("1"), keys, RowEvidence(model.signature))
    return stage


async def caller(stage, seed: int, checked: int, seen: Counter[str]) -> None:
    chance = random.Random(seed)
    while seen["checked"] < checked:
        rows = [float(chance.randrange(14 if chance.random() < 0.1 else 13)) for _ in range(chance.randint(1, 5))]
        if chance.random() < 0.5:
            rows = [value + chance.randrange(20, 10_000) for value in rows]
        hurry = chance.choice([None, None, None, 0.0, 0.002])
        deadline = None if hurry is None else asyncio.get_running_loop().time() + hurry
        request = x(*rows, deadline=deadline)
        call = Call(stage.infer(request))
        if chance.random() < 0.15:
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
            call.leave()
            seen["left"] += 1
            continue
        try:
            y = (await call.answer())["y"]
        except DeadlineExceeded:
            seen["late" if hurry is not None else "wrong"] += 1
            continue
        except ModelFailed:
            seen["bad" if BAD in rows else "wrong"] += 1
            continue
        await asyncio.sleep(0)  # others run before it is looked at, as they do before it is sent
        seen["checked"] += 1
        seen["wrong"] += not (BAD not in rows and np.array_equal(y, request.inputs["x"] * 3))


async def stress(kind: str, keeps: bool, checked: int, folder) -> Counter[str]:
    stage = stage_of(kind, tripling(keeps=keeps), folder)
    seen: Counter[str] = Counter()
    async with asyncio.timeout(100):
        await asyncio.gather(*(caller(stage, seed, checked, seen) for seed in range(24)))
        while stage.waiting:  # noqa: ASYNC110 -- calls of callers that have left wait until a thread comes to them
            await asyncio.sleep(0.01)
    stage.close()
    return seen


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["plain", "batched", "cached", "batched and cached"])
async def test_no_answer_is_anothers(kind, model, tmp_path):
    seen = await stress(kind, MODELS[model], 500, tmp_path)
    assert seen["wrong"] == 0, seen
    assert min(seen["left"], seen["late"], seen["bad"]) > 0, seen


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["plain", "batched", "cached", "batched and cached"])
async def test_of_20_000_answers_none_is_anothers(kind, model, tmp_path):
    seen = await stress(kind, MODELS[model], 20_000, tmp_path)
    print(kind, model, dict(seen))
    assert seen["wrong"] == 0, seen
