"""The memory of layouts changes the time that decoding takes, and nothing else."""

import random
import struct
import threading
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.errors import MalformedMessage, Unsupported
from graphpipe.wire import (
    InferRequest,
    RequestHead,
    Type,
    decode_infer_response,
    decode_request,
    encode_infer_response,
    encode_request,
)
from graphpipe.wire.memory import LayoutMemory
from tests.wire.messages_for_mutation import ARRAYS, FLOATS, REQUESTS, RESPONSES, damaged
from tests.wire.official import (
    ORIGINAL_GO,
    ORIGINAL_PYTHON,
    Manner,
    Tensor,
    read_request,
    write_infer_response,
    write_request,
)
from tests.wire.strategies import array_of, manners, names, tensor_of, tensors, texts


def outcome(decode: Any, message: bytes, memory: LayoutMemory[Any]) -> object:
    """All that a caller can see of a decoding."""
    try:
        read = decode(message, memory)
    except (MalformedMessage, Unsupported) as error:
        return str(error)
    if isinstance(read, InferRequest):
        head = read.head
        return (
            [tensor_of(array) for array in read.inputs],
            (head.config, head.input_names, head.output_names, head.types, head.shapes, head.bools),
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


FOREIGN = {
    "ours, several tensors": REQUESTS["ours, several tensors"],
    "python's": write_request([tensor_of(a) for a in ARRAYS], ["a", "b"], ["y"], "config", ORIGINAL_PYTHON),
    "go's": write_request([tensor_of(a) for a in ARRAYS], ["a", "b"], ["y"], "config", ORIGINAL_GO),
    "data last": write_request([tensor_of(FLOATS)], ["a"], ["y"], "config", Manner(config_last=True, data_first=True)),
    "shared": write_request([tensor_of(FLOATS)] * 2, ["a", "a"], ["a"], "a", Manner(shared=True, gap=64)),
}


@pytest.mark.parametrize("original", FOREIGN.values(), ids=FOREIGN)
def test_every_single_byte_matters_as_it_does_without_a_memory(original):
    for at in range(len(original)):
        for value in (0, 1, original[at] ^ 1, 255):
            warm: LayoutMemory[Any] = LayoutMemory()
            changed = bytearray(original)
            changed[at] = value
            assert_same_as_cold(decode_request, [original, bytes(changed), original], warm)
            assert len(warm) >= 1, "nothing was remembered, so nothing was tried"


def test_a_foreign_writers_requests_share_one_head_if_they_differ_in_their_data_alone():
    for manner in (ORIGINAL_PYTHON, ORIGINAL_GO, Manner(), Manner(data="numpy", shared=True)):
        memory: LayoutMemory[Any] = LayoutMemory()
        messages = [write_request([tensor_of(a + i) for a in ARRAYS], ["x"], manner=manner) for i in range(3)]
        assert len(set(map(id, heads_of(messages, memory)))) == 1
        answers = [write_infer_response([tensor_of(a + i) for a in ARRAYS], [], ORIGINAL_GO) for i in range(3)]
        for answer, i in zip(answers, range(3), strict=True):
            read = decode_infer_response(answer, memory)
            assert [tensor_of(array) for array in read.outputs] == [tensor_of(a + i) for a in ARRAYS]
        assert len(memory) == 2


@settings(max_examples=150, deadline=None)
@given(st.lists(tensors(), max_size=4), names, names, texts, manners, st.booleans(), st.data())
def test_what_an_official_writer_wrote_is_read_the_same_by_memory_afresh_and_by_official_classes(
    drawn, input_names, output_names, config, manner, shared, data
):
    manner = replace(manner, shared=shared)
    message = write_request(drawn, input_names, output_names, config, manner)
    warm: LayoutMemory[Any] = LayoutMemory()
    afresh = outcome(decode_request, message, LayoutMemory())
    assert [outcome(decode_request, message, warm) for _ in range(2)] == [afresh] * 2
    if isinstance(afresh, str):
        # The one thing that official writers may do and we refuse: to say more than the message has bytes.
        assert manner.shared
        assert "claim more bytes" in afresh
        return
    read = read_request(message, absent_ok=True)
    assert read is not None
    assert afresh[0] == read.tensors
    assert afresh[1][:3] == (read.config, tuple(read.input_names), tuple(read.output_names))
    if len(warm):
        at = data.draw(st.integers(0, len(message) - 1))
        changed = bytearray(message)
        changed[at] ^= data.draw(st.integers(1, 255))
        assert_same_as_cold(decode_request, [bytes(changed)], warm)


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
    for i in range(2000):
        decode_request(b"".join(encode_request([np.zeros(i, "u1")], [str(i)])), memory)
    assert len(memory) <= 256
    many = b"".join(encode_request([np.zeros(1, "u1")] * 65))
    long = b"".join(encode_request([np.zeros(1, "u1")], ["n" * 9000]))
    behind = write_request([tensor_of(FLOATS)], ["n" * 9000])
    for message in (many, long, behind):
        memory = LayoutMemory()
        decode_request(message, memory)
        assert len(memory) == 0


def test_all_that_is_remembered_takes_little_memory_whoever_chose_the_messages():
    """Names of two letters, as many as are remembered: each is an object of its own."""
    memory: LayoutMemory[Any] = LayoutMemory()
    request = b"".join(encode_request([FLOATS], [f"{n % 90:02}" for n in range(500)]))
    messages = [request + bytes(i) for i in range(300)]
    tracemalloc.start()
    for message in messages:
        decode_request(message, memory)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(memory) == 256
    assert held < 16 << 20


def newcomers(count: int, size: int = 0) -> list[bytes]:
    """Requests that nobody sent before; of ``size`` bytes with their data at places of their own, or of any size."""
    if not size:
        return [b"".join(encode_request([np.zeros(1, "u1")], [f"newcomer {i}"])) for i in range(count)]
    made = []
    for i in range(count):
        # The further behind the data, the less of it.
        message = bytearray(b"".join(encode_request([np.zeros(8 + i, "u1")])))
        made.append(bytes(message + bytes(size - len(message))))
    return made


def test_newcomers_do_not_drive_out_what_is_in_use():
    """However many come, as long as there are not a thousand between two uses of what was used more than once."""
    memory: LayoutMemory[Any] = LayoutMemory()
    good = [b"".join(encode_request([np.zeros(n, "f4")], [f"good {n}"])) for n in range(20)]
    heads = heads_of(good * 2, memory)[:20]
    strangers = newcomers(6000)
    for begin in range(0, len(strangers), 900):
        heads_of(strangers[begin : begin + 900], memory)
        assert [id(head) for head in heads_of(good, memory)] == [id(head) for head in heads]
    assert len(memory) <= 256


def test_newcomers_of_the_same_size_do_not_drive_out_what_is_in_use_either():
    memory: LayoutMemory[Any] = LayoutMemory()
    good = b"".join(encode_request([np.zeros(100, "f4")], ["good"]))
    (head,) = heads_of([good], memory)
    for stranger in newcomers(200, len(good)):
        heads_of([stranger] * 2, memory)
        assert heads_of([good], memory) == [head]
    assert len(memory) <= 4


def test_what_is_out_of_use_makes_room():
    memory: LayoutMemory[Any] = LayoutMemory()
    for size in (0, 600):
        for stranger in newcomers(300, size):
            decode_request(stranger, memory)
        late = b"".join(encode_request([np.zeros(100, "f4")], ["late"]))
        late += bytes(max(0, size - len(late)))
        for _ in range(3000):
            head = heads_of([late], memory)[0]
            if head.is_remembered:
                break
        assert head.is_remembered
        assert heads_of([late], memory) == [head]


def test_a_tensor_over_a_table_or_a_name_is_not_remembered():
    """Its bytes may differ in the next message, and then say something else."""
    original = write_request([Tensor(Type.UINT8, (8,), bytes(8))], ["a name"], ["y"], "config")
    data = original.rindex(struct.pack("<I", 8) + bytes(8))
    offset = next(at for at in range(0, data, 4) if at + struct.unpack_from("<I", original, at)[0] == data)
    moved = 0
    for target in range(4, len(original) - 12, 4):
        message = bytearray(original)
        struct.pack_into("<I", message, target, 8)  # as if a vector of eight bytes began here
        if target <= offset:
            continue
        struct.pack_into("<I", message, offset, target - offset)
        for at in range(target + 4, target + 12):
            warm: LayoutMemory[Any] = LayoutMemory()
            changed = bytearray(message)
            changed[at] ^= 1
            assert_same_as_cold(decode_request, [bytes(message), bytes(changed)], warm)
        moved += 1
    assert moved > 10


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
