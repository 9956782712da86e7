"""Stages that need nothing of one another run side by side, and nobody can tell but by the clock."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.pipeline.branches import Branches, producers
from graphpipe.pipeline.flow import Flow

X = {"x": np.array([3.0])}


class Meeting:
    """Two stages that end only if both have begun."""

    def __init__(self):
        self.barrier = threading.Barrier(2)

    def left(self, x):
        self.barrier.wait(20)
        return {"left": x + 1}

    def right(self, x):
        self.barrier.wait(20)
        return {"right": x * 2}


def join(left, right):
    return {"y": left * right}


def side_by_side(pipeline: Pipeline) -> Pipeline:
    """The same, side by side from the first call on."""
    flow = pipeline.model
    flow._branches = Branches(producers(flow.wires) or [])
    flow._branches._helpers.count = 3
    flow._branches.choose = lambda: True
    return pipeline


def test_branches_run_at_the_same_time():
    meeting = Meeting()
    pipeline = side_by_side(Pipeline([meeting.left, meeting.right, join]))
    assert pipeline.infer(X) == {"y": [24]}
    assert pipeline.infer(X, ["right", "y", "left"]) == {"right": [6], "y": [24], "left": [4]}
    pipeline.close()


def test_a_branch_is_followed_as_soon_as_it_is_there():
    behind = threading.Event()

    def slow(x):
        assert behind.wait(20)  # what follows the other branch does not wait for this one
        return {"left": x}

    def quick(x):
        return {"half": x / 2}

    def follows(half):
        behind.set()
        return {"right": half}

    assert side_by_side(Pipeline([slow, quick, follows, join])).infer(X) == {"y": [4.5]}


def test_a_name_that_is_given_twice_means_the_last_one_before():
    def first(x):
        return {"v": x + 1}

    def reads(v):
        return {"left": v}

    def second(x):
        return {"v": x * 100}

    def reads_again(v):
        return {"right": v}

    pipeline = side_by_side(Pipeline([first, reads, second, reads_again, join], outputs=["left", "right", "v"]))
    assert pipeline.infer(X) == {"left": [4], "right": [300], "v": [300]}


def test_the_first_failure_in_order_is_told_when_none_runs_any_more():
    meeting = Meeting()
    ended = []

    def left(x):
        meeting.barrier.wait(20)
        if x[0]:
            raise graphpipe.InvalidRequest("left is wrong")
        return {"left": x}

    def right(x):
        meeting.barrier.wait(20)
        ended.append(1)
        if x[0]:
            raise SystemExit(1)
        return {"right": x}

    pipeline = side_by_side(Pipeline([left, right]))
    with pytest.raises(graphpipe.InvalidRequest, match="stage 'left': left is wrong"):
        pipeline.infer(X)
    assert ended == [1]


def test_nothing_of_a_request_is_kept():
    gc.disable()
    try:
        meeting = Meeting()
        pipeline = side_by_side(Pipeline([meeting.left, meeting.right, join]))
        x = np.ones(1000)
        known = weakref.ref(x)
        answer = pipeline.infer({"x": x})
        given = weakref.ref(answer["y"])
        del x, answer
        # A helper that is still about to find that nothing is left holds nothing of the request.
        assert known() is None
        assert given() is None
    finally:
        gc.enable()


def test_answers_are_not_copied():
    made = {}

    @graphpipe.model(outputs={"left": "float64[n]"})
    def left(x):
        made["left"] = (array := x + 1).ctypes.data
        return array

    @graphpipe.model(outputs={"right": "float64[n]"})
    def right(x):
        made["right"] = (array := x + 2).ctypes.data
        return array

    answer = side_by_side(Pipeline([left, right], outputs=["left", "right"])).infer({"x": np.ones(10_000)})
    assert {name: array.ctypes.data for name, array in answer.items()} == made


def test_helpers_that_hang_keep_nobody():
    let_go = threading.Event()
    hung = threading.Barrier(4)

    def left(x):
        if x[0] < 0:
            hung.wait(20)
            let_go.wait(20)
        return {"left": x}

    def right(x):
        if x[0] < 0:
            hung.wait(20)
            let_go.wait(20)
        return {"right": x}

    pipeline = side_by_side(Pipeline([left, right, join]))
    for _ in range(2):
        with pytest.raises(graphpipe.TimedOut):
            pipeline.infer({"x": np.array([-1.0])}, timeout=0.05)
    assert pipeline.infer(X, timeout=20) == {"y": [9]}
    let_go.set()


def test_a_chain_and_a_stage_of_unknown_outputs_run_in_order():
    def unknown(x):
        return dict(a=x)  # noqa: C408

    def one(x):
        return {"a": x}

    def two(a):
        return {"b": a}

    assert Pipeline([one, two]).model._branches is None
    assert Pipeline([unknown, one, Stage(two, outputs={"b": "c"})]).model._branches is None


def test_which_way_is_quicker_is_found_out():
    for seconds in ((0.0001, 0.1), (0.02, 0.01), (0.01, 0.02)):
        branches = Branches([{}, {}])
        chosen = []
        for _ in range(60):
            chosen.append(side := branches.choose())
            branches.took(side, seconds[side])
        assert chosen[-1] is (seconds[1] < seconds[0])


def test_a_flow_that_is_forgotten_takes_its_helpers_along():
    before = set(threading.enumerate())
    meeting = Meeting()
    pipeline = side_by_side(Pipeline([meeting.left, meeting.right, join]))
    pipeline.infer(X)
    helpers = set(threading.enumerate()) - before
    assert helpers
    assert isinstance(pipeline.model, Flow)
    del pipeline
    gc.collect()
    for helper in helpers:
        helper.join(20)
        assert not helper.is_alive()


def test_a_request_that_fails_leaves_nothing_to_a_helper_that_comes_late(monkeypatch):
    died, ran_late = [], []
    monkeypatch.setattr(threading, "excepthook", lambda about: died.append(about.exc_value))
    branches = Branches([{}, {"v": 0}, {"v": 0}, {"v": 0}])
    branches._helpers.count = 1
    over = threading.Event()

    def run(stage, values):
        if over.is_set():
            ran_late.append(stage)
        if stage == 1:
            raise ValueError("no")
        return {"v": np.ones(1)} if stage == 0 else {}

    for _ in range(200):
        over.clear()
        with pytest.raises(ValueError, match="no"):
            branches.run({}, run)
        over.set()
    for _ in range(200):
        if not branches._helpers._calls.qsize():
            break
        time.sleep(0.01)
    assert (died, ran_late) == ([], [])
    branches.close()


def test_what_a_helper_that_hangs_has_yet_to_hear_of_holds_no_request():
    branches = Branches([{}, {}])
    branches._helpers.count = 1
    go_on, hangs = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        go_on.wait(30)

    branches._helpers.call(hang)
    assert hangs.wait(30)
    held = []
    for _ in range(1000):
        x = np.ones(10)
        held.append(weakref.ref(x))
        branches.run({"x": x}, lambda stage, values: {})
        del x
    assert [each for each in held if each() is not None] == []
    assert branches._helpers._calls.qsize() < 1000
    go_on.set()
    branches.close()
