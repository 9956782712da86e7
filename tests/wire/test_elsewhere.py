"""A tensor whose bytes lie elsewhere is the same tensor, and what does not fit together is refused."""

from __future__ import annotations

import mmap
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge, Unsupported
from graphpipe.wire import (
    ErrorInfo,
    InferRequest,
    MetadataRequest,
    RequestHead,
    decode_infer_response,
    decode_request,
    encode_infer_response,
    encode_request,
    recall_request,
)
from graphpipe.wire.memory import LayoutMemory
from graphpipe.wire.messages import encode_metadata_request
from tests.wire import official
from tests.wire.messages_for_mutation import damaged
from tests.wire.strategies import array_of, names, tensor_of, tensors, texts

Array = np.ndarray[Any, Any]

lists_of_tensors = st.lists(tensors(), min_size=1, max_size=4)


def bytes_of(array: Array) -> memoryview:
    return memoryview(array.tobytes())


@st.composite
def split(draw: st.DrawFn) -> tuple[list[Array], dict[int, memoryview]]:
    """Arrays, and the bytes of those of numbers that are to be elsewhere."""
    arrays = [array_of(tensor) for tensor in draw(lists_of_tensors)]
    able = [i for i, array in enumerate(arrays) if array.dtype.kind != "O"]
    chosen = draw(st.sets(st.sampled_from(able))) if able else set()
    return arrays, {i: bytes_of(arrays[i]) for i in chosen}


def same(got: list[Array], wanted: list[Array]) -> None:
    assert [tensor_of(array) for array in got] == [tensor_of(array) for array in wanted]


def request(message: bytes, elsewhere: dict[int, memoryview] | None = None) -> InferRequest:
    read = decode_request(message, elsewhere=elsewhere)
    assert isinstance(read, InferRequest)
    return read


@given(split(), names, names, texts)
def test_a_request_says_the_same_with_tensors_elsewhere_and_without(case, input_names, output_names, config):
    arrays, elsewhere = case
    plain = b"".join(encode_request(arrays, input_names, output_names, config))
    apart = b"".join(encode_request(arrays, input_names, output_names, config, elsewhere=elsewhere.keys()))
    # Twice, since the second time the layout may be known.
    for _ in range(2):
        got, wanted = request(apart, elsewhere), request(plain)
        same(got.inputs, arrays)
        same(wanted.inputs, arrays)
        for part in ("config", "input_names", "output_names", "types", "shapes", "bools"):
            assert getattr(got.head, part) == getattr(wanted.head, part)


@given(split(), st.lists(st.builds(ErrorInfo, st.integers(0, 9), texts), max_size=2))
def test_an_answer_says_the_same_with_tensors_elsewhere_and_without(case, errors):
    arrays, elsewhere = case
    apart = b"".join(encode_infer_response(arrays, errors, elsewhere=elsewhere.keys()))
    for _ in range(2):
        got = decode_infer_response(apart, elsewhere=elsewhere)
        same(got.outputs, arrays)
        assert got.errors == errors


@given(split())
def test_without_the_word_such_a_message_is_malformed_however_often_it_came_with_it(case):
    arrays, elsewhere = case
    absent = [i for i in elsewhere if arrays[i].size]
    message = b"".join(encode_request(arrays, elsewhere=elsewhere.keys()))
    answer = b"".join(encode_infer_response(arrays, elsewhere=elsewhere.keys()))
    request(message, elsewhere)
    decode_infer_response(answer, elsewhere=elsewhere)
    if not absent:
        return
    assert recall_request(message) is None
    for given_bytes in (None, {}, {i: data for i, data in elsewhere.items() if i != absent[0]}):
        with pytest.raises(MalformedMessage):
            decode_request(message, elsewhere=given_bytes)
        with pytest.raises(MalformedMessage):
            decode_infer_response(answer, elsewhere=given_bytes)


