"""Any mix of callers, sizes, configs, leavers and failures gives each caller exactly what the bare model gives it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from graphpipe.errors import DeadlineExceeded, ModelFailed
from graphpipe.server.stages import Request
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.cache.upstream import UpstreamVersion
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.runner import ModelRunner
from tests.rows.conftest import Call, Model, signature, turns

BAD = 13  # a row that has it makes the model fail


class Bare:
    """What the model computes. ``factor`` may change, as an upstream's model may; ``follows``: outputs have rows."""

    def __init__(self, follows):
        self.factor = 1
        self.follows = follows

    def __call__(self, inputs, config):
        x = inputs["x"]
        if x.dtype == object:
            if any(b"bad" in item for item in x.reshape(-1)):
                raise ValueError("bad text")
            same = np.array([item * self.factor + config.encode() for item in x.reshape(-1)] + [None], object)[:-1]
            same = same.reshape(x.shape)
        else:
            if (x == BAD).any():
                raise ValueError("a bad number")
            same = x * x.dtype.type(self.factor + len(config))
        w = inputs.get("w", np.zeros(1, np.int8)).astype(np.int64)
        first = same.reshape(len(same), -1)[:, :1] if same.ndim and same.size else same
        return {"y": same, "z": w * 3, "first": first if self.follows else np.asarray(same.size)}


def rows_of(shape, numbers, dtype):
    array = np.array(numbers[: int(np.prod(shape, dtype=int))] or [0]).astype(np.int64)
    array = np.resize(array, shape)
    if dtype != "text":
        return array.astype(dtype)
    texts = np.empty(shape, object)
    for index in np.ndindex(shape):
        number = int(array[index])
        texts[index] = b"bad" if number == BAD else b"\0" * (number % 3) + str(number).encode()
    return texts


# Few values, so that rows meet again.
SHAPES = st.one_of(
    st.tuples(st.integers(0, 5), st.integers(1, 2)),
    st.tuples(st.integers(1, 7)),
    st.tuples(st.integers(1, 3), st.just(2), st.just(1)),
    st.just(()),
)
NUMBERS = st.lists(st.sampled_from([0, 1, 2, 3, 4, BAD]), min_size=1, max_size=6)


