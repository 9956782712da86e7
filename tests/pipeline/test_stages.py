"""What a stage may do to a pipeline: nothing but answer, refuse or fail, under its name."""

from __future__ import annotations

import threading
from itertools import count

import numpy as np
import pytest

import graphpipe
from graphpipe import Pipeline, Stage

ONES = np.ones(4)


def passes(x):
    return {"x": x}


def doubles(x):
    return {"x": x * 2}


class Panic(BaseException):
    """What no library's `except Exception` sees."""


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), Panic("loud"), KeyboardInterrupt(), MemoryError()])
def test_whatever_a_stage_raises_is_its_failure_by_name(error):
    def bad(x):
        raise error

    pipeline = Pipeline([passes, Stage(bad, "third"), doubles])
    with pytest.raises(graphpipe.ModelFailed, match="'pipeline' failed on this input: stage 'third' failed") as caught:
        pipeline.infer({"x": ONES})
    assert caught.value.__cause__.__cause__ is error


def test_a_refusal_of_a_stage_goes_to_the_caller_with_its_name():
    def picky(x):
        raise graphpipe.InvalidRequest("x is too small")

    with pytest.raises(graphpipe.InvalidRequest, match="^stage 'picky': x is too small$"):
        Pipeline([passes, picky]).infer({"x": ONES})


def test_what_stages_give_one_another_and_cannot_take_is_no_mistake_of_the_caller():
    @graphpipe.model(inputs={"x": "float32[n, 3]"}, outputs={"y": "float32[n]"})
    def strict(x):
        return x[:, 0]

    with pytest.raises(
        graphpipe.ModelFailed, match="stage 'strict': input 'x' is float64, but the model takes float32"
    ):
        Pipeline([passes, strict]).infer({"x": ONES})
    with pytest.raises(graphpipe.InvalidRequest, match="input 'x' is float64"):
        Pipeline([strict]).infer({"x": ONES})


def test_a_stage_cannot_write_into_what_another_gave_or_the_caller_sent():
    def writes(x):
        x[0] = 5
        return {"x": x}

    mine = np.ones(4)
    for pipeline in (Pipeline([writes]), Pipeline([doubles, writes])):
        with pytest.raises(graphpipe.ModelFailed, match="stage 'writes' failed") as caught:
            pipeline.infer({"x": mine})
        assert "inputs are read-only" in str(caught.value.__cause__.__cause__)
    assert mine.tolist() == [1, 1, 1, 1]


def test_an_answer_is_nobody_elses_whatever_stages_keep():
    kept = []
    buffer = np.zeros(4)

    def keeps(x):
        kept.append(x)
        buffer[:] = x * 2
        return {"y": buffer}

    def gives_back(y):
        kept.append(y)
        return {"z": y, "same": y}

    pipeline = Pipeline([keeps, gives_back], outputs=["y", "z", "same"])
    mine = np.ones(4)
    first = pipeline.infer({"x": mine})
    second = pipeline.infer({"x": mine * 10})
    assert [first[name].tolist() for name in first] == [[2, 2, 2, 2]] * 3
    first["z"][:] = 7
    assert first["y"].tolist() == first["same"].tolist() == [2, 2, 2, 2]
    assert second["z"].tolist() == [20, 20, 20, 20]
    assert kept[1].tolist() == [2, 2, 2, 2]
    buffer[:] = -1
    assert second["y"].tolist() == [20, 20, 20, 20]


def test_an_input_given_back_is_a_copy_of_the_callers():
    mine = np.ones(4)
    answer = Pipeline([passes, passes]).infer({"x": mine})["x"]
    mine[:] = 0
    assert answer.tolist() == [1, 1, 1, 1]


def test_arrays_are_passed_on_as_they_are():
    seen = {}

    @graphpipe.model(outputs={"y": "float64[n]"})
    def gives(x):
        y = x + 1
        seen["given"] = y.ctypes.data
        return y

    def takes(y):
        seen["taken"] = y.ctypes.data
        return {"n": np.array([len(y)])}

    Pipeline([gives, takes]).infer({"x": np.ones(10_000)})
    assert seen["given"] == seen["taken"]


