"""Arrays as users hold them: any layout of memory is sent correctly, and nothing is copied that need not be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe import arrays
from graphpipe.errors import InvalidRequest
from graphpipe.wire import InferRequest, Type, decode_request, encode_infer_response, encode_request
from tests.wire import official
from tests.wire.official import Tensor
from tests.wire.strategies import NUMERIC, array_of, memory_layouts, tensors

many = settings(max_examples=200, deadline=None)


def sent(array: object) -> Tensor:
    """What the official classes find in a request with this array."""
    read = official.read_request(b"".join(encode_request([array])))
    assert read is not None
    (tensor,) = read.tensors
    return tensor


@many
@given(memory_layouts())
def test_any_layout_of_memory_is_sent_as_its_elements(drawn):
    array, expected = drawn
    assert sent(array) == expected


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(2, 0, 1),
        np.asfortranarray(np.arange(12, dtype="f8").reshape(3, 4)),
        np.arange(10, dtype=">i4"),
        np.arange(10, dtype="i2")[::-1],
        np.arange(20, dtype="u8")[::3],
        np.broadcast_to(np.float32(1.5), (3, 2)),
        np.float16(2.5),
        np.array(7, "i8"),
        np.zeros((0, 3), "f4"),
    ],
    ids=["transposed", "fortran", "big-endian", "backwards", "strided", "broadcast", "number", "0-d", "empty"],
)
def test_an_array_arrives_equal(array):
    read = decode_request(b"".join(encode_request([array])))
    assert isinstance(read, InferRequest)
    np.testing.assert_array_equal(read.inputs[0], array)
    assert read.inputs[0].shape == np.shape(array)


def test_bool_travels_as_zeros_and_ones():
    assert sent(np.array([[True, False], [False, True]])) == Tensor(Type.UINT8, (2, 2), b"\1\0\0\1")


@pytest.mark.parametrize(("kind", "dtype"), [*NUMERIC, (Type.UINT8, np.dtype(bool))])
def test_a_contiguous_array_is_never_copied(kind, dtype):
    array = np.ones((3, 5), dtype)
    array.flags.writeable = False
    for segments in (encode_request([array]), encode_infer_response([array])):
        assert np.shares_memory(array, np.frombuffer(segments[-1], np.uint8))
        assert segments[-1].nbytes == array.nbytes


def test_each_of_several_arrays_is_its_own_segment():
    arrays = [np.ones(n, "f4") for n in (1, 17, 0, 33)]
    segments = encode_request(arrays, ["a", "b", "c", "d"])
    for array in arrays:
        if array.size:
            assert any(np.shares_memory(array, np.frombuffer(segment, np.uint8)) for segment in segments)


@many
@given(st.lists(tensors(), min_size=1, max_size=5), st.text(max_size=20))
def test_every_numeric_tensor_starts_at_a_multiple_of_64(inputs, config):
    message = np.frombuffer(bytearray(b"".join(encode_request([array_of(t) for t in inputs], ["x"], [], config))), "u1")
    read = decode_request(message.data)
    assert isinstance(read, InferRequest)
    base = message.ctypes.data
    for array in read.inputs:
        if array.dtype.kind != "O" and array.size:
            assert (array.ctypes.data - base) % 64 == 0


def test_decoded_arrays_borrow_the_message_and_are_writable_if_it_is():
    array = np.arange(6, dtype="f4").reshape(2, 3)
    body = bytearray(b"".join(encode_request([array])))
    for message, writable in ((memoryview(body), True), (memoryview(body).toreadonly(), False), (bytes(body), False)):
        read = decode_request(message)
        assert isinstance(read, InferRequest)
        assert read.inputs[0].flags.writeable == writable
        assert np.shares_memory(read.inputs[0], np.frombuffer(message, np.uint8))


@pytest.mark.parametrize(
    ("array", "data"),
    [
        (np.array(["a", "ü"]), [b"a", "ü".encode()]),
        (np.array([b"a\0b", b"cd\0"]), [b"a\0b", b"cd"]),  # numpy's own S type drops trailing NULs before we see it
        (np.array(["a", b"\xff", np.str_("s"), np.bytes_(b"b"), bytearray(b"c"), memoryview(b"d")], object), None),
        (["x", "yy"], [b"x", b"yy"]),
        (np.array([["a", "b"], ["c", "d"]], object).T, [b"a", b"c", b"b", b"d"]),
        (np.array("", object), [b""]),
        (np.zeros((2, 0), object), []),
        (np.array(["lone \udcff surrogate"], object), [b"lone \xff surrogate"]),
    ],
)
def test_text_is_sent_as_its_bytes(array, data):
    expected = [b"a", b"\xff", b"s", b"b", b"c", b"d"] if data is None else data
    assert sent(array) == Tensor(Type.STRING, np.shape(array), expected)


def test_bfloat16_is_refused_with_the_way_out():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(InvalidRequest, match="'x' is bfloat16, which has no type on the wire; send it as float32"):
        encode_request([np.zeros(3, ml_dtypes.bfloat16)], ["x"])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(2, "c8"), "input 0 has dtype complex64, which does not travel; .*two tensors"),
        (np.zeros(2, "M8[s]"), r"dtype datetime64\[s\], which does not travel; these do: bool, .*; convert it first"),
        (np.zeros(2, "m8[s]"), "timedelta64.*does not travel"),
        (np.zeros(2, [("a", "f4")]), "which does not travel"),
        (np.zeros(2, "V3"), "which does not travel"),
        (np.zeros(2, "f16"), "which does not travel"),
        (
            np.array([None], object),
            "input 0 is an object array with an element of type NoneType; only str and bytes travel",
        ),
        (np.array([1, "a"], object), "an element of type int"),
        (np.array(["\ud800"], object), "input 0 holds text that has no UTF-8 form: .*; send it as bytes"),
        ([[1], [1, 2]], "input 0 is no array"),
        (np.zeros((1,) * 33, "f4"), "33 dimensions; at most 32 travel"),
    ],
    ids=[
        "complex",
        "datetime",
        "timedelta",
        "struct",
        "void",
        "longdouble",
        "none",
        "mixed",
        "surrogate",
        "ragged",
        "33 axes",
    ],
)
def test_what_does_not_travel_is_refused_in_words(array, words):
    with pytest.raises(InvalidRequest, match=words):
        encode_request([array])


def test_a_refusal_names_the_tensor():
    with pytest.raises(InvalidRequest, match="'mask' has dtype complex64"):
        encode_request([np.zeros(1, "f4"), np.zeros(1, "c8")], ["image", "mask"])
    with pytest.raises(InvalidRequest, match="output 0 has dtype complex64"):
        encode_infer_response([np.zeros(1, "c8")])


@pytest.mark.parametrize("value", [["a", b"\xff"], [b"\xff", "é"], [["a"], [b"\xff\x00"]]], ids=repr)
def test_text_and_bytes_beside_one_another_are_each_what_they_are(value):
    assert arrays.array_of(value, "'x'").tolist() == value
