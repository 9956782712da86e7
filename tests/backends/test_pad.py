"""--pad: short inputs filled up to a model's fixed size."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError


@graphpipe.model(inputs={"ids": "int64[n, 6]", "x": "float32"}, outputs={"sum": "int64[n]", "x": "float32"})
def model(ids, x):
    return ids.sum(axis=1), x


def test_a_short_input_is_filled_up_and_a_full_one_left_alone():
    padded = graphpipe.load(model, pad=["ids:1:7"])
    ids = np.ones((2, 4), np.int64)
    assert padded.infer({"ids": ids, "x": np.float32(1)})["sum"].tolist() == [4 + 14, 4 + 14]
    assert padded.infer({"ids": np.ones((2, 6), np.int64), "x": np.float32(1)})["sum"].tolist() == [6, 6]


def test_the_signature_shows_the_axis_as_open_and_says_so():
    [ids, _] = graphpipe.load(model, pad=["ids:1:7"]).signature.inputs
    assert ids.shape == ("n", None)
    assert ids.description == "axis 1 filled up to 6 with 7"


def test_a_longer_input_is_refused_with_the_size_that_there_is():
    padded = graphpipe.load(model, pad=["ids:1:0"])
    with pytest.raises(InvalidRequest, match="'ids' has 9 along axis 1, but the model takes at most 6 there"):
        padded.infer({"ids": np.ones((2, 9), np.int64), "x": np.float32(1)})


def test_a_size_that_the_signature_does_not_say_can_be_said():
    padded = graphpipe.load(model, pad=["x:0:nan:4"])
    got = padded.infer({"ids": np.ones((1, 6), np.int64), "x": np.ones(3, np.float32)})["x"]
    assert np.array_equal(got, [1, 1, 1, np.nan], equal_nan=True)
    with pytest.raises(InvalidRequest, match="filled up along axis 0"):
        padded.infer({"ids": np.ones((1, 6), np.int64), "x": np.float32(1)})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ids", "expected NAME:AXIS:VALUE"),
        ("ids:1:e", "expected NAME:AXIS:VALUE"),
        ("nobody:1:0", "there is no input 'nobody'"),
        ("ids:2:0", "has no axis 2"),
        ("ids:0:0", "nothing says what size axis 0"),
        ("x:0:0", "nothing says what size axis 0"),
    ],
)
def test_a_padding_that_makes_no_sense_is_refused_when_loading(text, words):
    with pytest.raises(LoadError, match=words):
        graphpipe.load(model, pad=[text])


@graphpipe.model(inputs={"ids:0": "int64[n, 4]", "u": "uint8[n, 3]", "s": "string[n, 3]"}, outputs={"ids": "int64"})
def typed(*given):
    return given[0]


@pytest.mark.parametrize("text", ["ids:0:1:9007199254740993", "ids:1:9007199254740993", "ids:0:-1:9007199254740993:4"])
def test_a_name_may_hold_colons_and_a_value_is_exact(text):
    padded = graphpipe.load(typed, pad=[text])
    given = {"ids:0": np.ones((1, 3), np.int64), "u": np.ones((1, 3), np.uint8), "s": np.array([["a"] * 3], object)}
    assert padded.infer(given)["ids"].tolist() == [[1, 1, 1, 2**53 + 1]]


@pytest.mark.parametrize("text", ["u:1:-1", "u:1:300", "u:1:0.5", "u:1:nan", "ids:1:nan", "ids:1:0.5", "s:1:0"])
def test_a_value_that_the_type_cannot_hold_is_refused_when_loading(text):
    with pytest.raises(LoadError, match=r"is not a value of|is text"):
        graphpipe.load(typed, pad=[text])


@pytest.mark.parametrize(
    ("pads", "words"),
    [
        (["u:1:0", "u:-1:1"], "filled up already"),
        (["u:1:0:9"], "has size 3, not 9"),
        (["idz:1:0"], "did you mean 'ids'"),
    ],
)
def test_paddings_that_contradict_are_refused_when_loading(pads, words):
    with pytest.raises(LoadError, match=words):
        graphpipe.load(typed, pad=pads)


def test_a_shorter_input_of_token_ids_is_refused_with_the_flag_that_fills_it_up():
    with pytest.raises(
        InvalidRequest, match=r"2 along axis 1, but .* 6 there: .*; make it as long, or .*\(--pad ids:1:0\)$"
    ):
        graphpipe.load(model).infer({"ids": np.ones((2, 2), np.int64), "x": np.float32(1)})
    with pytest.raises(InvalidRequest, match=r"9 along axis 1, but the model takes 6 there: ids int64 \[n, 6\]$"):
        graphpipe.load(model).infer({"ids": np.ones((2, 9), np.int64), "x": np.float32(1)})
