"""The tests of a problem, run: what fits, and how a difference is told."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphpipe
from graphpipe import Case, Problem, TestFailed
from graphpipe.problem import Difference
from graphpipe.problem.case import difference

NAN, INF = math.nan, math.inf


def told(expected, came, rtol=0.0, atol=0.0):
    return difference("1", "y", np.asarray(expected), np.asarray(came), rtol, atol)


@pytest.mark.parametrize(
    ("expected", "came", "tolerance"),
    [
        (np.float32([1, NAN, INF, -INF]), np.float32([1, NAN, INF, -INF]), (0, 0)),
        (np.float32([1.0]), np.float32([1.25]), (0, 0.25)),
        (np.float32([-4.0]), np.float32([-5.0]), (0.25, 0)),
        (np.float64([0.0]), np.float64([-0.0]), (0, 0)),
        (np.zeros((0, 4), "f4"), np.zeros((0, 4), "f4"), (0, 0)),
        (np.uint8([3, 250]), np.uint8([4, 249]), (0, 1)),
        (np.array([b"a", "b"], object), np.array(["a", b"b"], object), (0, 0)),
        (np.array([b"a"], object), np.array(["a"]), (0, 0)),
        (np.float32([1]), np.array([1], ">f4"), (0, 0)),
    ],
)
def test_what_is_within_the_tolerance_is_no_difference(expected, came, tolerance):
    assert told(expected, came, *tolerance) is None


@pytest.mark.parametrize(
    ("expected", "came", "tolerance", "words"),
    [
        (
            np.float32([[1, 2], [3, 4]]), np.float32([[1, 2.5], [3, 8]]), (0, 0.25),
            "output 'y' is 8.0 where 4.0 was expected at [1, 1]: 4 apart, and 0.25 is allowed; 2 of 4 elements differ",
        ),
        (np.float64(1), np.float64(2), (0.5, 0), "output 'y' is 2.0 where 1.0 was expected: 1 apart, and 0.5 is allowed"),
        (np.float32([0, 1]), np.float32([0, NAN]), (9, 9), "output 'y' is nan where 1.0 was expected at [1]; 1 of 2"),
        (np.float32([NAN]), np.float32([1]), (9, 9), "output 'y' is 1.0 where nan was expected at [0]"),
        (np.float32([INF]), np.float32([-INF]), (9, 9), "output 'y' is -inf where inf was expected at [0]"),
        (np.float32([1]), np.float32([INF]), (9, 9), "output 'y' is inf where 1.0 was expected at [0]"),
        # A label is right or wrong, however large its number.
        (np.int64([10**6]), np.int64([10**6 + 1]), (1e-5, 1e-6), "output 'y' is 1000001 where 1000000 was expected at [0]"),
        (np.int64([2**63 - 1]), np.int64([2**63 - 2]), (0, 0), "9223372036854775806 where 9223372036854775807 was"),
        (np.int64([2**63 - 1]), np.int64([-(2**63)]), (0, 0), "1.84e+19 apart"),
        (np.uint64([0]), np.uint64([2**64 - 1]), (0, 0), "1.84e+19 apart"),
        (np.uint8([3]), np.uint8([5]), (0, 1), "output 'y' is 5 where 3 was expected at [0]: 2 apart, and 1 is allowed"),
        (np.bool_([True, False]), np.bool_([True, True]), (9, 9), "output 'y' is True where False was expected at [1]"),
        (
            np.array([[b"cat", b"dog"]], object), np.array([[b"cat", b"\xff"]], object), (0, 0),
            r"output 'y' is '\\xff' where 'dog' was expected at [0, 1]; 1 of 2 elements differs",
        ),
        (np.array(b"x" * 99, object), np.array(b"y", object), (0, 0), f"'y' where '{'x' * 60}'... was expected"),
        (np.float32([1]), np.float64([1]), (9, 9), "output 'y' is float64[1], and float32[1] was expected"),
        (np.float32([1]), np.float32([[1]]), (9, 9), "output 'y' is float32[1, 1], and float32[1] was expected"),
        (np.float32([1]), np.array(["1"], object), (9, 9), "output 'y' is string[1], and float32[1] was expected"),
    ],
)  # fmt: skip
def test_a_difference_says_how_much_where_and_of_how_many(expected, came, tolerance, words):
    found = told(expected, came, *tolerance)
    assert words in str(found)
    assert str(found).startswith("test 1: ")


def test_a_difference_says_the_same_in_numbers():
    found = told(np.float32([[1, 2], [3, 4]]), np.float32([[1, 2.5], [3, 8]]), 0, 0.25)
    assert (found.output, found.largest, found.index, found.differing, found.size) == ("y", 4.0, (1, 1), 2, 4)


PROBLEM = Problem.of(
    {"x": "float32[n]"}, {"twice": "float32[n]", "label": "string[]"}, name="doubling",
    tests=[
        Case({"x": [1, 2]}, {"twice": [2, 4], "label": "ok"}, name="two"),
        Case({"x": []}, {"twice": []}),
        Case({"x": [3]}),
    ],
)  # fmt: skip


def test_a_model_that_answers_as_expected_passes():
    seen = []

    def twice(x):
        seen.append(x.tolist())
        return {"twice": x * 2, "label": b"ok"}

    model = graphpipe.load(twice, problem=PROBLEM)
    assert PROBLEM.run_tests(model) == []
    PROBLEM.check(model)
    model.model.self_test()
    assert seen == [[1, 2], [], [3]] * 3


def test_all_differences_are_found_and_told():
    model = graphpipe.load(lambda x: {"twice": x * 2 + (len(x) == 2), "label": "no"}, problem=PROBLEM)
    found = PROBLEM.run_tests(model)
    assert [(each.test, each.output) for each in found] == [("'two'", "twice"), ("'two'", "label")]
    with pytest.raises(TestFailed) as caught:
        PROBLEM.check(model)
    assert str(caught.value) == (
        "problem 'doubling': test 'two': output 'twice' is 3.0 where 2.0 was expected at [0]: 1 apart, "
        "and 2.1e-05 is allowed; 2 of 2 elements differ; test 'two': output 'label' is 'no' where 'ok' was expected"
    )
    assert isinstance(caught.value, graphpipe.LoadError)


def test_each_failing_test_has_its_words_and_the_others_run():
    def fail(x):
        if len(x) == 2:
            raise SystemExit(3)
        if len(x) == 1:
            return {"twice": x, "label": 4}
        return {"twice": x, "label": "ok"}

    found = PROBLEM.run_tests(graphpipe.load(fail, problem=PROBLEM, name="m"))
    assert [str(each) for each in found] == [
        "test 'two': there was no answer: model 'm' failed on this input: SystemExit: 3",
        "test 3: there was no answer: model 'm' breaks its problem 'doubling': "
        "output 'label' is int64[], and string[] was promised",
    ]
    assert isinstance(found[0], Difference)


def test_a_model_that_is_not_behind_the_problem_is_held_to_it_too():
    found = PROBLEM.run_tests(graphpipe.load(lambda x: {"twice": x, "label": x}))
    assert str(found[0]) == "test 'two': output 'label' is float32[2], and string[] was promised"


def test_a_model_that_writes_to_its_inputs_spoils_no_test():
    class Spoils:
        signature = PROBLEM.signature

        def infer(self, inputs, outputs=None, *, config=""):
            inputs["x"] *= 2
            return {"twice": inputs["x"], "label": "ok"}

        def close(self):
            pass

    for _ in range(2):
        assert PROBLEM.run_tests(Spoils()) == []


def test_many_differences_are_summed_up():
    problem = Problem.of({"x": "any"}, {"y": "float32"}, tests=[Case({"x": i}, {"y": -1.0}) for i in range(9)])
    with pytest.raises(TestFailed, match=r"^the problem: test 1: .*; test 5: .*; and 4 more$"):
        problem.check(graphpipe.load(lambda x: {"y": np.float32(x)}))


def test_a_server_is_held_to_a_problem_by_its_client():
    def twice(x):
        return {"twice": x * 2, "label": b"ok"}

    with graphpipe.serving(twice, problem=PROBLEM) as server, graphpipe.Client(server.url) as client:
        assert client.signature.inputs == PROBLEM.inputs
        assert PROBLEM.run_tests(client) == []
