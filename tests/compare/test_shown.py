"""What a comparison shows: the table, the JSON and the picture have the same numbers."""

from __future__ import annotations

import itertools
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import graphpipe
from graphpipe import Problem

SVG = "{http://www.w3.org/2000/svg}"
X = np.arange(1, 13, dtype=np.float32).reshape(12, 1)
KINDS = Problem.of({"x": "float32[n, 1]"}, {"p": "float32[n, 2]", "word": "string[n]"}, name="kinds")


def answers(x, off=0.0, other=0):
    p = np.concatenate([1 / (1 + x), x / (1 + x)], axis=1) + np.float32(off)
    words = np.array([f"w{int(i)}" for i in x[:, 0]], object)
    words[x[:, 0] <= other] = "?"
    return {"p": p, "word": words}


def a(x):
    return answers(x)


def b(x):
    return answers(x, 0.25, 3)


def broken(x):
    raise ValueError("<no> & never")


def infinite(x):
    return {**answers(x), "p": np.full((len(x), 2), np.inf, np.float32)}


def first(inputs, outputs, truth):
    return {"mean": outputs["p"][:, 0].mean(), "right": float((outputs["word"] == truth["word"]).mean())}


@pytest.fixture(scope="module")
def found():
    data = {"x": X, "word": answers(X)["word"]}
    models = {"a": a, "b": b, "broken": broken, "infinite": infinite}
    return graphpipe.compare(models, data, problem=KINDS, metric=first, batch=2, repeat=2, scores=["p"])


def test_json_has_every_number_and_is_json(found):
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["format"] == "graphpipe-comparison/1"
    assert (document["problem"], document["data"], document["reference"]) == ("kinds", "the data", "a")
    assert (document["calls"], document["rows"], document["passes"]) == (12, 24, 2)
    one, two, three, four = document["models"]
    assert (one["answers"], one["rows"], one["errors"], one["latency_ratio"]) == (12, 24, 0, None)
    assert 0 < one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"]
    assert one["rows_per_s"] == pytest.approx(2 * one["calls_per_s"], rel=1e-4)
    assert two["latency_ratio_low"] <= two["latency_ratio"] <= two["latency_ratio_high"]
    assert (two["metrics"]["right"], one["metrics"]["right"]) == (pytest.approx(0.75), 1.0)
    assert (three["answers"], three["errors"], three["p50_ms"], three["calls_per_s"]) == (0, 12, None, 0)
    assert three["errors_by_kind"]["500 ModelFailed"]["count"] == 12
    assert (three["metrics"], three["first_failed_call"]) == ({}, "rows 0 to 1")
    assert four["metrics"]["mean"] is None  # infinite
    differences = {(each["model"], each["reference"], each["output"]): each for each in document["differences"]}
    p, word = differences["b", "a", "p"], differences["b", "a", "word"]
    assert (p["max_abs"], p["mean_abs"], p["beyond"], p["elements"], p["share_other_highest"]) == (
        0.25,
        0.25,
        24,
        24,
        0,
    )
    assert p["first"]["index"] == [0]
    assert (word["text"], word["max_abs"], word["beyond"], word["share_beyond"]) == (True, None, 3, 0.25)
    assert word["first"] == {"call": "row 0", "index": [], "reference": "w1", "other": "?"}
    assert differences["b", "expected", "word"]["beyond"] == 3
    assert differences["infinite", "a", "p"]["not_finite"] == 24
    assert differences["infinite", "a", "p"]["first"]["other"] == "inf"
    assert document["max_abs"] == 0.25


def test_the_table_has_the_same_numbers_in_words(found):
    lines = found.table().splitlines()
    assert lines[0] == "kinds: 4 models, 12 calls of each in 2 passes, 24 rows, of the data"
    heads = re.split(r"\s{2,}", lines[2].strip())
    assert heads == ["model", "calls/s", "rows/s", "p50 ms", "p90 ms", "p99 ms", "time / a", "errors", "mean", "right"]
    rows = {line.split()[0]: line.split() for line in lines[3:7]}
    assert rows["a"][-4:-1] == ["1", "0", f"{found.models[0].metrics['mean']:.5g}"]
    assert rows["b"][-1] == "0.75"
    assert rows["broken"][1:] == ["-", "-", "-", "-", "-", "-", "12", "-", "-"]
    text = found.table()
    assert "differences from a" in text
    assert "differences from what is expected" in text
    assert re.search(r"b +word +12 +- +- +- +25 % +- +row 0: '\?' for 'w1'", text)
    assert "infinite, output p: 24 elements NaN or infinite against something else; in no mean" in text
    assert "broken: 12 errors (first: rows 0 to 1): 500 ModelFailed" in text
    assert str(found) == text


def test_the_picture_is_well_formed_and_says_the_numbers(found):
    picture = ElementTree.fromstring(found.picture())
    said = ["".join(each.itertext()) for each in picture.iter(f"{SVG}text")]
    assert said[0] == "kinds: a, b, broken, infinite"
    assert {"Latency of one call", "Difference from a", "the reference", "no answer, 12 errors"} <= set(said)
    assert said.count("0.25") == 1
    assert "25 % unequal" in said
    assert "24 elements NaN or infinite" in said
    ratio = found.models[1].ratio
    assert f"{ratio.median:.3g} times ({ratio.low:.3g} to {ratio.high:.3g})" in said
    width, height = float(picture.get("width")), float(picture.get("height"))
    for each in picture.iter(f"{SVG}text"):
        assert 0 <= float(each.get("x")) <= width
        assert 0 <= float(each.get("y")) <= height
    # Read by eyes that have it dark, too.
    assert "prefers-color-scheme: dark" in found.picture()


@pytest.mark.parametrize("rows", [1, 12])
def test_models_that_are_equal_are_drawn_too(rows):
    found = graphpipe.compare({"a <&": a, "a again\x1b[31m": a}, {"x": X[:rows]}, problem=KINDS, batch=rows)
    said = ["".join(each.itertext()) for each in ElementTree.fromstring(found.picture()).iter(f"{SVG}text")]
    assert said[0] == r"kinds: a <&, a again\x1b[31m"
    assert said.count("all equal") == 2
    assert "\x1b" not in found.table()


def test_a_long_comparison_of_many_outputs_has_room(found):
    outputs = {f"out_of_a_very_long_name_{i}": "float32[n, 1]" for i in range(9)}
    problem = Problem.of({"x": "float32[n, 1]"}, outputs)
    many = graphpipe.compare(
        {"x" * 300: lambda x: {name: x * i for i, name in enumerate(outputs)},
         "y": lambda x: {name: x * (i + 1e-3) for i, name in enumerate(outputs)}},
        {"x": X}, problem=problem,
    )  # fmt: skip
    picture = ElementTree.fromstring(many.picture())
    places = [float(each.get("y")) for each in picture.iter(f"{SVG}text") if each.text.startswith("out_of_a")]
    assert len(places) == 9
    assert max(places) < float(picture.get("height")) - 60
    assert min(b - a for a, b in itertools.pairwise(places)) >= 14
