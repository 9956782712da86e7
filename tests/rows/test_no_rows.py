"""Rows that are none: what depends on the rows beside it is neither joined with strangers' nor kept by rows."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from graphpipe.server.stages import Request
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.batching.ragged import RaggedAxes
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.rows import RowEvidence, why_inputs_have_no_rows, why_not_by_rows
from graphpipe.server.stages.runner import ModelRunner
from tests.rows.conftest import Call, Model, signature, until, x
from tests.serving import run_to_end


def pairs(x: np.ndarray) -> np.ndarray:
    """How far each row is from each."""
    return np.abs(x[:, None] - x[None]).sum(axis=2)


FUNCTIONS = {
    "distances": pairs,
    "attention": lambda x: np.broadcast_to(pairs(x)[:, None], (len(x), 3, len(x))).copy(),
    "all pairs of a row": lambda x: np.repeat(pairs(x), 2, axis=1),
    "the rows so far": lambda x: np.tril(np.ones((len(x), len(x) + 1), np.float32)),
}

F = "f4"


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ({"x": (F, ("n", 2))}, {"y": (F, ("n", "n"))}, "output 'y' has the number of rows, 'n'"),
        ({"x": (F, ("n", 2))}, {"y": (F, ("n", 4, "n"))}, "output 'y' has the number of rows, 'n'"),
        ({"x": (F, ("n", "k"))}, {"y": (F, ("k", "n"))}, "output 'y' has the number of rows, 'n'"),
        ({"x": (F, ("n", "k"))}, {"y": (F, ("k",))}, "output 'y' is as long as an axis of x"),
        ({"x": (F, ("n", "n"))}, {"y": (F, ("n",))}, "input 'x' has the number of rows, 'n'"),
        ({"x": (F, ("n", 2)), "w": (F, ("k", "n"))}, {"y": (F, ("n",))}, "input 'w' has the number of rows, 'n'"),
        ({"a": (F, ("n", "k")), "b": (F, ("m", "k"))}, {"y": (F, ("n", "m"))}, "inputs 'a' and 'b' need not have"),
        ({"a": (F, ("n", "k")), "b": (F, ("m", "k"))}, {"y": (F, ("m",))}, "inputs 'a' and 'b' need not have"),
        ({"a": (F, ("n", "k")), "b": (F, ("m", "k"))}, {"y": (F, ("n", "k"))}, "inputs 'a' and 'b' need not have"),
        ({"a": (F, ("n", "k")), "b": (F, ("m", "k"))}, {"y": (F, None)}, "inputs 'a' and 'b' need not have"),
        ({"x": (F, ("n", 2))}, {"y": (F, ())}, "output 'y' is a scalar"),
        ({"x": (F, ("n", 2))}, {"y": (F, (1, 2))}, "output 'y' always has 1 row,"),
    ],
)
def test_what_a_declaration_says_against_rows_is_heard_on_every_axis(inputs, outputs, reason):
    declared = signature(inputs, outputs)
    assert reason in (why_not_by_rows(declared) or "")
    names = tuple(outputs)
    request = Request({name: np.zeros((2, 2), np.float32) for name in inputs}, names, "")
    assert not RowEvidence(declared).holds(request)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": (F, ("n", "k"))}, {"y": (F, ("n", "k"))}),
        ({"a": (F, ("n", "k")), "b": (F, ("n", "k"))}, {"y": (F, ("n", "k", 3))}),
        ({"x": (F, ("n", 2))}, {"y": (F, ("n", 2)), "z": (F, ("n",))}),
    ],
)
def test_what_a_declaration_says_for_rows_needs_no_call_to_prove_it(inputs, outputs):
    declared = signature(inputs, outputs)
    assert why_not_by_rows(declared) is None
    request = Request({name: np.zeros((2, 2), np.float32) for name in inputs}, tuple(outputs), "")
    assert RowEvidence(declared).holds(request)


def test_names_of_axes_that_an_exporter_made_up_say_nothing():
    declared = signature({"a": (F, ("unk_1", "unk_2")), "b": (F, ("unk_3", "unk_4"))}, {"y": (F, ("unk_5", 2))})
    assert why_not_by_rows(declared) is None
    assert why_inputs_have_no_rows(declared) is None


def test_a_model_whose_outputs_are_square_is_not_batched(tmp_path):
    (tmp_path / "square.py").write_text(
        "import graphpipe\n"
        "@graphpipe.model(inputs={'x': 'float32[n, 4]'}, outputs={'y': 'float32[n, n]'})\n"
        "def square(x): return x @ x.T\n"
    )
    source = f"{tmp_path / 'square.py'}:square"
    refused = run_to_end("--listen", "127.0.0.1:0", "--model", source, "--batch-rows-max", "8")
    assert refused.returncode == 1
    assert (
        "cannot be batched: output 'y' has the number of rows, 'n', as the length of another axis too" in refused.stderr
    )


def batched(closing, model, **limits):
    limits = BatchLimits(**{"rows_max": 3, "wait_s": 600.0} | limits)
    return closing(Batcher(limits, ModelRunner(model, "model", 1), RowEvidence(model.signature), "model"))


def cached(closing, tmp_path, model):
    store = RowStore.open(tmp_path / "rows", 1 << 24)
    runner = ModelRunner(model, "model", 1)
    return closing(RowCache(store, runner, ModelIdentity("1"), RowKeys(in_order=False), RowEvidence(model.signature)))


@pytest.mark.parametrize("declared", [None, ("n", None), ("n", "m"), ("n", "n")])
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_an_output_that_grows_with_the_rows_beside_is_never_joined(closing, function, declared):
    compute = FUNCTIONS[function]
    model = Model(lambda inputs, config: {"y": compute(inputs["x"])}, signature(None, {"y": (F, declared)}))
    stage = batched(closing, model, wait_s=0.05)
    for _ in range(2):
        calls = [Call(stage.infer(x(i))) for i in range(3)]
        for i, call in enumerate(calls):
            assert np.array_equal((await call.answer())["y"], compute(x(i).inputs["x"]))
    # Declared, each goes alone; not declared, it is seen.
    assert ("output 'y'" in stage.refusal) == (declared != ("n", "n"))


async def test_an_output_that_has_no_rows_by_declaration_ends_nothing_for_those_that_have(closing):
    def compute(inputs, config):
        return {"y": inputs["x"] * 2, "d": pairs(inputs["x"])}

    declared = signature(None, {"y": (F, ("n", 2)), "d": (F, ("n", "n"))}, default_outputs=("y",))
    model = Model(compute, declared)
    stage = batched(closing, model)
    for asked in (("d",), ("d", "y")):
        request = Request(x(1, 5).inputs, asked, "")
        answer = await stage.infer(request)
        assert np.array_equal(answer["d"], pairs(request.inputs["x"]))
    model.calls.clear()
    calls = [Call(stage.infer(x(i))) for i in range(3)]
    for i, call in enumerate(calls):
        assert np.array_equal((await call.answer())["y"], x(i).inputs["x"] * 2)
    assert model.calls == [3]
    assert not stage.refusal


async def test_batches_that_are_filled_up_are_looked_at_too(closing):
    model = Model(lambda inputs, config: {"y": pairs(inputs["x"])}, signature(None, {"y": (F, None)}))
    stage = batched(closing, model, sizes=(2, 4), wait_s=0.0)
    for values in ((1,), (1, 2, 3), (1, 5)):
        assert np.array_equal((await stage.infer(x(*values)))["y"], pairs(x(*values).inputs["x"]))


async def test_an_axis_that_is_as_long_as_there_are_rows_by_chance_is_no_reason(closing):
    model = Model(
        lambda inputs, config: {"y": np.repeat(inputs["x"][:, :1], 3, axis=1)}, signature(None, {"y": (F, None)})
    )
    stage = batched(closing, model)
    for _ in range(2):
        calls = [Call(stage.infer(x(i))) for i in range(3)]
        for i, call in enumerate(calls):
            assert (await call.answer())["y"].tolist() == [[i, i, i]]
    assert not stage.refusal
    assert model.calls == [1, 3, 3]


async def test_lengths_that_padding_made_equal_are_no_reason(closing):
    model = Model(
        lambda inputs, config: {"y": inputs["x"] * 2},
        signature({"x": (F, ("n", None))}, {"y": (F, ("n", None))}),
    )
    padding = RaggedAxes({"x": {1: 0.0}}, {"y": ((1, "x", 1),)})
    stage = batched(closing, model, ragged=padding)
    for lengths in ((1, 2, 3), (3, 1, 2), (1, 1, 1)):
        parts = [np.full((1, length), length, np.float32) for length in lengths]
        calls = [Call(stage.infer(Request({"x": part}, ("y",), ""))) for part in parts]
        for part, call in zip(parts, calls, strict=True):
            assert np.array_equal((await call.answer())["y"], part * 2)
    assert not stage.refusal


@pytest.mark.parametrize("declared", [None, ("n", None), ("n", "m"), ("n", "n")])
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_an_output_that_grows_with_the_rows_beside_is_never_put_together(closing, tmp_path, function, declared):
    compute = FUNCTIONS[function]
    model = Model(lambda inputs, config: {"y": compute(inputs["x"])}, signature(None, {"y": (F, declared)}))
    stage = cached(closing, tmp_path, model)
    for values in ((1, 2), (1, 2), (2, 1), (1,), (1, 2, 3), (3, 1), (2,), (1, 2, 3)):
        assert np.array_equal((await stage.infer(x(*values)))["y"], compute(x(*values).inputs["x"]))
        await until(lambda: not stage._tasks)


async def test_inputs_of_which_a_row_is_half_are_not_cached_by_rows(closing, tmp_path):
    model = Model(
        lambda inputs, config: {"y": (inputs["x"] @ inputs["x"]).sum(axis=1)},
        signature({"x": (F, ("n", "n"))}, {"y": (F, ("n",))}),
    )
    stage = cached(closing, tmp_path, model)
    for rows in ([[1, 2], [3, 4]], [[1, 2], [5, 6]], [[5, 6], [1, 2]]):
        array = np.array(rows, np.float32)
        answer = await stage.infer(Request({"x": array}, ("y",), ""))
        assert np.array_equal(answer["y"], (array @ array).sum(axis=1))
        await until(lambda: not stage._tasks)


async def test_the_request_that_proves_that_rows_are_rows_is_known_afterwards(closing, tmp_path):
    model = Model(lambda inputs, config: {"y": inputs["x"] * 2}, signature(None, {"y": (F, None)}))
    stage = cached(closing, tmp_path, model)
    for _ in range(3):
        assert np.array_equal((await stage.infer(x(1, 2, 3)))["y"], x(1, 2, 3).inputs["x"] * 2)
        await until(lambda: not stage._tasks)
        await asyncio.sleep(0)
    assert np.array_equal((await stage.infer(x(3, 4)))["y"], x(3, 4).inputs["x"] * 2)
    assert model.calls == [3, 1, 1]