@given(split(), st.integers(-3, 3), st.integers(0, 7))
def test_another_number_of_bytes_is_refused(case, more, which):
    arrays, elsewhere = case
    if not elsewhere or not more:
        return
    i = sorted(elsewhere)[which % len(elsewhere)]
    size = max(0, len(elsewhere[i]) + more)
    if size == len(elsewhere[i]):
        return
    message = b"".join(encode_request(arrays, elsewhere=elsewhere.keys()))
    answer = b"".join(encode_infer_response(arrays, elsewhere=elsewhere.keys()))
    for known in (False, True):
        if known:
            request(message, elsewhere)
            decode_infer_response(answer, elsewhere=elsewhere)
        wrong = elsewhere | {i: memoryview(bytes(size))}
        with pytest.raises(MalformedMessage, match=f"tensor {i} of shape .* came beside the message"):
            decode_request(message, elsewhere=wrong)
        with pytest.raises(MalformedMessage, match=f"tensor {i} of shape .* came beside the message"):
            decode_infer_response(answer, elsewhere=wrong)


@given(split(), st.sampled_from([-1, 4, 5, 64, 1 << 40]))
def test_bytes_of_no_tensor_are_refused(case, index):
    arrays, elsewhere = case
    message = b"".join(encode_request(arrays, elsewhere=elsewhere.keys()))
    answer = b"".join(encode_infer_response(arrays, elsewhere=elsewhere.keys()))
    for known in (False, True):
        if known:
            request(message, elsewhere)
            decode_infer_response(answer, elsewhere=elsewhere)
        wrong = elsewhere | {index: memoryview(b"")}
        with pytest.raises(MalformedMessage, match=f"bytes of tensor {index} came"):
            decode_request(message, elsewhere=wrong)
        with pytest.raises(MalformedMessage, match=f"bytes of tensor {index} came"):
            decode_infer_response(answer, elsewhere=wrong)


@given(lists_of_tensors.map(lambda drawn: [array_of(tensor) for tensor in drawn]))
def test_bytes_that_come_both_ways_are_refused(arrays):
    """A reader who took one of them would see what another reader does not."""
    numbers = [i for i, array in enumerate(arrays) if array.dtype.kind != "O" and array.size]
    if not numbers:
        return
    message = b"".join(encode_request(arrays))
    answer = b"".join(encode_infer_response(arrays))
    both = {numbers[0]: bytes_of(arrays[numbers[0]])}
    for _ in range(2):
        with pytest.raises(MalformedMessage, match="in it too"):
            decode_request(message, elsewhere=both)
        with pytest.raises(MalformedMessage, match="in it too"):
            decode_infer_response(answer, elsewhere=both)
        request(message)
        decode_infer_response(answer)


def test_strings_are_never_elsewhere():
    strings = np.array([b"a", b"b"], object)
    with pytest.raises(InvalidRequest, match="tensor 1 has strings"):
        encode_request([np.zeros(2), strings], elsewhere={1})
    with pytest.raises(InvalidRequest, match="tensor 0 has strings"):
        encode_infer_response([strings], elsewhere={0})
    for array in (strings, strings[:0]):
        for data in (b"", b"ab", bytes(16)):
            with pytest.raises(MalformedMessage, match="string"):
                decode_request(b"".join(encode_request([array])), elsewhere={0: memoryview(data)})
            with pytest.raises(MalformedMessage, match="string"):
                decode_infer_response(b"".join(encode_infer_response([array])), elsewhere={0: memoryview(data)})


def test_a_tensor_that_is_not_there_cannot_be_elsewhere():
    for index in (-1, 1, 9):
        with pytest.raises(InvalidRequest, match=f"tensor {index} is to be elsewhere, but the message has 1"):
            encode_request([np.zeros(2)], elsewhere={index})


def test_what_no_message_could_hold_is_not_elsewhere_either():
    huge = np.frombuffer(mmap.mmap(-1, 1 << 31), np.uint8)  # addresses, which nobody touches
    with pytest.raises(TooLarge, match="tensor 0 has 2147483648 bytes"):
        encode_request([huge], elsewhere={0})


