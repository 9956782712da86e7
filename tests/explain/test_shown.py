"""How it is shown: words that fit a terminal, a picture that is well-formed, JSON with every number."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import graphpipe
from graphpipe.bench.requests import given, synthetic
from graphpipe.explanation.boxes import columns
from graphpipe.explanation.document import as_json
from graphpipe.explanation.explaining import explain
from graphpipe.explanation.picture import svg
from graphpipe.explanation.table import as_text

SVG = "{http://www.w3.org/2000/svg}"
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"
LONG = "a_name_that_is_much_longer_than_anybody_would_want_to_see"


def widen(x):
    return {"<left> & right": x, LONG: x, "日本": x}


def last(w0, w1, w2):
    return {"\x1b[31m": w0 + w1 + w2}


def stages():
    names = ["<left> & right", LONG, "日本"]
    yield graphpipe.Stage(widen, name=LONG, outputs={each: f"v{i}" for i, each in enumerate(names)})
    for i in range(3):
        yield graphpipe.Stage(lambda v: {"w": v}, name=f"s{i}", inputs={"v": f"v{i}"}, outputs={"w": f"w{i}"})
    yield graphpipe.Stage(last)


@pytest.fixture(scope="module", params=["pipeline", "graph", "function", "not measured"])
def found(request):
    if request.param == "pipeline":
        with graphpipe.Pipeline([*stages()], name="wide") as pipeline:
            yield explain(pipeline, given([("x", np.ones(3))], [], False), 2)
    elif request.param == "graph":
        with graphpipe.load(str(DIGITS)) as model:
            yield explain(model, synthetic(model.signature.inputs, 2, {}, 0), 2)
    elif request.param == "function":
        with graphpipe.load(widen) as model:
            yield explain(model, given([("x", np.ones(3))], [], False), 2)
    else:
        with graphpipe.load(str(DIGITS)) as model:
            yield explain(model, None, 0, unmeasured="nobody " * 40)


def test_words_fit_a_terminal_and_obey_nobody(found):
    text = as_text(found)
    assert max(map(len, text.splitlines())) <= 80
    assert text.replace("\n", "").isprintable()


def test_json_has_every_number_and_is_json(found):
    document = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert document["format"] == "graphpipe-explanation/1"
    assert len(document["parts"]) == len(found.parts)
    places = range(len(document["values"]))
    for part in document["parts"]:
        assert all(each["value"] in places for each in (*part["takes"], *part["gives"]))
        assert part["ms"] == pytest.approx(
            1000 * next(p.seconds for p in found.parts if p.name == part["name"]), abs=1e-6
        )
    assert (document["ms"] is None) == bool(document["unmeasured"])


def boxes_of(picture):
    """Where each box is, with the words in it: left, top, right, bottom."""
    for group in picture.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is not None:
            left, top, width, height = (float(rect.get(each)) for each in ("x", "y", "width", "height"))
            yield (left, top, left + width, top + height), list(group.iter(f"{SVG}text"))


def extent(text):
    """From where to where a text reaches at most."""
    size, bold = int(text.get("font-size") or 13), text.get("font-weight") == "bold"
    spans = text.findall(f"{SVG}tspan")
    wide = (
        sum(columns(each.text, int(each.get("font-size") or 13)) + float(each.get("dx") or 0) for each in spans)
        if spans else columns(text.text, size, bold=bold)
    )  # fmt: skip
    x, anchor = float(text.get("x")), text.get("text-anchor")
    left = x - wide if anchor == "end" else x - wide / 2 if anchor == "middle" else x
    return left, left + wide, float(text.get("y"))


def test_the_picture_is_well_formed_and_its_words_lie_in_their_boxes(found):
    picture = ElementTree.fromstring(svg(found))
    width, height = float(picture.get("width")), float(picture.get("height"))
    shown = list(boxes_of(picture))
    assert len(shown) >= 2
    for (left, top, right, bottom), texts in shown:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        extents = [extent(each) for each in texts]
        assert all(left <= a < b <= right and top < y < bottom for a, b, y in extents)
        for (a, b, y), (c, d, z) in itertools.combinations(extents, 2):
            assert y != z or b <= c or d <= a, [each.text for each in texts]
    for a, b in itertools.combinations([box for box, _ in shown], 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    assert "prefers-color-scheme: dark" in picture.find(f"{SVG}style").text


def test_the_picture_says_the_numbers_in_words(found):
    said = ["".join(each.itertext()) for each in ElementTree.fromstring(svg(found)).iter(f"{SVG}text")]
    assert said[0] == found.name
    if found.seconds is None:
        assert "not measured" in said[1]
        assert not [each for each in said if re.search(r"\d ms", each)]
    else:
        assert f"the median of {found.runs} calls" in said[1]
        assert len([each for each in said if re.fullmatch(r"[\d.,]+ ms", each)]) == max(1, len(found.parts))
