"""What is sent to a model of which one knows no more than what it says it takes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphpipe.bench.requests import given, synthetic
from graphpipe.signature import TensorSpec
from graphpipe.wire import decode_request


def specs(**texts):
    return [TensorSpec.of(name, text) for name, text in texts.items()]


def test_every_type_is_made_up_in_its_range_and_travels():
    whole = [f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)]
    kinds = ["bool", *whole, "float16", "float32", "float64"]
    made = synthetic(specs(**{kind: f"{kind}[n, 50]" for kind in kinds}, words="string[n]"), 4, {}, 0)
    assert made.rows == 4
    for kind, array in zip(kinds, made.arrays, strict=False):
        assert (array.dtype.name, array.shape) == (kind, (4, 50))
        assert array.min() >= 0
        assert array.max() <= (255 if kind == "uint8" else 1)
        assert len(np.unique(array)) > 1
    assert [len(word) for word in made.arrays[-1]] == [16] * 4
    arrived = decode_request(made.body())
    assert arrived.head.input_names == (*kinds, "words")
    np.testing.assert_array_equal(arrived.inputs[-1], made.arrays[-1])


def test_equal_seeds_make_equal_requests():
    takes = specs(x="float32[n, 3]", word="string[n]")
    first, same, other = (synthetic(takes, 2, {}, seed).body() for seed in (0, 0, 1))
    assert first == same != other


@pytest.mark.parametrize(
    ("text", "batch", "said", "shape", "rows"),
    [
        ("float32[n, 4]", 3, None, (3, 4), 3),
        ("float32[?, 4]", 3, None, (3, 4), 3),
        ("float32[n, n]", 3, None, (3, 3), 3),  # a symbol is one number wherever it occurs
        ("float32[1, 4]", 1, None, (1, 4), 1),
        ("float32[8, 4]", 3, None, (8, 4), 8),
        ("float32[4]", 1, None, (4,), 1),
        ("float32[]", 3, None, (), 1),
        ("float32", 3, None, (3, 256), 3),
        ("any", 1, None, (1, 256), 1),
        ("int64[n, length]", 1, (2, 128), (2, 128), 2),
    ],
)
def test_open_dimensions_are_rows_or_what_is_said(text, batch, said, shape, rows):
    made = synthetic(specs(x=text), batch, {} if said is None else {"x": said}, 0)
    assert made.arrays[0].shape == shape
    assert made.rows == rows


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "ids int64 [n, length]; say how large what it leaves open is: --shape ids=1,N"),
        ({"ids": (1, 2, 3)}, "--shape ids=1,2,3: the model takes ids int64 [n, length]"),
        ({"idx": (1, 2)}, "there is no input 'idx'; did you mean 'ids'?; there are 'ids'"),
    ],
)
def test_what_cannot_be_made_up_says_what_to_write(shapes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        synthetic(specs(ids="int64[n, length]"), 1, shapes, 0)


def test_given_values_take_the_models_types():
    made = given(
        [("", [[1, 2]]), ("b", np.ones((1, 2), np.float64))], specs(a="float32[n, 2]", b="float32[n, 2]"), True
    )
    assert [array.dtype for array in made.arrays] == [np.float32, np.float32]
    assert made.names == ("", "b")
    assert made.rows == 1
