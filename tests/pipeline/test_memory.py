"""What becomes of a request's memory on its way through a pipeline on a server: kept, passed on, shown, written to."""

from __future__ import annotations

import gc
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import ModelFailed, Pipeline, Stage
from tests.pipeline.served import is_whole, served, wait_for

ROWS = 300_000  # 2.4 MB, which a client on the same host shows instead of sending it


def passes(x):
    return {"a": x}


def plus(a):
    return {"y": a + 1}


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
def test_large_inputs_come_through_by_either_way(listen, tmp_path):
    address = f"unix:{tmp_path / 's.sock'}" if listen == "unix" else listen
    with Pipeline([passes, plus], name="p") as pipeline, served(pipeline, "p", listen=address) as server:
        with graphpipe.Client(server.url) as client:
            for i in range(6):
                x = np.arange(ROWS, dtype=np.float64) + i
                assert np.array_equal(client.execute(x), x + 1)
            shown = client.empty("x", (ROWS,), np.float64)
            shown[:] = 7
            assert np.array_equal(client.execute(shown), np.full(ROWS, 8.0))
        wait_for(partial(server.ask, partial(is_whole, server.app.pool)))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
def test_what_a_stage_keeps_stays_as_it_was(listen, tmp_path):
    address = f"unix:{tmp_path / 's.sock'}" if listen == "unix" else listen
    kept: list[Any] = []

    def keeps(a):
        kept.append(a)
        return {"b": a[::-1]}

    def last(b):
        return {"y": b}

    stages = [passes, keeps, last]
    gc.collect()
    gc.disable()
    try:
        with Pipeline(stages, name="p") as pipeline, served(pipeline, "p", listen=address) as server:
            with graphpipe.Client(server.url) as client:
                for i in range(5):
                    x = np.full(ROWS, float(i))
                    x[0] = -1
                    assert np.array_equal(client.execute(x), x[::-1])
                for i, each in enumerate(kept):
                    assert each[0] == -1
                    assert (each[1:] == i).all()
                each = None
                kept.clear()
            wait_for(partial(server.ask, partial(is_whole, server.app.pool)))
    finally:
        gc.enable()


def test_a_stage_that_writes_to_what_it_is_given_fails_alone():
    def writes(a):
        a += 1
        return {"b": a}

    def beside(x):
        return {"c": x}

    def both(b, c):
        return {"y": b + c}

    with Pipeline([passes, writes, beside, both], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            with pytest.raises(ModelFailed, match="stage 'writes'"):
                client.execute(np.ones(3))
        with graphpipe.Client(f"{server.url}/models/p.beside") as client:
            assert client.infer({"x": np.ones(3)}, outputs=["c"])["c"].tolist() == [1, 1, 1]


def test_one_array_that_two_stages_give_on_is_each_ones_own_in_every_answer():
    """Callers at once, each with rows of his own, through a batcher in the middle."""

    def twice(x):
        return {"a": x, "b": x}

    def join(a, b):
        return {"y": a * 10 + b}

    stages = [twice, Stage(join, "join", batch_rows_max=64)]
    wrong: list[Any] = []
    with Pipeline(stages, name="p") as pipeline, served(pipeline, "p", threads=2) as server:

        def call(number: int) -> None:
            with graphpipe.Client(server.url) as client:
                for i in range(40):
                    x = np.full((1 + (i + number) % 3, 50), float(number * 100 + i))
                    if not np.array_equal(client.execute(x), x * 11):
                        wrong.append((number, i))

        callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
    assert not wrong
