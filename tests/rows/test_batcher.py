"""Rows of several callers share one call, and nobody can tell."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from graphpipe.errors import DeadlineExceeded, ModelFailed, Overloaded
from graphpipe.server.stages import Request
from graphpipe.server.stages.batching.gain import BatchGain
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.rows.conftest import Call, Model, doubling, signature, turns, until, x

FOR_EVER = 600.0


@pytest.fixture
def batcher(closing):
    def make(model, rows_max=8, wait_s=0.0, **limits):
        limits = BatchLimits(rows_max, wait_s, **limits)
        runner = ModelRunner(model, "model", limits.at_once)
        return closing(Batcher(limits, runner, RowEvidence(model.signature), "model"))

    return make


async def busy(stage, model):
    """A call that keeps the model busy until its gate opens."""
    model.gate.clear()
    model.entered.clear()
    call = Call(stage.infer(x(1000)))
    await until(model.entered.is_set)
    return call


def first(outputs):
    return outputs["y"][:, 0].tolist()


async def test_what_queues_while_the_model_is_busy_is_one_batch(batcher):
    model = doubling()
    stage = batcher(model)
    running = await busy(stage, model)
    calls = [Call(stage.infer(x(i))) for i in range(5)]
    model.gate.set()
    assert [first(await call.answer()) for call in (running, *calls)] == [[2000], [0], [2], [4], [6], [8]]
    assert model.calls == [1, 5]


async def test_rows_are_counted_not_requests(batcher):
    model = doubling()
    stage = batcher(model, rows_max=8)
    running = await busy(stage, model)
    calls = [Call(stage.infer(x(*range(i, i + 3)))) for i in range(4)]
    model.gate.set()
    await running.answer()
    assert [first(await call.answer()) for call in calls] == [[2 * (i + j) for j in range(3)] for i in range(4)]
    assert model.calls == [1, 6, 6]


async def test_a_full_batch_does_not_wait(batcher):
    model = doubling()
    stage = batcher(model, rows_max=4, wait_s=FOR_EVER)
    calls = [Call(stage.infer(x(i))) for i in range(4)]
    assert [first(await call.answer()) for call in calls] == [[0], [2], [4], [6]]
    assert model.calls == [4]


async def test_a_batch_closes_when_its_first_members_time_is_over_however_many_come_later(batcher):
    model = doubling()
    stage = batcher(model, rows_max=1000, wait_s=0.05)
    loop = asyncio.get_running_loop()
    oldest, came = Call(stage.infer(x(1))), loop.time()
    others = []
    while not oldest.done.is_set() and loop.time() < came + 10:
        others.append(Call(stage.infer(x(2))))
        await asyncio.sleep(0.01)
    assert first(await oldest.answer()) == [2]
    assert model.calls[0] < 100  # a wait that began anew with each arrival would have gone on to the end
    for other in others:
        await other.answer()


@pytest.mark.parametrize(
    "other",
    [
        Request({"x": np.ones((1, 2), np.float64)}, ("y",), ""),
        Request({"x": np.ones((1, 3), np.float32)}, ("y",), ""),
        Request({"x": np.ones((1, 2), np.float32)}, ("y", "z"), ""),
        Request({"x": np.ones((1, 2), np.float32)}, ("y",), "fast"),
        Request({"x": np.ones((1, 2), np.float32), "w": np.ones((1, 2), np.float32)}, ("y",), ""),
        Request({"x": np.float32(1)}, ("y",), ""),
        Request({"x": np.ones((9, 2), np.float32)}, ("y",), ""),
    ],
    ids=["dtype", "row shape", "outputs", "config", "inputs", "no rows", "too many rows"],
)
async def test_requests_of_another_kind_form_a_batch_beside_it_and_block_nobody(batcher, other):
    model = Model(lambda inputs, config: {"y": inputs["x"], "z": inputs["x"]}, signature())
    stage = batcher(model, wait_s=0.02)
    mine = [Call(stage.infer(x(1))), Call(stage.infer(other)), Call(stage.infer(x(2)))]
    answers = [await call.answer() for call in mine]
    assert first(answers[0]) == [1]
    assert first(answers[2]) == [2]
    assert np.array_equal(answers[1]["y"], other.inputs["x"])
    assert sorted(model.calls) == sorted([2, *([1] if not other.inputs["x"].ndim else [len(other.inputs["x"])])]) or (
        model.calls.count(0) == 1
    )


async def test_kinds_that_wait_are_served_in_the_order_of_their_oldest_member(batcher):
    seen = []
    model = Model(lambda inputs, config: seen.append(config) or {"y": inputs["x"]}, signature())
    stage = batcher(model)
    running = await busy(stage, model)
    calls = [Call(stage.infer(Request(x(1).inputs, ("y",), config))) for config in "aabbaaccbbaa"]
    model.gate.set()
    for call in (running, *calls):
        await call.answer()
    assert seen[1:] == ["a", "b", "c"]


async def test_a_caller_who_leaves_takes_no_neighbour_along(batcher):
    model = doubling()
    stage = batcher(model, rows_max=3)
    running = await busy(stage, model)
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    calls[1].leave()
    assert stage.queue_rows == 2
    model.gate.set()
    assert [first(await call.answer()) for call in (running, calls[0], calls[2])] == [[2000], [0], [4]]
    assert model.calls == [1, 2]


async def test_a_caller_who_leaves_while_the_batch_runs_takes_no_neighbour_along(batcher):
    model = doubling()
    stage = batcher(model, rows_max=3, wait_s=FOR_EVER)
    model.gate.clear()
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    await until(model.entered.is_set)
    calls[1].leave()
    model.gate.set()
    assert [first(await call.answer()) for call in (calls[0], calls[2])] == [[0], [4]]


async def test_a_task_that_is_cancelled_takes_no_neighbour_along(batcher):
    model = doubling()
    stage = batcher(model, rows_max=3)
    running = await busy(stage, model)
    tasks = [asyncio.create_task(stage.infer(x(i))) for i in range(3)]
    await turns()
    tasks[1].cancel()
    await turns()
    model.gate.set()
    await running.answer()
    assert [first(await task) for task in (tasks[0], tasks[2])] == [[0], [4]]


@pytest.mark.parametrize("count", range(6))
async def test_a_place_is_given_back_whenever_its_callers_leave(batcher, count):
    model = doubling()
    stage = batcher(model)
    for _ in range(3):
        call = Call(stage.infer(x(1)))
        await turns(count)
        call.leave()
    assert first(await Call(stage.infer(x(2))).answer()) == [4]
    await until(lambda: not stage._running)


async def test_when_all_callers_of_a_waiting_call_leave_the_model_is_not_asked(batcher):
    model = doubling()
    stage = batcher(model, at_once=2, rows_max=2)
    stage._next._threads[1:] = []  # the second call waits in the runner
    running = await busy(stage, model)
    calls = [Call(stage.infer(x(i))) for i in range(2)]
    await turns()
    for call in calls:
        call.leave()
    await turns()
    again = Call(stage.infer(x(7)))
    model.gate.set()
    assert first(await running.answer()) == [2000]
    assert first(await again.answer()) == [14]


async def test_a_caller_whose_deadline_passed_is_told_so_and_takes_no_neighbour_along(batcher):
    model = doubling()
    stage = batcher(model)
    running = await busy(stage, model)
    now = asyncio.get_running_loop().time()
    calls = [Call(stage.infer(x(0))), Call(stage.infer(x(1, deadline=now))), Call(stage.infer(x(2, deadline=now + 60)))]
    await asyncio.sleep(0.002)
    model.gate.set()
    await running.answer()
    with pytest.raises(DeadlineExceeded):
        await calls[1].answer()
    assert first(await calls[0].answer()) == [0]
    assert first(await calls[2].answer()) == [4]
    assert model.calls == [1, 2]


async def test_a_caller_in_a_hurry_does_not_wait_for_company_until_it_is_too_late(batcher):
    model = doubling()
    stage = batcher(model, wait_s=FOR_EVER)
    slow = Call(stage.infer(x(1)))
    quick = Call(stage.infer(x(2, deadline=asyncio.get_running_loop().time() + 2)))
    assert first(await quick.answer()) == [4]
    assert first(await slow.answer()) == [2]
    assert model.calls == [2]


async def test_only_the_owner_of_a_row_that_makes_the_model_fail_gets_the_error(batcher):
    model = doubling()
    stage = batcher(model, rows_max=5, wait_s=FOR_EVER)
    calls = [Call(stage.infer(x(value))) for value in (1, 2, -3, 4, 5)]
    for call, value in zip(calls, (1, 2, -3, 4, 5), strict=True):
        if value < 0:
            with pytest.raises(ModelFailed):
                await call.answer()
        else:
            assert first(await call.answer()) == [2 * value]
    assert model.calls == [5, 1, 1, 1, 1, 1]


async def test_an_overloaded_upstream_is_not_asked_again_for_each_member(batcher):
    def refuse(inputs, config):
        raise Overloaded("too much", 7)

    model = Model(refuse, signature())
    stage = batcher(model, rows_max=3, wait_s=FOR_EVER)
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    for call in calls:
        with pytest.raises(Overloaded) as error:
            await call.answer()
        assert (error.value.message, error.value.retry_after_s) == ("too much", 7)
    assert model.calls == [3]


async def test_beyond_the_queues_limit_callers_are_refused_at_once(batcher):
    model = doubling()
    stage = batcher(model, queue_rows_max=4)
    running = await busy(stage, model)
    calls = [Call(stage.infer(x(i, i))) for i in range(2)]
    refused = Call(stage.infer(x(9)))
    with pytest.raises(Overloaded, match="--queue-rows-max"):
        await refused.answer()
    calls[0].leave()
    later = Call(stage.infer(x(7)))
    model.gate.set()
    for call in (running, calls[1], later):
        await call.answer()
    assert stage.queue_rows == 0
    assert stage.counts.refused == 1


async def test_a_request_larger_than_the_queue_is_served_when_nobody_waits(batcher):
    model = doubling()
    stage = batcher(model, queue_rows_max=4)
    assert len(first(await Call(stage.infer(x(*range(20)))).answer())) == 20


async def test_large_batches_are_joined_and_split_rightly_off_the_loop(batcher):
    model = Model(
        lambda inputs, config: {"y": inputs["x"] + 1},
        signature({"x": ("f8", ("n", 50_000))}, {"y": ("f8", ("n", 50_000))}),
    )
    stage = batcher(model, rows_max=4, wait_s=FOR_EVER)
    rows = np.random.default_rng(0).random((4, 50_000))
    calls = [Call(stage.infer(Request({"x": rows[i : i + 1]}, ("y",), ""))) for i in range(4)]
    for i, call in enumerate(calls):
        assert np.array_equal((await call.answer())["y"], rows[i : i + 1] + 1)
    assert model.calls == [4]


# --- sizes ---


async def test_the_model_is_called_with_allowed_sizes_only(batcher):
    model = doubling()
    stage = batcher(model, rows_max=8, sizes=(1, 2, 4, 8), wait_s=0.01)
    for count in (1, 3, 5, 8, 21):
        values = list(range(count))
        assert first(await Call(stage.infer(x(*values))).answer()) == [2 * value for value in values]
    assert model.calls == [1, 4, 8, 8, 8, 8, 8]
    assert stage.counts.padding_rows == 1 + 3 + 3


async def test_padding_never_reaches_a_caller(batcher):
    model = doubling()
    stage = batcher(model, rows_max=8, sizes=(8,), wait_s=0.01)
    calls = [Call(stage.infer(x(*range(i)))) for i in (1, 2, 3)]
    assert [first(await call.answer()) for call in calls] == [[0], [0, 2], [0, 2, 4]]
    assert model.calls == [8]


async def test_text_rows_are_filled_up_too(batcher):
    model = Model(
        lambda inputs, config: {"y": np.array([[item * 2 for item in row] for row in inputs["x"]], object)},
        signature({"x": (object, ("n", 2))}, {"y": (object, ("n", 2))}),
    )
    stage = batcher(model, rows_max=4, sizes=(4,))
    rows = np.array([[b"a\0", b""], [b"\xff", b"long " * 50]], object)
    answer = await Call(stage.infer(Request({"x": rows}, ("y",), ""))).answer()
    assert answer["y"].tolist() == [[b"a\0a\0", b""], [b"\xff\xff", b"long " * 100]]


# --- outputs that do not follow the rows ---


def undeclared(function):
    """A model whose declaration says nothing of rows."""
    return Model(function, signature({"x": ("f4", None)}, {"y": ("f4", None)}))


@pytest.mark.parametrize(
    "function",
    [
        lambda inputs, config: {"y": inputs["x"].mean(axis=0, keepdims=True)},
        lambda inputs, config: {"y": inputs["x"].sum()},
        lambda inputs, config: {"y": np.arange(2, dtype=np.float32)},
        lambda inputs, config: {"y": inputs["x"][inputs["x"][:, 0] > 1]},
    ],
    ids=["mean", "scalar", "constant of the batch's length", "filter"],
)
async def test_where_outputs_do_not_follow_the_rows_batching_is_refused_and_everybody_gets_the_models_answer(
    batcher, function, caplog
):
    model = undeclared(function)
    stage = batcher(model, rows_max=2, wait_s=0.01)
    for _ in range(3):
        calls = [Call(stage.infer(x(i))) for i in range(2)]
        for i, call in enumerate(calls):
            assert np.array_equal((await call.answer())["y"], function(x(i).inputs, "")["y"])
    assert "output 'y'" in stage.refusal
    assert caplog.text.count("batching is off for this model") == 1
    model.calls.clear()
    for call in [Call(stage.infer(x(i))) for i in range(2)]:
        await call.answer()
    assert model.calls == [1, 1]


async def test_undeclared_outputs_are_proven_once_and_joined_from_then_on(batcher):
    model = undeclared(lambda inputs, config: {"y": inputs["x"] * 2})
    stage = batcher(model, rows_max=3, wait_s=FOR_EVER)
    for _ in range(2):
        calls = [Call(stage.infer(x(i))) for i in range(3)]
        assert [first(await call.answer()) for call in calls] == [[0], [2], [4]]
    assert model.calls == [1, 3, 3]


@pytest.mark.parametrize(
    ("call_s", "row_s", "worth"), [(0.005, 0.0, 32), (0.0, 0.005, 1), (0.02, 0.005, 32), (0.0, 0.00001, 32)]
)
def test_batches_grow_as_far_as_rows_get_cheaper(call_s, row_s, worth):
    gain = BatchGain(32)
    sizes = set()
    for _ in range(500):
        rows = gain.rows_for_next()
        sizes.add(rows)
        gain.ran(rows, call_s + rows * row_s)
    assert gain.rows_worth == worth
    assert {1, 32} <= sizes  # both are tried now and then, so a change would be noticed
    for _ in range(20_000):
        rows = gain.rows_for_next()
        gain.ran(rows, 0.005 if worth == 1 else rows * 0.005)
    assert gain.rows_worth == (32 if worth == 1 else 1)


@pytest.mark.parametrize("compiling_s", [0.3, 3.0])
def test_a_slow_first_call_of_a_size_is_soon_forgotten(compiling_s):
    gain, seen = BatchGain(32), set()
    for number in range(4000):
        rows = min(gain.rows_for_next(), 1 if number < 200 else 20 + number % 13)
        gain.ran(rows, 0.004 + 0.001 * rows + (rows not in seen) * compiling_s)
        seen.add(rows)
    assert gain.rows_worth == 32


async def test_where_joining_gains_nothing_nobody_waits_for_company(batcher):
    model = Model(lambda inputs, config: time.sleep(0.003 * len(inputs["x"])) or {"y": inputs["x"]}, signature())
    stage = batcher(model, rows_max=4)
    while stage._gain.rows_worth == 4:
        for call in [Call(stage.infer(x(i))) for i in range(5)]:
            await call.answer()
    model.calls.clear()
    for call in [Call(stage.infer(x(i))) for i in range(5)]:
        await call.answer()
    assert sorted(model.calls)[:2] == [1, 1]


async def test_work_goes_on_at_as_many_calls_at_once_as_the_model_takes(batcher):
    both = threading.Barrier(2)
    model = Model(lambda inputs, config: both.wait(20) is None or {"y": inputs["x"]}, signature())
    stage = batcher(model, rows_max=1, at_once=2)
    calls = [Call(stage.infer(x(i))) for i in range(2)]
    assert [first(await call.answer()) for call in calls] == [[0], [1]]
