"""An answer is handed back when it is there, whatever its thread does next."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphpipe.errors import ModelFailed
from graphpipe.server.stages import Request
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.rows.conftest import Call, Model, doubling, signature, until, x


def _plain(model: Model) -> Any:
    return ModelRunner(model, "model", 1)


def _batched(model: Model) -> Any:
    # Two batches may be with the one thread, as where joining makes no row cheaper.
    return Batcher(BatchLimits(4, at_once=2), _plain(model), RowEvidence(model.signature))


def _in_fixed_sizes(model: Model) -> Any:
    return Batcher(BatchLimits(4, sizes=(4,), at_once=2), _plain(model), RowEvidence(model.signature))


@pytest.mark.parametrize("stage_of", [_plain, _batched, _in_fixed_sizes])
async def test_a_quick_answer_does_not_wait_for_the_long_run_behind_it(
    closing: Callable[[Any], Any], stage_of: Callable[[Model], Any]
) -> None:
    began, may_end = threading.Event(), threading.Event()

    def function(inputs: dict[str, Any], config: str) -> dict[str, Any]:
        if config == "long":
            began.set()
            assert may_end.wait(30)
        return {"y": inputs["x"] * 2}

    model = Model(function, signature())
    stage = closing(stage_of(model))
    model.gate.clear()
    calls = [
        Call(stage.infer(Request(x(1).inputs, ("y",), config))) for config in ("quick", "long")
    ]  # both wait for the one thread
    await until(lambda: model.entered.is_set() and stage.waiting + len(model.calls) == 2)
    model.gate.set()
    assert (await calls[0].answer())["y"][0, 0] == 2
    await until(began.is_set)
    assert not calls[1].done.is_set()
    may_end.set()
    assert (await calls[1].answer())["y"][0, 0] == 2


async def test_what_is_raised_into_a_models_thread_loses_no_request(closing: Callable[[Any], Any]) -> None:
    model = doubling()
    runner = closing(ModelRunner(model, "model", 1))
    [thread] = runner._threads
    over = threading.Event()

    def interrupt() -> None:
        while not over.wait(0.002):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(InterruptedError))

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    ended = 0
    try:
        for _ in range(20):
            for call in [Call(runner.infer(x(i))) for i in range(20)]:
                with contextlib.suppress(ModelFailed):
                    assert np.isfinite((await call.answer())["y"]).all()
                ended += 1
    finally:
        over.set()
        interrupting.join()
    assert ended == 400
    with contextlib.suppress(ModelFailed):  # what was raised last may still be on its way
        await Call(runner.infer(x(3))).answer()
    assert (await Call(runner.infer(x(3))).answer())["y"][0, 0] == 6