def test_outputs_under_other_names_each_time():
    names = count()

    def fickle(x):
        made = {}
        made[f"y{next(names)}"] = x
        return made

    pipeline = Pipeline([fickle])
    assert list(pipeline.infer({"x": ONES})) == ["y0"]
    assert list(pipeline.infer({"x": ONES})) == ["y1"]
    with pytest.raises(
        graphpipe.InvalidRequest, match="there is no output 'y0'; the stages of this pipeline gave 'y2'"
    ):
        pipeline.infer({"x": ONES}, ["y0"])


def test_a_function_that_breaks_what_its_code_says_is_a_failure_by_name():
    def broken(x):
        return {"y": missing}

    missing = None
    with pytest.raises(graphpipe.ModelFailed, match="stage 'broken' failed") as caught:
        Pipeline([broken, lambda y: {"z": y}]).infer({"x": ONES})
    assert "not 'y'" in str(caught.value.__cause__.__cause__)


@pytest.mark.parametrize("given", [3, None, "text", {"x": object()}, {1: ONES}, {}])
def test_what_is_no_array_by_name(given):
    def odd(x):
        return given

    def takes(x):
        return {"y": x}

    with pytest.raises(graphpipe.GraphPipeError):
        Pipeline([odd, takes], inputs=["x"]).infer({"x": ONES}, ["nothing of this name"])


def test_a_stage_that_hangs_is_left_at_the_deadline():
    let_go = threading.Event()
    ran = []

    def hangs(x):
        let_go.wait()
        return {"x": x}

    def after(x):
        ran.append(1)
        return {"x": x}

    pipeline = Pipeline([hangs, after])
    with pytest.raises(graphpipe.TimedOut):
        pipeline.infer({"x": ONES}, timeout=0.1)
    let_go.set()
    pipeline.close()
    assert pipeline.closed


def test_no_stage_is_begun_after_the_deadline():
    ran = []

    def slow(x, timeout_s):
        threading.Event().wait(timeout_s + 0.01)
        return {"x": x}

    def after(x):
        ran.append(1)
        return {"x": x}

    pipeline = Pipeline([slow, after])
    with pytest.raises(graphpipe.DeadlineExceeded, match="before stage 'after' of 'pipeline'"):
        pipeline.model.infer({"x": ONES}, timeout_s=0.05)
    assert ran == []


def test_config_and_the_time_that_is_left_reach_every_stage():
    seen = []

    def one(x, config, timeout_s):
        seen.append((config, timeout_s is not None and timeout_s <= 60))
        return {"x": x}

    Pipeline([one, Stage(one, "two")]).infer({"x": ONES}, config="c", timeout=60)
    assert seen == [("c", True)] * 2


def test_times_of_stages():
    outputs, seconds = Pipeline([passes, doubles]).timed_infer({"x": ONES})
    assert outputs["x"].tolist() == [2, 2, 2, 2]
    assert list(seconds) == ["passes", "doubles"]
    assert all(each > 0 for each in seconds.values())


def test_a_pipeline_is_its_parts_digests():
    assert Pipeline(["echo", "echo"]).version
    assert Pipeline(["echo", "echo"]).version != Pipeline(["echo"]).version
    assert Pipeline(["echo", passes]).version == ""  # a function has no digest


def test_parts_tests_are_the_pipelines():
    problem = graphpipe.Problem.of(
        {"x": "float64[n]"}, {"x": "float64[n]"}, tests=[{"inputs": {"x": [1.0]}, "outputs": {"x": [3.0]}}]
    )
    with pytest.raises(graphpipe.TestFailed):
        Pipeline([passes, Stage(doubles, problem=problem)]).self_test()


def test_many_threads_at_once():
    pipeline = Pipeline([doubles, passes, Stage(doubles, "again")])
    failed = []

    def calls(number):
        for _ in range(50):
            if pipeline.infer({"x": np.full(8, number)})["x"].tolist() != [4 * number] * 8:
                failed.append(number)

    threads = [threading.Thread(target=calls, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
