"""The arithmetic of a measurement: percentiles, bins, and when windows agree."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphpipe.bench.load import Load
from graphpipe.bench.quantiles import PERCENTS, bins, percentiles
from graphpipe.bench.windows import Window, are_stable

latencies = arrays(np.float64, st.integers(1, 400), elements=st.floats(1e-6, 100))


@given(latencies, st.lists(st.floats(0.1, 100), min_size=1, max_size=5))
def test_percentiles_are_numpys_and_values_that_did_occur(values, percents):
    found = percentiles(values, percents)
    assert found == [np.quantile(values, p / 100, method="inverted_cdf") for p in percents]
    for percent, value in zip(percents, found, strict=True):
        assert value in values
        assert np.count_nonzero(values <= value) >= percent / 100 * len(values) * (1 - 1e-9)
    low, linear, high = (np.percentile(values, percents, method=m) for m in ("lower", "linear", "higher"))
    step = np.max(np.diff(np.sort(values)), initial=0)
    assert np.all(np.abs(found - linear) <= step * (1 + 1e-9))
    assert np.all(low <= high)


def test_percentiles_of_nothing_are_no_numbers():
    assert all(np.isnan(percentiles(np.empty(0))))
    assert len(percentiles(np.empty(0))) == len(PERCENTS)


@given(latencies, st.integers(1, 80))
def test_every_value_is_in_the_bin_that_it_belongs_to(values, most):
    heap = bins(values, most)
    assert sum(each.count for each in heap) == len(values)
    assert all(a.high == b.low for a, b in itertools.pairwise(heap))
    for each in heap[1:-1]:
        assert each.count == np.count_nonzero((values >= each.low) & (values < each.high))
    assert len(heap) <= max(most, 10)  # a bin to a factor of ten is the widest


def window(per_s=100.0, p50=0.01, p99=0.02, answers=1000):
    values = np.full(answers, p50)
    values[int(answers * 0.985) :] = p99
    return Window(answers / per_s, values, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("windows", "stable"),
    [
        ([window()] * 2, False),
        ([window()] * 3, True),
        ([window(per_s=50), window(), window(), window()], True),  # the last three count
        ([window(), window(), window(per_s=50)], False),
        ([window(per_s=97), window(per_s=100), window(per_s=103)], True),
        ([window(per_s=90), window(per_s=100), window(per_s=110)], False),
        ([window(), window(), window(p50=0.012)], False),
        ([window(), window(), window(p99=0.023)], True),
        ([window(), window(), window(p99=0.05)], False),
        ([window(answers=50), window(answers=50), window(p99=0.05, answers=50)], True),  # a p99 of 50 is its slowest
        ([window(), window(), Window(1.0, np.empty(0), 0, 5, 0.0)], False),
    ],
)
def test_three_windows_that_agree_are_stable(windows, stable):
    assert are_stable(windows) is stable


def test_requests_by_the_clock_are_due_evenly_or_at_random_the_same_for_a_seed():
    assert list(itertools.islice(Load(rate=4).dues(10.0), 3)) == [10.0, 10.25, 10.5]
    some = [list(itertools.islice(Load(rate=100, poisson=True, seed=s).dues(0.0), 5000)) for s in (1, 1, 2)]
    assert some[0] == some[1] != some[2]
    gaps = np.diff(some[0])
    assert statistics.fmean(gaps) == pytest.approx(0.01, rel=0.1)
    assert np.std(gaps) == pytest.approx(0.01, rel=0.1)  # as chance has it
