"""A spec goes through metadata and comes back as it was, and what others write is not taken for more than it says."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.signature import TensorSpec
from graphpipe.wire import (
    IOMetadata,
    MetadataResponse,
    Type,
    decode_metadata_response,
    encode_metadata_response,
)
from graphpipe.wire.describe import io_of, spec_of
from graphpipe.wire.dtypes import DTYPES

F4, U1, BOOL, TEXT = np.dtype("f4"), np.dtype("u1"), np.dtype(bool), np.dtype(object)

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
symbols = st.one_of(
    st.sampled_from(["n", "batch", "ü_1", "floor(h/2)", "a, b", 'x"y', "]", "12", "?", "-1", "", ";"]), anything
)
dims = st.one_of(st.none(), st.integers(0, 2**63 - 1), symbols)
written_by_servers = st.sampled_from(
    [
        "any shape", "an image; any shape", "[n, 64]", "x; [n]", "[]", "bool, as 0 and 1", "; bool, as 0 and 1",
        "any number of tensors, any shape, any type", "float32[n, 64]", "any", "any...", "float32", "string[?]; x", ";",
        "float32[]", "bool", "uint8[n]; bool, as 0 and 1", "int64[", 'any["', " float32 ; x", "float32;x", "float32;  x",
    ]
)  # fmt: skip
specs = st.builds(
    TensorSpec,
    anything,
    st.sampled_from([None, BOOL, *DTYPES[1:]]),
    st.one_of(st.none(), st.lists(dims, max_size=4).map(tuple)),
    st.one_of(st.just(""), anything, written_by_servers),
    st.booleans(),
)


@settings(max_examples=1000, deadline=None)
@given(specs)
def test_a_spec_comes_back_from_metadata_as_it_was(spec):
    io = io_of(spec)
    assert spec_of(io) == spec
    (travelled,) = decode_metadata_response(encode_metadata_response(MetadataResponse(inputs=(io,)))).inputs
    assert spec_of(travelled) == spec


@settings(max_examples=500, deadline=None)
@given(specs)
def test_a_spec_comes_back_from_its_text_as_it_was(spec):
    assert TensorSpec.of(spec.name, spec.text) == replace(spec, description="")


@settings(max_examples=500, deadline=None)
@given(
    st.builds(
        IOMetadata,
        anything,
        st.one_of(anything, written_by_servers),
        st.lists(st.integers(-1, 70), max_size=3).map(tuple),
        st.sampled_from(Type),
    )
)
def test_whatever_others_write_its_fields_are_believed_first(io):
    spec = spec_of(io)
    again = io_of(spec)
    assert (again.name, again.shape, again.type) == (io.name, io.shape, io.type)
    assert spec_of(again) == spec
    assert spec.dtype == DTYPES[io.type] or (spec.dtype == BOOL and io.type is Type.UINT8)


@pytest.mark.parametrize(
    ("spec", "description"),
    [
        # What the fields say is not said twice.
        (TensorSpec("x", F4, (None, 64)), ""),
        (TensorSpec("x", F4, (), "a number"), "a number"),
        (TensorSpec("x", None, (3,), "who knows"), "who knows"),
        # What they cannot say is.
        (TensorSpec("x", F4, ("n", 64)), "float32[n, 64]"),
        (TensorSpec("x", F4, ("n", None), "an image"), "float32[n, ?]; an image"),
        (TensorSpec("x", BOOL, (None,)), "bool[?]"),
        (TensorSpec("x", F4), "float32"),
        (TensorSpec("x", TEXT, None, "words"), "string; words"),
        (TensorSpec("x"), "any"),
        (TensorSpec("x", repeated=True, description="as many as you like"), "any...; as many as you like"),
        (TensorSpec("x", F4, ("floor(h/2)",)), 'float32["floor(h/2)"]'),
        # Nor may words be read as a spec that they are not meant to be.
        (TensorSpec("x", F4, (), "float32"), "float32[]; float32"),
        (TensorSpec("x", F4, (), "of any shape"), "float32[]; of any shape"),
        # What does not travel is unknown.
        (TensorSpec("x", np.dtype("c8"), ("n",)), "any[n]"),
    ],
)
def test_what_is_written(spec, description):
    io = io_of(spec)
    assert io.description == description
    assert spec_of(io) == replace(spec, dtype=None if spec.dtype == np.dtype("c8") else spec.dtype)


@pytest.mark.parametrize(
    ("description", "shape", "kind", "spec"),
    [
        ("any shape", (), Type.FLOAT32, TensorSpec("x", F4)),
        ("an image; any shape", (), Type.NULL, TensorSpec("x", None, None, "an image")),
        ("takes any shape you like", (), Type.FLOAT32, TensorSpec("x", F4, None, "takes any shape you like")),
        ("any shape", (-1,), Type.FLOAT32, TensorSpec("x", F4, (None,), "any shape")),
        ("[n, ?, 3]", (-1, -1, 3), Type.FLOAT32, TensorSpec("x", F4, ("n", None, 3))),
        ("an image; [n]", (-1,), Type.FLOAT32, TensorSpec("x", F4, ("n",), "an image")),
        ("[n, 4]", (-1, 3), Type.FLOAT32, TensorSpec("x", F4, (None, 3), "[n, 4]")),
        ("[n]; bool, as 0 and 1", (-1,), Type.UINT8, TensorSpec("x", BOOL, ("n",))),
        ("bool, as 0 and 1", (3,), Type.INT8, TensorSpec("x", np.dtype("i1"), (3,), "bool, as 0 and 1")),
        (
            "any number of tensors, any shape, any type",
            (),
            Type.NULL,
            TensorSpec("x", None, None, "any number of tensors, any shape, any type", repeated=True),
        ),
    ],
)
def test_what_servers_wrote_before_there_was_a_grammar_is_understood(description, shape, kind, spec):
    assert spec_of(IOMetadata("x", description, shape, kind)) == spec


@pytest.mark.parametrize(
    ("description", "shape", "kind"),
    [
        ("float32[n]", (-1,), Type.FLOAT64),
        ("float32[n]", (-1, 3), Type.FLOAT32),
        ("float32[n, 4]", (-1, 3), Type.FLOAT32),
        ("float32[3]", (-1,), Type.FLOAT32),
        ("float32", (3,), Type.FLOAT32),
        ("bool[n]", (-1,), Type.INT8),
        ("any[n]", (-1,), Type.FLOAT32),
        ("floats[n]", (-1,), Type.FLOAT32),
        ("float32[n", (-1,), Type.FLOAT32),
        ("float32[n] of mine", (-1,), Type.FLOAT32),
        ("float32[n m]", (-1,), Type.FLOAT32),
        ('float32["n]', (-1,), Type.FLOAT32),
        ("float32[n]...x", (-1,), Type.FLOAT32),
    ],
)
def test_a_description_that_is_at_odds_with_its_fields_is_words(description, shape, kind):
    dims = tuple(dim if dim >= 0 else None for dim in shape)
    assert spec_of(IOMetadata("x", description, shape, kind)) == TensorSpec("x", DTYPES[kind], dims, description)


def test_the_longest_description_is_read_in_a_moment():
    for text in (
        "float32[" + "n" * 2**24,
        "float32[" + '"' * 2**23,
        "float32[" + '"a' * 2**22,
        "; " * 2**23,
        "any" * 2**22,
    ):
        began = time.perf_counter()
        spec_of(IOMetadata("x", text, (-1,), Type.FLOAT32))
        assert time.perf_counter() - began < 10
