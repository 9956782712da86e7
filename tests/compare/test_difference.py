"""Two answers against each other: the numbers are those that numpy gives for all of them at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphpipe.comparison import difference
from graphpipe.comparison.difference import Difference, Tolerance


def between(reference, other, **more):
    found = Difference("b", "a", "out", Tolerance(**more))
    found.add("case 0", np.asarray(reference), np.asarray(other))
    return found


def text(*items):
    return np.array(items, object)


def test_sums_over_calls_and_pieces_are_those_of_all_at_once(monkeypatch):
    monkeypatch.setattr(difference, "_PIECE", 7)
    chance = np.random.default_rng(0)
    found = Difference("b", "a", "out", Tolerance(rtol=1e-3, atol=1e-4))
    all_a, all_b = [], []
    for call in range(5):
        a = chance.normal(size=(6, 5)).astype(np.float32)
        b = (a + chance.normal(scale=2e-3, size=a.shape) * (chance.random(a.shape) < 0.5)).astype(np.float32)
        found.add(f"case {call}", a, b)
        all_a.append(a.astype(float).ravel())
        all_b.append(b.astype(float).ravel())
    a, b = np.concatenate(all_a), np.concatenate(all_b)
    distance = np.abs(b - a)
    beyond = distance > 1e-4 + 1e-3 * np.abs(a)
    assert (found.calls, found.elements) == (5, 150)
    assert found.max_abs == distance.max()
    assert found.max_rel == pytest.approx((distance / np.abs(a)).max(), rel=1e-12)
    assert found.mean_abs == pytest.approx(distance.mean(), rel=1e-12)
    assert found.beyond == beyond.sum() > 0
    first = int(beyond.argmax())
    assert found.first.call == f"case {first // 30}"
    assert found.first.index == (first % 30 // 5, first % 5)
    assert (found.first.reference, found.first.other) == (np.float32(a[first]), np.float32(b[first]))


def test_the_first_place_is_told_by_its_row_among_all():
    found = Difference("b", "a", "out")
    found.add("rows 32 to 35", np.zeros((4, 2)), np.array([[0, 0], [0, 0.5], [0, 0], [1, 0]]), first_row=32)
    assert str(found.first) == "row 33 [1]: 0.5 for 0"


def test_whole_numbers_are_compared_exactly_even_where_float64_ends():
    large = 2**53
    found = between([large, 1], [large + 1, 1])
    assert (found.beyond, found.max_abs) == (0, 1.0)  # within rtol of so large a number
    found = between([large, 1], [large + 1, 1], rtol=0, atol=0)
    assert (found.beyond, found.max_abs) == (1, 1.0)
    assert (found.first.reference, found.first.other) == (large, large + 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "bool", "float16"])
def test_any_type_of_numbers_is_held_against_any_other(dtype):
    found = between(np.array([0, 1, 1], dtype), np.array([0.0, 1.0, 0.0]))
    assert (found.beyond, found.max_abs, found.mean_abs) == (1, 1.0, pytest.approx(1 / 3))


def test_nan_equals_nan_and_an_infinity_the_same_one():
    inf, nan = math.inf, math.nan
    assert between([nan, inf, -inf], [nan, inf, -inf]).beyond == 0
    found = between([nan, 1.0, inf, 0.0, 2.0], [1.0, nan, -inf, inf, 2.5])
    assert (found.beyond, found.not_finite, found.max_abs, found.mean_abs) == (5, 4, 0.5, 0.5)
    assert found.over(1e9) == "b, output out: 4 elements NaN or infinite against something else"


def test_text_is_equal_or_not_whatever_it_is_held_in():
    found = between(text(b"cat", "dog", "\u00e9"), np.array(["cat", "cow", "\u00e9"]))
    assert (found.text, found.elements, found.beyond, found.share_beyond) == (True, 3, 1, pytest.approx(1 / 3))
    assert str(found.first) == "case 0 [1]: 'cow' for 'dog'"
    assert found.over(1e9) == "b, output out: 1 of 3 texts unequal"
    assert between(text(b"\xff"), text(b"\xfe")).beyond == 1
    assert len(str(between(text("a" * 10**6), text("b")).first)) < 200


def test_what_cannot_be_compared_is_counted_and_the_first_of_it_named():
    found = between(np.zeros((2, 4)), np.zeros((3, 4)))
    found.add("case 1", np.zeros(2), text("a", "b"))
    assert (found.not_alike, found.elements) == (2, 0)
    assert found.mismatch == "case 0: shape [2, 4] against [3, 4]"
    assert "not comparable: case 0: shape" in found.over(1e9)
    assert between(np.zeros(1), np.zeros(1, complex)).mismatch == "case 0: float64 against complex128"


def test_empty_answers_and_scalars_are_compared():
    assert between(np.zeros((0, 4)), np.zeros((0, 4))).share_beyond == 0
    assert str(between(np.float32(1), np.float32(2)).first) == "case 0: 2 for 1"


def test_rows_of_probabilities_are_looked_at_for_their_highest():
    a = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]], np.float32)
    found = between(a, a)
    assert found.highest(()) is None  # nobody looked
    found.add_scores(a, a[:, ::-1].copy())
    assert found.highest(()) == 1.0
    found.add_scores(a, a)
    assert found.highest(()) == 0.5
    assert found.highest(["other"]) is None
    found.add_scores(a * 3, a)  # these are no probabilities
    assert found.highest(()) is None
    assert found.highest(["out"]) == pytest.approx(1 / 3)


def test_a_limit_is_for_the_largest_difference():
    found = between([1.0, 2.0], [1.0, 2.01])
    assert found.over(0.02) == ""
    assert found.over(0.001) == "b, output out: a difference of 0.01 is over 0.001"
