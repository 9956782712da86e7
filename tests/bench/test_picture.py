"""The picture: well-formed, and with the numbers in it."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from graphpipe.bench.picture import svg
from graphpipe.bench.quantiles import PERCENTS, percentiles

SVG = "{http://www.w3.org/2000/svg}"


def run(latencies, **more):
    p50, p90, p95, p99, p99_9 = (None if np.isnan(x) else 1000 * x for x in percentiles(latencies, PERCENTS))
    numbers = {"target": "http://h:9000", "load": "8 callers", "rate": None, "seconds": 2.0, "errors": 0}
    numbers |= {"requests": len(latencies), "requests_per_s": len(latencies) / 2, "rows_per_s": len(latencies) / 2}
    return numbers | {"p50_ms": p50, "p90_ms": p90, "p95_ms": p95, "p99_ms": p99, "p99_9_ms": p99_9} | more


def texts(picture):
    return [element.text for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def drawn(picture):
    """The bars, each with its place from left to right and its height."""
    bars = [each for each in ElementTree.fromstring(picture).iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]
    return [(float(each.get("x")), float(each.get("height"))) for each in bars]


def test_the_picture_says_what_was_measured_and_has_the_percentiles():
    latencies = np.random.default_rng(0).lognormal(-5, 0.5, 5000)
    numbers = run(latencies)
    said = texts(svg("Latency of <x> & y", "sent: x float32 [1, 4]", [numbers], [latencies]))
    assert said[:3] == ["Latency of <x> & y", "sent: x float32 [1, 4]", "8 callers at http://h:9000"]
    assert "5,000 answers in 2.0 s: 2,500 requests/s, 2,500 rows/s, no errors" in said
    assert "latency in ms, from when a request was sent (logarithmic)" in said
    assert "answers" in said
    for name, key in (("p50", "p50_ms"), ("p90", "p90_ms"), ("p99", "p99_ms"), ("p99.9", "p99_9_ms")):
        assert f"{name} {numbers[key]:.3g} ms" in said


def test_bars_are_as_high_as_there_are_answers():
    latencies = np.array([0.001] * 300 + [0.01] * 100)
    (left, high), (right, low) = drawn(svg("t", "s", [run(latencies)], [latencies]))
    assert left < right
    assert high == pytest.approx(3 * low, abs=0.2)


def test_each_run_has_a_panel_and_all_the_same_scale():
    one, other = np.full(10, 0.001), np.full(10, 0.002)
    picture = svg("t", "s", [run(one), run(other, rate=50.0, load="50 requests/s due", errors=3)], [one, other])
    said = texts(picture)
    assert "50 requests/s due at http://h:9000" in said
    assert "latency in ms, from when a request was due (logarithmic)" in said
    assert any(words.endswith("3 errors") for words in said)
    (first, _), (second, _) = drawn(picture)
    assert first < second


@pytest.mark.parametrize("values", [[], [0.005], [1e-7, 1e3]], ids=str)
def test_any_heap_of_answers_can_be_drawn(values):
    latencies = np.array(values)
    said = texts(svg("t", "s", [run(latencies)], [latencies]))
    assert ("no answer" in said) == (not values)
