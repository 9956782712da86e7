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
