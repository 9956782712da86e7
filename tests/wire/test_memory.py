"""The memory of layouts changes the time that decoding takes, and nothing else."""

import random
import struct
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.errors import MalformedMessage
from graphpipe.wire import (
    InferRequest,
    RequestHead,
    decode_infer_response,
    decode_request,
    encode_infer_response,
    encode_request,
)
from graphpipe.wire.memory import LayoutMemory
from tests.wire.messages_for_mutation import ARRAYS, FLOATS, REQUESTS, RESPONSES, damaged
from tests.wire.official import Manner, write_request
from tests.wire.strategies import array_of, manners, names, tensor_of, tensors, texts


def outcome(decode: Any, message: bytes, memory: LayoutMemory[Any]) -> object:
    """All that a caller can see of a decoding."""
    try:
        read = decode(message, memory)
    except MalformedMessage as error:
        return str(error)
    if isinstance(read, InferRequest):
        head = read.head
        return (
            [tensor_of(array) for array in read.inputs],
            (head.config, head.input_names, head.output_names, head.types, head.shapes),
        )
    return read if decode is decode_request else ([tensor_of(array) for array in read.outputs], read.errors)


def assert_same_as_cold(decode: Any, messages: list[bytes], warm: LayoutMemory[Any]) -> None:
    for message in messages:
        assert outcome(decode, message, warm) == outcome(decode, message, LayoutMemory())


@pytest.mark.parametrize("decode", [decode_request, decode_infer_response])
def test_damaged_messages_fare_the_same_with_a_warm_memory(decode):
    """20,000 of them, each after the message that it was made from."""
    rng = random.Random(64)
    warm: LayoutMemory[Any] = LayoutMemory()
    for original in (REQUESTS if decode is decode_request else RESPONSES).values():
        for _ in range(1800):
            assert_same_as_cold(decode, [original, damaged(original, rng)], warm)


def test_every_single_byte_matters_as_it_does_without_a_memory():
    original = REQUESTS["ours, several tensors"]
    warm: LayoutMemory[Any] = LayoutMemory()
    for at in range(len(original)):
        for value in (0, 1, original[at] ^ 1, 255):
            changed = bytearray(original)
            changed[at] = value
            assert_same_as_cold(decode_request, [original, bytes(changed)], warm)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(tensors(), max_size=3), names, names, texts), max_size=4), manners, st.randoms())
def test_any_sequence_of_messages_is_read_the_same_with_a_warm_memory(drawn, manner, rng):
    messages = [b"".join(encode_request([array_of(t) for t in d[0]], *d[1:])) for d in drawn]
    messages += [write_request(*d, manner) for d in drawn]
    messages += [damaged(message, rng) for message in messages]
    assert_same_as_cold(decode_request, [*messages, *rng.sample(messages, len(messages))], LayoutMemory())


def test_a_length_between_the_tensors_is_checked_each_time():
    original = bytearray(b"".join(encode_request([FLOATS, FLOATS])))
    memory: LayoutMemory[Any] = LayoutMemory()
    read = decode_request(original, memory)
    assert isinstance(read, InferRequest)
    second = original.rindex(struct.pack("<I", FLOATS.nbytes))
    assert second > original.index(FLOATS.tobytes())
    original[second] -= 4
    with pytest.raises(MalformedMessage, match="needs 24 bytes of data, but 20 came"):
        decode_request(original, memory)


def test_the_count_of_an_empty_vector_behind_the_data_is_checked_each_time():
    """It is no part of what stands before the data, and yet it says that there are no names."""
    original = write_request([tensor_of(FLOATS)], manner=Manner(config_last=True, data_first=True))
    assert original.endswith(bytes(8))  # the counts of both vectors of names
    for at in range(len(original)):
        memory: LayoutMemory[Any] = LayoutMemory()
        changed = bytearray(original)
        changed[at] ^= 1
        assert_same_as_cold(decode_request, [original, bytes(changed)], memory)


def heads_of(messages: list[bytes], memory: LayoutMemory[Any]) -> list[RequestHead]:
    decoded = [decode_request(message, memory) for message in messages]
    return [read.head for read in decoded if isinstance(read, InferRequest)]


def test_requests_that_differ_in_their_data_alone_share_one_head():
    memory: LayoutMemory[Any] = LayoutMemory()
    first, second = (b"".join(encode_request([FLOATS + i], ["x"])) for i in range(2))
    heads = heads_of([first, second, first], memory)
    assert len(set(map(id, heads))) == 1
    assert len(memory) == 1
    assert heads[0].is_remembered


def test_sizes_with_heads_of_several_lengths_do_not_evict_each_other():
    """As from clients of one model, of which some write long names."""
    memory: LayoutMemory[Any] = LayoutMemory()
    messages = []
    for names_bytes, floats in ((0, 48), (64, 32), (128, 16)):
        messages.append(b"".join(encode_request([np.zeros(floats, "f4")], ["n" * (names_bytes + 8)])))
    assert len(set(map(len, messages))) == 1
    first = heads_of(messages, memory)
    assert [id(head) for head in heads_of(messages * 2, memory)] == [id(head) for head in first * 2]


def test_a_stranger_cannot_fill_the_memory():
    memory: LayoutMemory[Any] = LayoutMemory()
    for i in range(1000):
        decode_request(b"".join(encode_request([np.zeros(i, "u1")], [str(i)])), memory)
    assert len(memory) <= 256
    many = b"".join(encode_request([np.zeros(1, "u1")] * 65))
    long = b"".join(encode_request([np.zeros(1, "u1")], ["n" * 5000]))
    for message in (many, long):
        before = len(memory)
        decode_request(message, memory)
        assert len(memory) == before


def test_heads_that_say_more_than_their_own_bytes_are_not_kept():
    """500 names that are all the same 2,000 bytes: legal in a long message, but a megabyte to remember."""
    count, length = 500, 2000
    message = bytearray(b"".join(encode_request([FLOATS], ["n" * length] + [""] * (count - 1))))
    vector = message.index(struct.pack("<I", count)) + 4
    target = vector + struct.unpack_from("<I", message, vector)[0]
    for at in range(vector, vector + 4 * count, 4):
        struct.pack_into("<I", message, at, target - at)
    message += bytes(count * length)
    memory: LayoutMemory[Any] = LayoutMemory()
    read = decode_request(message, memory)
    assert isinstance(read, InferRequest)
    assert read.head.input_names == ("n" * length,) * count
    assert not read.head.is_remembered
    assert len(memory) == 0


def test_threads_may_share_a_memory():
    memory: LayoutMemory[Any] = LayoutMemory()
    messages = [b"".join(encode_request([np.full(n, n, "f4")], [f"n{n}"])) for n in range(1, 400)]
    wrong: list[object] = []

    def read_all(seed: int) -> None:
        try:
            for message in random.Random(seed).sample(messages, len(messages)):
                read = decode_request(message, memory)
                assert isinstance(read, InferRequest)
                n = len(read.inputs[0])
                assert read.head.input_names == (f"n{n}",)
                assert (read.inputs[0] == n).all()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_answers_are_remembered_too():
    memory: LayoutMemory[Any] = LayoutMemory()
    for i in range(3):
        answer = decode_infer_response(b"".join(encode_infer_response([a + i for a in ARRAYS])), memory)
        np.testing.assert_array_equal(answer.outputs[0], FLOATS + i)
    assert len(memory) == 1