def test_the_message_is_small_however_large_its_tensors_are():
    array = np.zeros((1000, 1000), np.float32)
    assert sum(map(len, encode_request([array], ["x"], elsewhere={0}))) < 200
    assert sum(map(len, encode_infer_response([array], elsewhere={0}))) < 200


def test_arrays_borrow_the_memory_they_lie_in():
    memory = bytearray(24)
    message = b"".join(encode_request([np.zeros(3), np.zeros(2, "f4")], elsewhere={0}))
    for _ in range(2):
        got = request(message, {0: memoryview(memory)}).inputs[0]
        assert got.flags.writeable
        got[1] = 7
        assert np.frombuffer(memory, np.float64)[1] == 7
        assert not request(message, {0: memoryview(memory).toreadonly()}).inputs[0].flags.writeable


def test_a_layout_is_remembered_and_not_taken_for_one_with_other_tensors_elsewhere():
    memory: LayoutMemory[RequestHead] = LayoutMemory()  # of its own: the process's may be full
    first, second = np.arange(4.0), np.arange(4, 8.0)
    messages = {
        away: b"".join(encode_request([first, second], elsewhere=away))
        for away in (frozenset({0}), frozenset({1}), frozenset({0, 1}))
    }
    data = {0: bytes_of(first), 1: bytes_of(second)}
    for _ in range(3):
        for away, message in messages.items():
            got = decode_request(message, memory, elsewhere={i: data[i] for i in away})
            assert isinstance(got, InferRequest)
            same(got.inputs, [first, second])
            for others in messages:
                if others != away:
                    with pytest.raises(MalformedMessage):
                        decode_request(message, memory, elsewhere={i: data[i] for i in others})
    heads = []
    for _ in range(2):
        got = decode_request(messages[frozenset({0})], memory, elsewhere={0: data[0]})
        assert isinstance(got, InferRequest)
        heads.append(got.head)
    assert heads[0] is heads[1]
    assert heads[0].is_remembered


@given(tensors())
def test_a_message_of_the_official_library_may_have_its_bytes_elsewhere(tensor):
    if not isinstance(tensor.data, bytes):
        return
    empty = official.Tensor(tensor.type, tensor.shape, b"")
    read = request(bytes(official.write_request([empty], ["x"])), {0: memoryview(tensor.data)})
    assert tensor_of(read.inputs[0]) == tensor


def test_a_question_for_metadata_has_no_tensors():
    assert isinstance(decode_request(encode_metadata_request(), elsewhere={}), MetadataRequest)


def test_damaged_messages_are_read_or_refused_whatever_comes_beside_them():
    """And nothing is made of more bytes than came, in the message and beside it."""
    rng = random.Random(19)
    arrays = [
        np.arange(6, dtype="f4").reshape(2, 3),
        np.arange(3, dtype="u1"),
        np.array([b"ab", b""], object),
        np.float64(2.5),
    ]
    data = {i: bytes_of(np.asarray(arrays[i])) for i in (0, 1, 3)}
    seeds = []
    for away in ({0}, {1, 3}, {0, 1, 3}):
        kept = {i: data[i] for i in away}
        seeds.append((decode_request, b"".join(encode_request(arrays, ["a", "b"], elsewhere=away)), kept))
        seeds.append((decode_infer_response, b"".join(encode_infer_response(arrays, elsewhere=away)), kept))
    taken = 0
    for _ in range(10_000):
        decode, message, kept = rng.choice(seeds)
        message = damaged(message, rng)
        if rng.random() < 0.2:
            kept = {i: data[i][: rng.randrange(30)] for i in rng.sample(sorted(data), rng.randrange(4))}
        try:
            read = decode(message, elsewhere=kept)
        except (MalformedMessage, Unsupported):
            continue
        taken += 1
        got = read.inputs if isinstance(read, InferRequest) else getattr(read, "outputs", [])
        size = sum(sum(map(len, a.ravel().tolist())) if a.dtype.kind == "O" else a.nbytes for a in got)
        assert size <= len(message) + sum(map(len, kept.values()))
    assert 1000 < taken < 9_500
