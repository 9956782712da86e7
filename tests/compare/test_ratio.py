"""The interval of a ratio: as sure as it says, and as narrow as that allows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphpipe.comparison.ratio import median_ratio


def sureness(count, outside):
    """How often the true median is between the sorted values so many places from both ends: of the binomial distribution."""
    return 1 - 2 * sum(math.comb(count, k) for k in range(outside + 1)) / 2**count


@pytest.mark.parametrize("count", [6, 8, 9, 25, 100, 1000, 1001, 1500])
def test_the_interval_is_as_narrow_as_95_percent_allow(count):
    ratio = median_ratio(np.arange(1.0, count + 1), np.ones(count))
    outside = int(ratio.low) - 1
    assert ratio.high == count - outside
    assert sureness(count, outside) >= 0.95
    assert count > 1000 or sureness(count, outside + 1) < 0.95
    assert ratio.median == (count + 1) / 2


def test_few_pairs_have_a_median_alone():
    ratio = median_ratio(np.array([2.0, 4.0, 9.0]), np.array([1.0, 1.0, 3.0]))
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (3.0, None, None, 3)


def test_calls_that_one_of_both_failed_on_are_in_no_pair():
    ratio = median_ratio(np.array([2.0, np.nan, 2.0]), np.array([1.0, 1.0, np.nan]))
    assert (ratio.median, ratio.pairs) == (2.0, 1)
    assert median_ratio(np.array([np.nan]), np.array([1.0])) is None


def test_a_machine_that_is_slow_for_a_while_is_not_seen_in_the_ratio():
    slow = np.where(np.arange(200) < 90, 10.0, 1.0)
    ratio = median_ratio(1.25 * slow, slow)
    assert (ratio.median, ratio.low, ratio.high) == (1.25, 1.25, 1.25)
