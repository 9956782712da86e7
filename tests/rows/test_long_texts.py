"""What callers write is remembered in part, by a digest or not at all: nobody can fill a server's memory with texts."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import TooLarge
from graphpipe.server.stages import Request
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.causes import cause
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.front.servers import Function, in_process
from tests.rows.conftest import Call, Model, signature, until, x

TEXTS, LENGTH = 200, 100_000


def _open_model() -> Model:
    """Nothing is declared of its outputs: how they follow the rows has to be seen, and is remembered for each config."""

    def function(inputs: dict[str, Any], config: str) -> dict[str, Any]:
        return dict.fromkeys(("y", *(name for name in inputs if name != "x")), inputs["x"] * 2)

    return Model(function, signature({"x": (None, None)}, {"y": (None, None)}, variadic=True))


@pytest.mark.parametrize("what", ["config", "a name"])
@pytest.mark.parametrize("kind", ["batching", "cache", "both"])
async def test_the_texts_of_many_requests_are_not_kept(
    closing: Callable[[Any], Any], tmp_path: Path, kind: str, what: str
) -> None:
    model = _open_model()
    stage: Any = ModelRunner(model, "model", 1)
    if kind != "cache":
        stage = Batcher(BatchLimits(8), stage, RowEvidence(model.signature))
    if kind != "batching":
        store = RowStore.open(tmp_path / "rows", 1 << 24)
        stage = RowCache(store, stage, ModelIdentity("1"), RowKeys(in_order=True), RowEvidence(model.signature))
    closing(stage)

    async def ask(number: int) -> None:
        text = f"{number} ".ljust(LENGTH)
        for rows in (2, 3):  # twice, so that it is known how its outputs follow its rows
            inputs = x(*range(rows)).inputs
            if what == "a name":
                inputs[text] = inputs["x"]
            answer = await Call(stage.infer(Request(inputs, ("y",), text if what == "config" else ""))).answer()
            assert answer["y"][1, 0] == 2
        model.configs.clear()

    for number in range(3):
        await ask(number)
    tracemalloc.start()
    try:
        for number in range(3, TEXTS):
            await ask(number)
        if kind != "batching":
            await until(lambda: not stage._fresh and not stage._tasks)
        await asyncio.sleep(0)
        # All texts together are 20 MB.
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()


async def test_of_however_many_configs_some_are_remembered(closing: Callable[[Any], Any]) -> None:
    evidence = RowEvidence(_open_model().signature)
    y = np.zeros((5, 2))
    for number in range(5000):
        for rows in (2, 3):
            request = Request(x(*range(rows)).inputs, ("y",), str(number))
            assert evidence.add(request, {"y": y[:rows]}, rows) is None
        assert evidence.holds(request)
    assert len(evidence._proven) + len(evidence._seen) <= 2048


def test_a_config_that_is_as_long_as_data_is_refused() -> None:
    with in_process({"m": Function(lambda inputs: {"y": inputs["x"]})}) as server:
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.ones(3), config="c" * (1 << 20)).sum() == 3
            with pytest.raises(TooLarge, match=r"config has 1,048,577 characters"):
                client.execute(np.ones(3), config="c" * ((1 << 20) + 1))


@pytest.mark.parametrize("strings", [[b""] * 3_000_000, [b"secret" * 20_000]], ids=["many and empty", "one, and long"])
def test_a_failure_on_much_text_is_told_without_looking_for_it(strings: list[bytes]) -> None:
    request = Request({"x": np.array(strings, object)}, (), "")
    words = strings[0][:6].decode()
    try:
        raise ValueError(words)
    except ValueError as error:
        said = cause(error, request)
    assert said.endswith("ValueError: (the request has much text, so its words are left out; --log-values shows them)")
