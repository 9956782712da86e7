"""Known rows are answered from the store, and nobody can tell except by the time it takes."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from graphpipe.errors import ModelFailed
from graphpipe.server.stages import Request
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.cache.upstream import UpstreamVersion
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.rows.conftest import Call, Model, doubling, signature, turns, until, x


@pytest.fixture
def cache(closing, tmp_path):
    def make(model, *, threads=1, batch=None, declared="", bytes_max=64 << 20, folder="rows", ask=None, **more):
        stage = ModelRunner(model, "model", threads)
        if batch is not None:
            stage = Batcher(batch, stage, RowEvidence(model.signature), "model")
        identity = ModelIdentity(UpstreamVersion(ask) if ask else model.version, declared)
        keys = RowKeys(in_order=model.signature.variadic)
        store = RowStore.open(tmp_path / folder, bytes_max)
        return closing(RowCache(store, stage, identity, keys, RowEvidence(model.signature), **more))

    return make


async def on_disk(stage):
    """Wait until the rows computed so far are in the store and nowhere else."""
    await until(lambda: not stage._fresh)


def first(outputs):
    return outputs["y"][:, 0].tolist()


@pytest.fixture(params=["memory", "disk"])
def settled(request):
    """Both places that a known row can come from."""

    async def settle(stage):
        if request.param == "disk":
            await on_disk(stage)

    return settle


async def test_a_known_row_is_not_computed_again(cache, settled):
    model = doubling()
    stage = cache(model)
    assert first(await stage.infer(x(1, 2))) == [2, 4]
    await settled(stage)
    assert first(await stage.infer(x(2, 1))) == [4, 2]
    assert first(await stage.infer(x(2))) == [4]
    assert model.calls == [2]
    assert (stage.counts.hits, stage.counts.misses) == (3, 2)


async def test_only_the_missing_rows_are_computed_and_the_answer_is_in_order(cache, settled):
    model = doubling()
    stage = cache(model)
    await stage.infer(x(1, 3, 5))
    await settled(stage)
    assert first(await stage.infer(x(*range(7)))) == [0, 2, 4, 6, 8, 10, 12]
    assert model.calls == [3, 4]


async def test_a_row_that_occurs_twice_is_computed_once(cache, settled):
    model = doubling()
    stage = cache(model)
    for _ in range(2):
        assert first(await stage.infer(x(1, 2, 1, 1, 2))) == [2, 4, 2, 2, 4]
        await settled(stage)
    assert model.calls == [2]


async def test_rows_outlive_the_process_that_stored_them(cache):
    model = doubling()
    stage = cache(model)
    await stage.infer(x(1, 2))
    stage.close()
    again = doubling()
    assert first(await cache(again).infer(x(2, 1))) == [4, 2]
    assert again.calls == []


async def test_another_version_of_the_model_gets_none_of_the_old_rows(cache):
    stage = cache(doubling(version="1"))
    await stage.infer(x(1))
    await on_disk(stage)
    tripling = Model(lambda inputs, config: {"y": inputs["x"] * 3}, signature(), version="2")
    assert first(await cache(tripling).infer(x(1))) == [3]


async def test_another_declared_version_gets_none_of_the_old_rows(cache):
    stage = cache(doubling(version=""), declared="a")
    await stage.infer(x(1))
    await on_disk(stage)
    model = doubling(version="")
    other = cache(model, declared="b")
    await other.infer(x(1))
    assert model.calls == [1]


async def test_where_the_model_decides_what_to_answer_its_rows_are_known_too(cache, settled):
    function = {"a": lambda x: x + 1, "b": lambda x: x[:, 0] > 1, "c": lambda x: np.array([b"t"] * len(x), object)}
    model = Model(
        lambda inputs, config: {name: compute(inputs["x"]) for name, compute in function.items()},
        signature({"x": (None, None)}, {"y": (None, None)}, variadic=True),
    )
    stage = cache(model)
    for rows in ([[1, 1]], [[2, 2], [1, 1]], [[2, 2], [1, 1]], [[2, 2], [1, 1]], [[1, 1], [3, 3]]):
        x = np.array(rows, np.float32)
        answer = await stage.infer(Request({"x": x}, (), ""))
        assert list(answer) == ["a", "b", "c"]
        for name, compute in function.items():
            assert np.array_equal(answer[name], compute(x))
        await stage_is_quiet(stage)
        await settled(stage)
    # One row; two to learn that they are rows, which are known then; the unknown one of two.
    assert model.calls == [1, 2, 1]
    named = await stage.infer(Request({"x": x}, ("b", "a"), ""))
    assert np.array_equal(named["b"], x[:, 0] > 1)


async def test_what_is_no_row_passes_through(cache):
    model = Model(
        lambda inputs, config: {"y": sum(np.asarray(array).sum() for array in inputs.values()) + np.zeros(1)},
        signature({"x": (None, None)}, {"y": (None, None)}),
    )
    stage = cache(model)
    scalar, vector = np.float32(1), np.ones(3, np.float32)
    for inputs in ({"x": scalar}, {}, {"x": vector, "w": scalar}, {"x": vector, "w": vector[:2]}, {"x": vector[:0]}):
        request = Request({name: np.asarray(value) for name, value in inputs.items()}, ("y",), "")
        for _ in range(2):
            assert (await stage.infer(request))["y"].tolist() == [sum(np.sum(value) for value in inputs.values())]
    assert len(model.calls) == 10
    assert stage.counts.passed == 10


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])
async def test_every_element_type_comes_back_as_it_was(cache, settled, dtype):
    rows = np.arange(12).reshape(4, 3).astype(dtype)
    model = Model(
        lambda inputs, config: {"y": inputs["x"]}, signature({"x": (dtype, ("n", 3))}, {"y": (dtype, ("n", 3))})
    )
    stage = cache(model)
    for _ in range(2):
        answer = (await stage.infer(Request({"x": rows}, ("y",), "")))["y"]
        assert answer.dtype == rows.dtype
        assert np.array_equal(answer, rows)
        await settled(stage)
    assert model.calls == [len(np.unique(rows, axis=0))]


async def test_not_a_number_and_minus_zero_are_told_apart_by_their_bits(cache):
    model = Model(
        lambda inputs, config: {"y": np.copysign(1, inputs["x"])},
        signature({"x": ("f4", ("n",))}, {"y": ("f4", ("n",))}),
    )
    stage = cache(model)
    for _ in range(2):
        answer = await stage.infer(Request({"x": np.array([0.0, -0.0, np.nan, -np.nan], np.float32)}, ("y",), ""))
        assert answer["y"].tolist() == [1, -1, 1, -1]


async def test_rows_of_no_elements_and_of_many_dimensions_come_back(cache, settled):
    for shape in ((3, 0), (2, 0, 4), (2, 1, 2, 3, 1)):
        model = Model(
            lambda inputs, config: {"y": inputs["x"]},
            signature({"x": ("f4", ("n", *shape[1:]))}, {"y": ("f4", ("n", *shape[1:]))}),
        )
        stage = cache(model)
        for _ in range(2):
            rows = np.ones(shape, np.float32)
            assert np.array_equal((await stage.infer(Request({"x": rows}, ("y",), "")))["y"], rows)
            await settled(stage)
        assert model.calls == [1]


async def test_large_rows_are_hashed_in_pieces_and_found_again(cache, settled):
    model = Model(
        lambda inputs, config: {"y": inputs["x"][:, :2]}, signature({"x": ("f8", ("n", None))}, {"y": ("f8", ("n", 2))})
    )
    stage = cache(model)
    rows = np.random.default_rng(0).random((2, 100_000))
    other = rows.copy()
    other[1, -1] += 1
    for _ in range(2):
        assert np.array_equal((await stage.infer(Request({"x": rows}, ("y",), "")))["y"], rows[:, :2])
        await settled(stage)
    assert np.array_equal((await stage.infer(Request({"x": other}, ("y",), "")))["y"], other[:, :2])
    assert model.calls == [2, 1]


# --- several at the same time ---


async def test_the_same_row_asked_for_at_the_same_time_is_computed_once(cache):
    model = doubling()
    stage = cache(model, threads=4)
    model.gate.clear()
    calls = [Call(stage.infer(x(1, i))) for i in range(5)]
    await until(lambda: len(model.calls) == 4)
    model.gate.set()
    assert [first(await call.answer()) for call in calls] == [[2, 2 * i] for i in range(5)]
    assert sorted(model.calls) == [1, 1, 1, 2]  # 1 and 0 together, then 2, 3 and 4


async def test_who_asked_first_may_leave_while_others_wait_for_the_same_row(cache):
    model = doubling()
    stage = cache(model)
    model.gate.clear()
    calls = [Call(stage.infer(x(1))) for _ in range(3)]
    await until(model.entered.is_set)
    calls[0].leave()
    model.gate.set()
    assert [first(await call.answer()) for call in calls[1:]] == [[2], [2]]
    assert model.calls == [1]


async def test_when_all_leave_the_row_is_computed_for_the_next_who_asks(cache):
    model = doubling()
    stage = cache(model, threads=2)
    model.gate.clear()
    calls = [Call(stage.infer(x(1))) for _ in range(2)]
    await until(model.entered.is_set)
    for call in calls:
        call.leave()
    again = Call(stage.infer(x(1)))
    await turns()
    model.gate.set()
    assert first(await again.answer()) == [2]


async def test_a_row_that_makes_the_model_fail_is_nobody_elses_problem(cache):
    model = doubling()
    stage = cache(model, threads=2)
    model.gate.clear()
    bad = Call(stage.infer(x(1, -1)))
    good = Call(stage.infer(x(1)))
    await until(model.entered.is_set)
    model.gate.set()
    with pytest.raises(ModelFailed):
        await bad.answer()
    assert first(await good.answer()) == [2]
    with pytest.raises(ModelFailed):
        await stage.infer(x(-1))


async def test_a_neighbour_whose_deadline_passed_is_nobody_elses_problem(cache):
    model = doubling()
    stage = cache(model)
    model.gate.clear()
    blocking = Call(stage.infer(x(9)))
    await until(model.entered.is_set)
    late = Call(stage.infer(x(1, deadline=asyncio.get_running_loop().time())))
    patient = Call(stage.infer(x(1)))
    await asyncio.sleep(0.002)
    model.gate.set()
    await blocking.answer()
    assert first(await patient.answer()) == [2]
    assert isinstance(late.error, Exception)


async def test_rows_found_in_the_cache_never_reach_the_batcher(cache):
    model = doubling()
    stage = cache(model, batch=BatchLimits(rows_max=8, wait_s=0.01))
    await stage.infer(x(1, 2))
    calls = [Call(stage.infer(x(1, 3))), Call(stage.infer(x(2, 4))), Call(stage.infer(x(1, 2)))]
    assert [first(await call.answer()) for call in calls] == [[2, 6], [4, 8], [2, 4]]
    assert model.calls == [2, 2]


# --- outputs that do not follow the rows ---


@pytest.mark.parametrize(
    "function",
    [
        lambda inputs, config: {"y": inputs["x"].mean(axis=0, keepdims=True)},
        lambda inputs, config: {"y": np.asarray(inputs["x"].sum())},
        lambda inputs, config: {"y": np.arange(2, dtype=np.float32)},
        lambda inputs, config: {"y": inputs["x"][inputs["x"][:, 0] > 1]},
    ],
    ids=["mean", "scalar", "constant", "filter"],
)
async def test_outputs_that_do_not_follow_the_rows_are_the_models_own_however_often_they_are_asked_for(cache, function):
    model = Model(function, signature({"x": ("f4", None)}, {"y": ("f4", None)}))
    stage = cache(model)
    for values in ((1,), (2,), (1, 2), (1, 2), (2, 1), (1,), (1, 2, 3), (3,), (1, 2, 3)):
        request = x(*values)
        assert np.array_equal((await stage.infer(request))["y"], function(request.inputs, "")["y"])
        await stage_is_quiet(stage)


async def stage_is_quiet(stage):
    await until(lambda: not stage._tasks)


async def test_undeclared_outputs_are_cached_once_they_are_known_to_follow_the_rows(cache):
    model = Model(lambda inputs, config: {"y": inputs["x"] * 2}, signature({"x": ("f4", None)}, {"y": ("f4", None)}))
    stage = cache(model)
    for _ in range(4):
        assert first(await stage.infer(x(1, 2))) == [2, 4]
        await stage_is_quiet(stage)
    assert model.calls == [2, 1]  # plain, and one row to tell: then the first ones are known too


async def test_answers_whose_shape_depends_on_the_other_rows_are_computed_whole(cache):
    def longest(inputs, config):
        """Each row filled up to the longest row that came with it."""
        return {"y": np.ones((len(inputs["x"]), int(inputs["x"].max())), np.float32)}

    model = Model(longest, signature({"x": ("f4", ("n", 2))}, {"y": ("f4", ("n", None))}))
    stage = cache(model)
    assert (await stage.infer(x(3)))["y"].shape == (1, 3)
    assert (await stage.infer(x(5)))["y"].shape == (1, 5)
    assert (await stage.infer(x(3, 5)))["y"].shape == (2, 5)
    assert (await stage.infer(x(3, 7)))["y"].shape == (2, 7)


async def test_a_model_for_one_number_of_rows_is_never_asked_for_some_of_them(cache):
    model = Model(
        lambda inputs, config: {"y": inputs["x"] * 2}, signature({"x": ("f4", (3, 2))}, {"y": ("f4", (3, 2))})
    )
    stage = cache(model, whole_requests=True)
    assert first(await stage.infer(x(1, 2, 3))) == [2, 4, 6]
    assert first(await stage.infer(x(1, 4, 1))) == [2, 8, 2]
    assert first(await stage.infer(x(4, 3, 2))) == [8, 6, 4]
    assert model.calls == [3, 3]


# --- an upstream that changes ---


class Upstream(Model):
    """y = x * factor, where anybody may change the factor, and with it the version, at any time."""

    def __init__(self):
        super().__init__(lambda inputs, config: {"y": inputs["x"] * self.factor}, signature())
        self.factor = 2
        self.asked = 0

    def current_version(self):
        self.asked += 1
        return f"digest of {self.factor}"


async def test_an_upstream_whose_model_changes_is_never_answered_from_the_old_rows(cache, settled):
    model = Upstream()
    stage = cache(model, ask=model.current_version)
    for factor in (2, 3, 2, 5):
        model.factor = factor
        assert first(await stage.infer(x(1, 2))) == [factor, 2 * factor]
        await settled(stage)
        assert first(await stage.infer(x(2, 1, 3))) == [2 * factor, factor, 3 * factor]
        await settled(stage)
    assert model.calls == [2, 1, 2, 1, 2, 1]  # back at 2 its rows are still known


async def test_rows_of_two_models_never_meet_in_one_answer(cache):
    model = Upstream()
    stage = cache(model, ask=model.current_version)
    await stage.infer(x(1))
    model.gate.clear()
    model.entered.clear()
    call = Call(stage.infer(x(1, 2)))
    await until(model.entered.is_set)
    model.factor = 3
    model.gate.set()
    assert first(await call.answer()) == [3, 6]
    model.factor = 2
    assert first(await stage.infer(x(2))) == [4]


async def test_callers_who_wait_at_the_same_time_share_one_question(cache):
    model = Upstream()
    stage = cache(model, ask=model.current_version)
    await stage.infer(x(1))
    model.asked = 0
    calls = [Call(stage.infer(x(1))) for _ in range(50)]
    for call in calls:
        assert first(await call.answer()) == [2]
    assert model.asked <= 2


async def test_where_nobody_can_say_what_the_upstream_serves_it_answers_itself(cache):
    model = Upstream()

    def ask():
        raise ConnectionError("gone")

    stage = cache(model, ask=ask)
    for _ in range(2):
        assert first(await stage.infer(x(1))) == [2]
    assert model.calls == [1, 1]


async def test_an_upstreams_word_holds_as_long_as_is_allowed(closing, tmp_path):
    model = Upstream()
    stage = closing(
        RowCache(
            RowStore.open(tmp_path / "rows", 1 << 20),
            ModelRunner(model, "model", 1),
            ModelIdentity(UpstreamVersion(model.current_version, fresh_s=600)),
            RowKeys(in_order=False),
            RowEvidence(model.signature),
        )
    )
    for _ in range(5):
        assert first(await stage.infer(x(1))) == [2]
    assert model.asked == 1


# --- what is written ---


async def test_rows_age(cache, monkeypatch):
    model = doubling()
    stage = cache(model, ttl_s=100)
    await stage.infer(x(1))
    await on_disk(stage)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 99)
    await stage.infer(x(1))
    assert model.calls == [1]
    monkeypatch.setattr(time, "time", lambda: real() + 102)
    await stage.infer(x(1))
    await on_disk(stage)
    await stage.infer(x(1))
    assert model.calls == [1, 1]
    monkeypatch.setattr(time, "time", lambda: real() - 3600)  # a clock set back
    await stage.infer(x(1))
    assert model.calls == [1, 1, 1]
