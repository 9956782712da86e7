"""What a caller may have is his, whatever he does and however many there are: buckets and quotas by a test's clock."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.errors import Overloaded, TooLarge
from graphpipe.server.quotas.bucket import Bucket
from graphpipe.server.quotas.quota import Limits, Quota
from graphpipe.server.quotas.quotas import CALLERS_MAX, Quotas, who_of

# Steps of a clock that floats count without an error.
STEP_S = Fraction(1, 1024)
# What is not there by so little of a second counts as there.
ROUNDED_S = Fraction(2, 10**6)


@dataclass
class Oracle:
    """A token bucket as one would write it down, in whole fractions."""

    rate: int
    size: int
    left: Fraction = field(default_factory=Fraction)
    at: Fraction = field(default_factory=Fraction)

    def __post_init__(self) -> None:
        self.left = Fraction(self.size)

    def lacks(self, cost: int, now: Fraction, paid: int = 0) -> Fraction:
        self.left, self.at = min(Fraction(self.size), self.left + (now - self.at) * self.rate), now
        return max(Fraction(0), min(cost, self.size) - paid - self.left)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 20_000)), max_size=60),
)
def test_a_bucket_lets_in_what_a_simple_one_does_and_names_the_moment_when_it_will(
    rate: int, size: int, asked: list[tuple[int, int]]
) -> None:
    bucket, oracle, now = Bucket(rate, size), Oracle(rate, size), Fraction(0)
    for steps, cost in asked:
        now += steps * STEP_S
        lack = oracle.lacks(cost, now)
        before = bucket._full_at
        wait_s = bucket.take(cost, float(now))
        if 0 < lack < rate * ROUNDED_S:
            return  # as good as a tie
        if lack:
            assert wait_s == pytest.approx(float(lack / rate), abs=2e-6)
            assert bucket._full_at == before  # which costs nothing
            later = Bucket(rate, size)
            later._full_at = before
            assert later.take(cost, float(now) + wait_s + 1e-9) == 0  # he who comes when he was told to is let in
        else:
            assert wait_s == 0
            oracle.left -= cost


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 512), st.integers(1, 300)), min_size=1, max_size=80),
)
def test_whoever_hammers_gets_his_rate_and_no_more_over_any_span(rate: int, asked: list[tuple[int, int]]) -> None:
    bucket, now, let_in = Bucket(rate, rate), Fraction(0), []
    for steps, cost in asked:
        now += steps * STEP_S
        if not bucket.take(cost, float(now)):
            let_in.append((now, cost))
    for first in range(len(let_in)):
        for last in range(first, len(let_in)):
            span = let_in[last][0] - let_in[first][0]
            costs = [cost for _, cost in let_in[first : last + 1]]
            # The last one may be larger than the bucket: what it leaves is paid off afterwards.
            assert sum(costs) <= rate + span * rate + max(0, costs[-1] - rate) + rate * ROUNDED_S
    if asked and not let_in:
        raise AssertionError("a full bucket lets anybody in")


def test_what_is_refused_costs_nothing() -> None:
    quota = Quota(Limits(requests_per_s=1, bytes_per_s=100, requests_max=5, bytes_max=1000))
    quota.enter(500, 0.0)
    for tenth in range(1, 50):  # he does not stop asking
        with pytest.raises(Overloaded):
            quota.enter(100, tenth / 10 - 0.05)
    quota.enter(100, 5.0)
    assert (quota.requests, quota.size) == (2, 600)


LIMITS = {
    "--caller-requests-max": (Limits(requests_max=2), 10, 10, 1),
    "--caller-bytes-max": (Limits(bytes_max=25), 10, 10, 1),
    "--caller-requests-per-s": (Limits(requests_per_s=0.3), 10, None, 4),
    "--caller-bytes-per-s": (Limits(bytes_per_s=8), 40, None, 5),
}


@pytest.mark.parametrize("flag", LIMITS)
def test_each_limit_refuses_by_its_name_its_size_and_when_to_come_again(flag: str) -> None:
    limits, size, more, retry_s = LIMITS[flag]
    quota = Quota(limits)
    quota.enter(size, 0.0)
    if more is not None:
        quota.enter(more, 0.0)
    with pytest.raises(Overloaded) as refused:
        quota.enter(size, 0.0)
    error = refused.value
    assert (error.code, error.http_status, error.retry_after_s, error.safe_to_retry) == (6, 429, retry_s, True)
    assert f"({flag})" in error.message
    assert str(next(value for value in (0.3, 2, 25, 8) if value in vars_of(limits))) in error.message
    if more is None:
        quota.enter(size, float(retry_s))


def vars_of(limits: Limits) -> list[Any]:
    return [limits.requests_max, limits.bytes_max, limits.requests_per_s, limits.bytes_per_s]


def test_a_whole_number_of_seconds_is_no_second_more() -> None:
    for number in range(200):
        now = 1000 + number / 7
        quota = Quota(Limits(requests_per_s=0.001))
        quota.enter(0, now)
        with pytest.raises(Overloaded) as refused:
            quota.enter(0, now)
        assert refused.value.retry_after_s == 1000


@pytest.mark.parametrize("rate", [5e-324, 1e-12, 0.001])
def test_the_smallest_rate_names_a_time_too(rate: float) -> None:
    quota = Quota(Limits(requests_per_s=rate))
    quota.enter(0, 0.0)
    with pytest.raises(Overloaded) as refused:
        quota.enter(0, 0.0)
    assert refused.value.retry_after_s == (1000 if rate == 0.001 else 86_400)


def test_a_body_that_would_not_be_taken_alone_is_too_large_and_not_too_early() -> None:
    quota = Quota(Limits(bytes_max=25))
    with pytest.raises(TooLarge, match=r"26 bytes.* at most 25 in flight \(--caller-bytes-max\)"):
        quota.enter(26, 0.0)
    quota.enter(0, 0.0)
    with pytest.raises(TooLarge):
        quota.grow(0, 26, 0.0)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.integers(0, 3), st.sampled_from((0, 40)), st.integers(0, 4), st.sampled_from((0, 16, 64))),
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.integers(0, 50)),
            st.tuples(st.just("grow"), st.integers(0, 30)),
            st.tuples(st.just("leave"), st.integers(0, 9)),
            st.tuples(st.just("wait"), st.integers(1, 2048)),
        ),
        max_size=80,
    ),
)
def test_however_requests_come_grow_and_go_a_quota_is_what_it_says(
    numbers: tuple[int, int, int, int], steps: list[tuple[str, int]]
) -> None:
    limits = Limits(*numbers)
    requests_max, bytes_max, requests_per_s, bytes_per_s = numbers
    quota, now = Quota(limits), Fraction(0)
    of_requests, of_bytes = Oracle(requests_per_s, requests_per_s), Oracle(bytes_per_s, bytes_per_s)
    under_way: list[int] = []

    def fits(before: int, after: int) -> bool:
        together = sum(under_way) - before + after
        return (not bytes_max or together <= bytes_max) and not (
            bytes_per_s and of_bytes.lacks(after, now, paid=before)
        )

    for step, number in steps:
        if step == "wait":
            now += number * STEP_S
        elif step == "leave" and under_way:
            quota.leave(under_way.pop(number % len(under_way)))
        elif step == "enter":
            wanted = (
                (not requests_max or len(under_way) < requests_max)
                and not (requests_per_s and of_requests.lacks(1, now))
                and fits(0, number)
            )
            assert took(partial(quota.enter, number, float(now))) == wanted
            if wanted:
                under_way.append(number)
                of_requests.left -= 1
                of_bytes.left -= number
        elif step == "grow" and under_way:
            before, after = under_way[-1], under_way[-1] + number
            wanted = fits(before, after)
            assert took(partial(quota.grow, before, after, float(now))) == wanted
            if wanted:
                under_way[-1] = after
                of_bytes.left -= number
        assert (quota.requests, quota.size) == (len(under_way), sum(under_way))
    for size in under_way:
        quota.leave(size)
    assert (quota.requests, quota.size) == (0, 0)
    assert quota.is_idle(float(now) + 1e6)


def took(call: Any) -> bool:
    try:
        call()
    except (Overloaded, TooLarge) as error:
        assert error.retry_after_s is None or error.retry_after_s == ceil(error.retry_after_s) >= 1
        return False
    return True


# --- who is who, and how many there may be ---


def test_an_address_is_a_caller_and_of_ipv6_a_network_is() -> None:
    assert who_of("", "10.0.0.1") != who_of("", "10.0.0.2")
    assert who_of("", "2001:db8:0:1::1") == who_of("", "2001:db8:0:1:ffff::2") != who_of("", "2001:db8:0:2::1")
    assert who_of("", "fe80::1%eth0") == who_of("", "fe80::2")
    assert who_of("", "::ffff:10.0.0.1") == who_of("", "10.0.0.1") != who_of("", "::ffff:10.0.0.2")
    assert who_of("10.0.0.1", "10.0.0.2") != who_of("", "10.0.0.1")  # a certificate's name is no address
    assert who_of("ci", "10.0.0.1") == who_of("ci", "10.0.0.2")
    socket = object()
    assert who_of("", socket) is socket


def test_twenty_thousand_addresses_take_bounded_memory_and_each_has_its_own_limit() -> None:
    quotas = Quotas(Limits(requests_per_s=1, bytes_per_s=1000))
    tracemalloc.start()
    try:
        for number in range(20_000):
            quota = quotas.of(number, number / 1000)
            quota.enter(100, number / 1000)
            quota.leave(100)
            assert not took(partial(quotas.of(number, number / 1000).enter, 100, number / 1000))
        assert len(quotas) <= CALLERS_MAX
        first = tracemalloc.get_traced_memory()[0]
        for number in range(20_000, 40_000):
            quotas.of(number, number / 1000).enter(100, number / 1000)
            quotas.of(number, number / 1000).leave(100)
        assert len(quotas) <= CALLERS_MAX
        assert tracemalloc.get_traced_memory()[0] < first * 1.3
    finally:
        tracemalloc.stop()


def test_nobody_who_has_something_under_way_or_a_debt_is_forgotten() -> None:
    quotas = Quotas(Limits(requests_max=1, requests_per_s=1), most=3)
    quotas.of("under way", 0.0).enter(0, 0.0)
    quotas.of("in debt", 99.5).enter(0, 99.5)
    quotas.of("in debt", 99.5).leave(0)
    for number in range(100):
        quotas.of(number, 100.0)
        assert len(quotas) == 3
    assert not took(lambda: quotas.of("under way", 100.0).enter(0, 100.0))
    assert not took(lambda: quotas.of("in debt", 100.0).enter(0, 100.0))


def test_where_all_are_busy_those_who_come_then_share_one_quota_and_nobody_else_does() -> None:
    quotas = Quotas(Limits(requests_max=2), most=3)
    for who in "abc":
        quotas.of(who, 0.0).enter(0, 0.0)
    crowd = quotas.of("d", 0.0)
    assert quotas.of("e", 0.0) is crowd
    assert len(quotas) == 3
    crowd.enter(0, 0.0)
    crowd.enter(0, 0.0)
    assert not took(lambda: quotas.of("f", 0.0).enter(0, 0.0))
    assert took(lambda: quotas.of("a", 0.0).enter(0, 0.0))
    quotas.of("b", 0.0).leave(0)
    assert quotas.of("g", 0.0) is not crowd  # b was idle