class AnyMix(RuleBasedStateMachine):
    @initialize(
        batch=st.one_of(
            st.none(),
            st.builds(
                BatchLimits,
                rows_max=st.integers(1, 9),
                wait_s=st.sampled_from([0.0, 0.002, 600.0]),
                sizes=st.sampled_from([(), (), (1, 2, 4), (3,), (2, 6)]),
                queue_rows_max=st.just(10_000),
                at_once=st.integers(1, 2),
            ),
        ),
        cached=st.booleans(),
        follows=st.sampled_from([True, True, False]),
        upstream=st.booleans(),
    )
    def build(self, batch, cached, follows, upstream):
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.bare = Bare(follows)
        self.model = Model(self.bare, signature({"x": (None, None), "w": (None, None)}, {"y": (None, None)}))
        self.impatient = batch is not None and batch.wait_s > 1
        self.calls = []
        self.loop.run_until_complete(self.make(batch, cached, upstream))

    async def make(self, batch, cached, upstream):
        evidence = RowEvidence(self.model.signature)
        stage = ModelRunner(self.model, "model", 2)
        if batch is not None:
            stage = Batcher(batch, stage, evidence)
        if cached:
            version = UpstreamVersion(lambda: f"digest {self.bare.factor}") if upstream else "1"
            self.upstream = upstream
            store = RowStore.open(Path(self.folder.name, "rows"), 1 << 20)
            stage = RowCache(store, stage, ModelIdentity(version), RowKeys(in_order=False), evidence)
        else:
            self.upstream = True
        self.stage = stage

    @rule(
        shape=SHAPES,
        numbers=NUMBERS,
        dtype=st.sampled_from(["f4", "f4", "i8", "text"]),
        more=st.sampled_from(["", "", "rows", "other rows", "scalar"]),
        outputs=st.sampled_from([("y",), ("y",), ("y", "z"), ("z", "y", "y"), ("first",), ("first", "y")]),
        config=st.sampled_from(["", "", "a", "bb"]),
        hurry=st.sampled_from([None, None, None, 0.0, 1000.0]),
    )
    def ask(self, shape, numbers, dtype, more, outputs, config, hurry):
        inputs = {"x": rows_of(shape, numbers, dtype)}
        rows = shape[0] if shape else 0
        if more:
            w = {"rows": np.arange(rows) % 2, "other rows": np.arange(rows + 1), "scalar": np.int64(7)}[more]
            inputs["w"] = np.asarray(w, np.int64)
        deadline = None if hurry is None else self.loop.time() + hurry
        request = Request(inputs, outputs, config, deadline)
        try:
            answers = self.bare(inputs, config)
            expected = {name: answers[name] for name in outputs}
        except ValueError:
            expected = None

        async def start():
            self.calls.append((Call(self.stage.infer(request)), expected, hurry == 0.0))

        self.loop.run_until_complete(start())

    @rule(which=st.integers(0, 30))
    def leave(self, which):
        if self.calls:
            call, _, _ = self.calls.pop(which % len(self.calls))
            self.loop.run_until_complete(self.leaving(call))

    async def leaving(self, call):
        call.leave()

    @rule()
    def a_busy_model(self):
        self.model.gate.clear()

    @rule()
    def an_idle_model(self):
        self.model.gate.set()

    @rule(count=st.integers(1, 20))
    def some_turns_of_the_loop(self, count):
        self.loop.run_until_complete(turns(count))

    @rule()
    def everybody_is_answered(self):
        self.model.gate.set()
        self.loop.run_until_complete(self.settle())

    @rule()
    def the_upstream_changes(self):
        if getattr(self, "upstream", False):
            self.everybody_is_answered()
            self.bare.factor = 3 - self.bare.factor

    async def settle(self):
        stage = self.stage
        batcher = stage if isinstance(stage, Batcher) else getattr(stage, "_next", None)
        while self.calls:
            call, expected, late = self.calls[0]
            if self.impatient and isinstance(batcher, Batcher):
                # Nobody else will come: what waits for company need not.
                while not call.done.is_set():
                    for group in [*batcher._groups.values()]:
                        batcher._on_time(group)
                    await asyncio.sleep(0.0005)
            try:
                outputs = await call.answer()
            except ModelFailed:
                assert expected is None
            except DeadlineExceeded:
                assert late
            else:
                assert expected is not None
                self.compare(outputs, expected)
            self.calls.pop(0)

    @staticmethod
    def compare(outputs, expected):
        for name, array in expected.items():
            assert outputs[name].dtype == array.dtype
            assert outputs[name].shape == array.shape
            assert np.array_equal(outputs[name], array)

    @invariant()
    def the_queue_is_what_waits(self):
        stage = getattr(self, "stage", None)
        batcher = stage if isinstance(stage, Batcher) else getattr(stage, "_next", None)
        if isinstance(batcher, Batcher):
            waiting = [each for group in batcher._groups.values() for each in group.members.values()]
            assert batcher.queue_rows == sum(max(each.member.rows, 1) for each in waiting)

    def teardown(self):
        if not hasattr(self, "stage"):
            return
        self.everybody_is_answered()
        if isinstance(self.stage, RowCache):
            self.loop.run_until_complete(self.landed())
            assert not self.stage._flights
        self.stage.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    async def landed(self):
        batcher = getattr(self.stage, "_next", None)
        while self.stage._tasks:
            # What is left of a flight waits for company that does not come.
            for group in [*getattr(batcher, "_groups", {}).values()]:
                batcher._on_time(group)
            await asyncio.sleep(0.0005)


TestAnyMix = AnyMix.TestCase
TestAnyMix.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
