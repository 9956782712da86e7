"""Whatever bytes come in, there is a message or a refusal: no other error, no wrong content, not much memory.

A refusal is MalformedMessage, or Unsupported for a kind of request that a later schema may have.
"""

import contextlib
import random
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge, Unsupported
from graphpipe.wire import (
    ErrorInfo,
    InferRequest,
    InferResponse,
    IOMetadata,
    MetadataResponse,
    Type,
    decode_infer_response,
    decode_metadata_response,
    decode_request,
    encode_metadata_response,
    encode_request,
)
from graphpipe.wire.describe import spec_of
from tests.wire import official
from tests.wire.messages_for_mutation import FLOATS, REQUESTS, SEEDS, STRINGS, damaged
from tests.wire.official import Manner, Tensor
from tests.wire.strategies import tensor_of

MIB = 1 << 20


def request(*tensors: Tensor, names: tuple[str, ...] = ()) -> bytearray:
    return bytearray(official.write_request(tensors, names))


def refused(message: bytes | bytearray, words: str) -> None:
    with pytest.raises(MalformedMessage, match=words):
        decode_request(message)


def place(message: bytes | bytearray, vector: bytes) -> int:
    """Where the elements of this vector stand, which occur once."""
    assert message.count(vector) == 1
    return message.index(vector)


def said(read: Any) -> int:
    """The bytes of everything that a decoded message says."""
    if isinstance(read, InferRequest | InferResponse):
        arrays = read.inputs if isinstance(read, InferRequest) else read.outputs
        total = sum(sum(map(len, a.ravel().tolist())) if a.dtype.kind == "O" else len(a.tobytes()) for a in arrays)
        if isinstance(read, InferResponse):
            return total + sum(len(error.message.encode()) for error in read.errors)
        texts = (read.head.config, *read.head.input_names, *read.head.output_names)
        return total + sum(len(text.encode()) for text in texts)
    if isinstance(read, MetadataResponse):
        texts = [read.name, read.version, read.server, read.description]
        texts += [text for io in (*read.inputs, *read.outputs) for text in (io.name, io.description)]
        return sum(len(text.encode()) for text in texts)
    return 0


# --- in bulk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_damaged_messages_are_read_or_refused_and_never_stand_for_more_than_their_bytes(seed):
    """120,000 in all."""
    rng = random.Random(2018 + seed)
    taken = 0
    for _ in range(30_000):
        decode, original = rng.choice(SEEDS)
        message = damaged(original, rng)
        try:
            read = decode(message)
        except (MalformedMessage, Unsupported):
            continue
        taken += 1
        assert said(read) <= len(message)
    assert 1000 < taken < 29_000


def test_a_damaged_request_that_is_taken_means_what_the_official_classes_read():
    rng = random.Random(8)
    for _ in range(6000):
        message = damaged(rng.choice(list(REQUESTS.values())), rng)
        try:
            read = decode_request(message)
        except (MalformedMessage, Unsupported):
            continue
        theirs = official.read_request(message, absent_ok=True)
        if not isinstance(read, InferRequest):
            assert theirs is None
            continue
        head = read.head
        ours = (head.config, list(head.input_names), list(head.output_names), [tensor_of(a) for a in read.inputs])
        assert theirs == ours


@pytest.mark.parametrize(("decode", "message"), SEEDS)
def test_a_message_cut_off_at_any_byte_is_refused_or_whole(decode, message):
    whole = said(decode(message))
    for length in range(len(message)):
        try:
            read = decode(message[:length])
        except (MalformedMessage, Unsupported):
            continue
        assert said(read) == whole  # only padding was cut off
        assert length >= len(message) - 8


@pytest.mark.parametrize(("decode", "message"), SEEDS)
def test_random_bytes_are_refused(decode, message):
    rng = random.Random(1)
    for _ in range(500):
        with pytest.raises(MalformedMessage):
            decode(bytes((rng.randbytes(4)[0] | 1,)) + rng.randbytes(len(message)))  # an odd root offset


@pytest.mark.parametrize("decode", [decode_request, decode_infer_response, decode_metadata_response])
@pytest.mark.parametrize(
    "message", [b"", b"\0", bytes(7), bytes(8), bytes(64), b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_message_at_all_is_refused(decode, message):
    with pytest.raises(MalformedMessage):
        decode(message)


# --- one by one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 2), None),
        ((6,), None),
        ((1, 6, 1), None),
        ((2, 2), "shape \\[2, 2\\] and 4-byte elements needs 16 bytes of data, but 24 came"),
        ((7,), "needs 28 bytes of data, but 24 came"),
        ((), "shape \\[\\] .* needs 4 bytes of data, but 24 came"),
        ((0,), "needs 0 bytes of data, but 24 came"),
        ((-1, -6), "shape \\[-1, -6\\]; dimensions are 0 or more"),
        ((-(2**63),), "dimensions are 0 or more"),
        ((2**62, 4), "reaches 2 GiB"),
        ((2**32, 2**32), "reaches 2 GiB"),
        ((0, 2**62), "reaches 2 GiB"),
        ((2**29,), "reaches 2 GiB"),
        ((2**29 - 1,), "needs 2147483644 bytes of data, but 24 came"),
        ((6,) + (1,) * 31, None),
        ((6,) + (1,) * 32, "a tensor has 33 dimensions; at most 32 are taken"),
    ],
)
def test_a_shape_is_taken_only_if_it_fits_the_data(shape, words):
    message = request(Tensor(10, shape, FLOATS.tobytes()))
    if words is None:
        read = decode_request(message)
        assert isinstance(read, InferRequest)
        assert read.inputs[0].shape == shape
    else:
        refused(message, words)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3,), "shape asks for 3 elements, but string_val has 4"),
        ((0, 2**62), "reaches 2 GiB"),
        ((2**29,), "reaches 2 GiB"),
        ((2**29 - 1,), "asks for 536870911 elements, but string_val has 4"),
    ],
)
def test_a_shape_is_taken_only_if_it_fits_the_strings(shape, words):
    refused(request(Tensor(12, shape, STRINGS.tolist())), words)


@pytest.mark.parametrize("number", [0, 13, 255])
def test_a_type_without_elements_is_refused(number):
    refused(request(Tensor(number, (1,), b"\0")), f"a tensor has type {number}, which has no elements; types are 1")


def test_an_unknown_kind_of_request_is_refused():
    message = bytearray(official.write_metadata_request())
    kind = message.index(b"\2", 12)
    message[kind] = 0
    refused(message, "this one holds kind 0")
    for value in (3, 255):
        message[kind] = value
        with pytest.raises(Unsupported, match=f"this one is of {value}") as raised:
            decode_request(message)
        assert (raised.value.code, raised.value.http_status) == (11, 501)


def test_a_later_type_in_metadata_is_null_and_its_number_is_kept():
    for number in (13, 255):
        message = official.write_metadata_response(MetadataResponse("m", inputs=(IOMetadata("x", type=number),)))
        (one,) = decode_metadata_response(message).inputs
        assert (one.type, one.type_number) == (Type.NULL, number)
        assert spec_of(one).dtype is None
        (again,) = decode_metadata_response(encode_metadata_response(MetadataResponse("m", inputs=(one,)))).inputs
        assert (again.type, again.type_number) == (Type.NULL, 0), "it is never sent"


def test_names_that_are_not_utf8_are_refused():
    message = request(tensor_of(FLOATS), names=("name",))
    message[place(message, b"name")] = 0xFF
    refused(message, "input_names is not UTF-8")


def test_offsets_that_point_at_themselves_or_outside_are_refused():
    message = request(tensor_of(FLOATS), names=("name",))
    table = struct.unpack_from("<I", message)[0]
    fields = [at for at in range(table, len(message) - 3, 4) if struct.unpack_from("<I", message, at)[0]]
    for value in (0, len(message), 0x7FFF_FFFF, 0xFFFF_FFFF):
        changed = bytearray(message)
        name = place(changed, b"name")
        (vector,) = (at for at in fields if at + struct.unpack_from("<I", message, at)[0] == name - 4)
        struct.pack_into("<I", changed, vector, value)
        refused(changed, "points at itself or outside the message")


def test_tables_and_vtables_must_be_aligned_and_inside():
    message = bytes(request(tensor_of(FLOATS)))
    root = struct.unpack_from("<I", message)[0]
    for position, words in (
        (root + 1, "misaligned"),
        (root + 2, "misaligned"),
        (len(message), "outside"),
        (0, "vtable"),
    ):
        refused(struct.pack("<I", position) + message[4:], words)
    for back in (root + 4, -len(message), 1, 3):
        changed = bytearray(message)
        struct.pack_into("<i", changed, root, back)
        refused(changed, "vtable")
    vtable = root - struct.unpack_from("<i", message, root)[0]
    for vtable_size, table_size in ((0, 8), (3, 8), (5, 8), (0xFFFE, 8), (8, 0), (8, 3), (8, 0xFFFF)):
        changed = bytearray(message)
        struct.pack_into("<HH", changed, vtable, vtable_size, table_size)
        refused(changed, "impossible size")
    for slot in (1, 3, 0xFFFF):
        changed = bytearray(message)
        struct.pack_into("<H", changed, vtable + 4, slot)
        refused(changed, "lies outside the table")


class Layout:
    """A message put together by hand, with a tensor whose parts stand wherever a test wants them."""

    def __init__(self) -> None:
        self.bytes = bytearray(4)

    def vtable(self, table_size: int, *slots: int) -> int:
        self.bytes += bytes(-len(self.bytes) % 2)
        at = len(self.bytes)
        self.bytes += struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), table_size, *slots)
        return at

    def table(self, vtable: int, size: int) -> int:
        self.bytes += bytes(-len(self.bytes) % 4)
        at = len(self.bytes)
        self.bytes += struct.pack("<i", at - vtable) + bytes(size - 4)
        return at

    def point(self, field: int, target: int) -> None:
        struct.pack_into("<I", self.bytes, field, target - field)

    def vector(self, count: int, elements: bytes, remainder: int = 0) -> int:
        """A vector whose count stands at ``remainder`` modulo 8."""
        self.bytes += bytes((remainder - len(self.bytes)) % 8)
        at = len(self.bytes)
        self.bytes += struct.pack("<I", count) + elements
        return at

    def response(self, tensors: int, offsets_remainder: int = 0) -> list[int]:
        """The root of an answer with this many tensors; gives the offsets to them."""
        root = self.table(self.vtable(8, 4), 8)
        self.point(0, root)
        vector = self.vector(tensors, bytes(4 * tensors), offsets_remainder)
        self.point(root + 4, vector)
        return [vector + 4 + 4 * i for i in range(tensors)]

    def tensor(self, offset: int, kind: int) -> int:
        """A tensor's table: shape at 4, data at 8 or string_val at 12, which wait for their targets."""
        table = self.table(self.vtable(20, 16, 4, 0, 12) if kind == 12 else self.vtable(20, 16, 4, 8), 20)
        self.point(offset, table)
        self.bytes[table + 16] = kind
        return table


@pytest.mark.parametrize("remainder", range(8))
def test_shapes_data_and_strings_may_start_anywhere(remainder):
    layout = Layout()
    first, second = layout.response(2)
    for place_of_tensor, kind in ((first, 10), (second, 12)):
        table = layout.tensor(place_of_tensor, kind)
        layout.point(table + 4, layout.vector(2, struct.pack("<2q", 2, 1), remainder))
        if kind == 10:
            layout.point(table + 8, layout.vector(8, struct.pack("<2f", 1.5, 2.5), remainder))
        else:
            strings = layout.vector(2, bytes(8))
            layout.point(table + 12, strings)
            for i, text in enumerate((b"ab", b"c")):
                layout.point(strings + 4 + 4 * i, layout.vector(len(text), text, remainder))
    answer = decode_infer_response(layout.bytes)
    assert answer.outputs[0].tolist() == [[1.5], [2.5]]
    assert answer.outputs[1].tolist() == [[b"ab"], [b"c"]]


@pytest.mark.parametrize("remainder", [1, 2, 3])
def test_vectors_of_offsets_must_be_aligned(remainder):
    layout = Layout()
    layout.response(1, remainder)
    with pytest.raises(MalformedMessage, match=r"output_tensors at byte .* is misaligned"):
        decode_infer_response(layout.bytes)
    layout = Layout()
    (only,) = layout.response(1)
    table = layout.tensor(only, 12)
    layout.point(table + 4, layout.vector(1, struct.pack("<q", 1)))
    layout.point(table + 12, layout.vector(1, bytes(8), remainder))
    with pytest.raises(MalformedMessage, match=r"string_val at byte .* is misaligned"):
        decode_infer_response(layout.bytes)


@pytest.mark.parametrize("field", [5, 6, 7])
def test_an_offset_that_is_misaligned_in_its_table_is_refused(field):
    layout = Layout()
    root = layout.table(layout.vtable(12, field), 12)
    layout.point(0, root)
    layout.point(root + field, layout.vector(0, b""))
    with pytest.raises(MalformedMessage, match="misaligned"):
        decode_infer_response(layout.bytes)


def test_a_number_may_start_anywhere_in_its_table_but_not_beyond_it():
    for at, size, words in ((9, 20, None), (8, 20, None), (9, 16, "outside its table")):
        layout = Layout()
        root = layout.table(layout.vtable(8, 0, 4), 8)
        layout.point(0, root)
        errors = layout.vector(1, bytes(4))
        layout.point(root + 4, errors)
        error = layout.table(layout.vtable(size, at, 4), size)
        layout.point(errors + 4, error)
        layout.bytes += bytes(8)
        struct.pack_into("<q", layout.bytes, error + at, -7)
        layout.point(error + 4, layout.vector(2, b"no"))
        if words:
            with pytest.raises(MalformedMessage, match=words):
                decode_infer_response(layout.bytes)
        else:
            assert decode_infer_response(layout.bytes).errors == [ErrorInfo(-7, "no")]


# --- bytes that stand for more bytes ----------------------------------------------------------------------------------


def peak_of(message: bytes | bytearray) -> int:
    """The most memory that decoding this took."""
    tracemalloc.start()
    try:
        decode_request(message)
    except (MalformedMessage, Unsupported):
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def share_first_entry(message: bytearray, count: int) -> bytearray:
    """Let all entries of the one vector with ``count`` offsets point to what the first one points to."""
    vector = message.index(struct.pack("<I", count)) + 4
    target = vector + struct.unpack_from("<I", message, vector)[0]
    for at in range(vector, vector + 4 * count, 4):
        struct.pack_into("<I", message, at, target - at)
    return message


def test_a_hundred_references_to_one_string_of_a_megabyte_are_refused():
    strings = bytearray(b"".join(encode_request([np.array([b"x" * MIB] + [b""] * 99, object)])))
    # The first word of 100 is the shape's only dimension.
    start = strings.index(struct.pack("<I", 100), strings.index(struct.pack("<q", 100)) + 8)
    strings = strings[:start] + share_first_entry(strings[start:], 100)
    refused(strings, "claim more bytes together than the message has")
    assert peak_of(strings) < 2 * MIB
    names = share_first_entry(bytearray(b"".join(encode_request([FLOATS], ["x" * 2**16] + [""] * 99))), 100)
    refused(names, "claim more bytes together than the message has")
    assert peak_of(names) < 4 * MIB


def test_a_name_of_more_than_64_kib_is_refused():
    longest = "x" * 2**16
    assert decode_request(b"".join(encode_request([FLOATS], [longest], [longest]))).head.input_names == (longest,)
    for names in ({"input_names": [longest + "x"]}, {"output_names": ["", longest + "x"]}):
        with pytest.raises(InvalidRequest, match="65536"):
            encode_request([FLOATS], **names)
        message = official.write_request([tensor_of(FLOATS)], **names)
        refused(message, f"{next(iter(names))} has a name of 65537 bytes; at most 65536 are taken")


def test_two_fields_may_share_one_vector_while_the_lengths_stay_within_the_message():
    """As builders with shared strings write: input and output of the same name."""
    w = official.Writer(Manner())
    fbs = official.fbs
    tensors = w.tensors([tensor_of(FLOATS)] * 2)
    names = w.offsets([w.builder.CreateSharedString("shared"), w.builder.CreateSharedString("shared")])
    fbs.InferRequestStart(w.builder)
    fbs.InferRequestAddInputNames(w.builder, names)
    fbs.InferRequestAddOutputNames(w.builder, names)
    fbs.InferRequestAddInputTensors(w.builder, tensors)
    infer = fbs.InferRequestEnd(w.builder)
    fbs.RequestStart(w.builder)
    fbs.RequestAddReqType(w.builder, fbs.Req.InferRequest)
    fbs.RequestAddReq(w.builder, infer)
    read = decode_request(w.finish(fbs.RequestEnd(w.builder)))
    assert isinstance(read, InferRequest)
    assert read.head.input_names == read.head.output_names == ("shared", "shared")


def test_two_tensors_may_share_their_data_while_the_lengths_stay_within_the_message():
    layout = Layout()
    tables = [layout.tensor(place, 1) for place in layout.response(2)]
    shape, data = layout.vector(1, struct.pack("<q", 8)), layout.vector(8, bytes(range(8)))
    for table in tables:
        layout.point(table + 4, shape)
        layout.point(table + 8, data)
    for array in decode_infer_response(layout.bytes).outputs:
        assert array.tolist() == list(range(8))


@pytest.mark.parametrize("what", ["input_names", "output_names", "input_tensors"])
def test_more_than_4096_entries_are_refused(what):
    many: dict[str, Any] = {"input_names": [""] * 4097, "output_names": [""] * 4097}
    tensors = [np.zeros(0, "u1")] * (4097 if what == "input_tensors" else 1)
    with pytest.raises(InvalidRequest, match=r"4097 .*; at most 4096 travel"):
        encode_request(tensors, **{key: value for key, value in many.items() if key == what})
    at = {"input_names": 1, "output_names": 3, "input_tensors": 2}[what]
    message = request(tensor_of(FLOATS))
    infer = infer_table(message)
    field = (
        infer + struct.unpack_from("<H", message, infer - struct.unpack_from("<i", message, infer)[0] + 4 + 2 * at)[0]
    )
    vector = field + struct.unpack_from("<I", message, field)[0]
    message += bytes(4 * 4097)
    struct.pack_into("<I", message, vector, 4097)
    refused(message, f"{what} has 4097 entries; at most 4096 are taken")


def infer_table(message: bytes | bytearray) -> int:
    """Where the InferRequest's table stands in a request by the official builder."""
    root = struct.unpack_from("<I", message)[0]
    member = root + struct.unpack_from("<H", message, root - struct.unpack_from("<i", message, root)[0] + 6)[0]
    return int(member + struct.unpack_from("<I", message, member)[0])


def test_4096_tensors_and_names_travel():
    names = [str(i) for i in range(4096)]
    read = decode_request(b"".join(encode_request([np.float32(i) for i in range(4096)], names)))
    assert isinstance(read, InferRequest)
    assert read.head.input_names == tuple(names)
    assert [int(array) for array in read.inputs] == list(range(4096))


@pytest.mark.parametrize("count", [2**20, 2**28, 2**30 - 1, 2**31, 2**32 - 1])
def test_a_huge_count_is_refused_before_memory_is_taken(count):
    for message in (REQUESTS["ours, several tensors"], REQUESTS["ours, strings"], REQUESTS["python's"]):
        for at in range(0, len(message) - 3, 4):
            changed = bytearray(message)
            struct.pack_into("<I", changed, at, count)
            if at % 16 == 0:
                assert peak_of(changed) < MIB
            else:
                with contextlib.suppress(MalformedMessage, Unsupported):
                    decode_request(changed)


def test_text_beyond_its_limit_is_refused_on_both_sides():
    """A single wide character makes Python hold the whole text in four bytes a character."""
    limit = 2**24
    with pytest.raises(TooLarge, match=f"names and other texts have more than {limit} bytes"):
        encode_request([FLOATS], config="x" * (limit + 1))
    inside = decode_request(b"".join(encode_request([FLOATS], config="x" * limit)))
    assert isinstance(inside, InferRequest)
    assert len(inside.head.config) == limit
    refused(official.write_request([tensor_of(FLOATS)], config="x" * (limit + 1)), f"more than {limit} bytes of names")


def test_more_strings_than_the_limit_are_refused_on_both_sides():
    limit = 2**24
    with pytest.raises(TooLarge, match=f"{limit + 1} strings; at most {limit} travel"):
        encode_request([np.broadcast_to(np.array(b"", object), (limit + 1,))])
    layout = Layout()
    (only,) = layout.response(1)
    table = layout.tensor(only, 12)
    layout.point(table + 4, layout.vector(1, struct.pack("<q", limit + 1)))
    layout.point(table + 12, layout.vector(limit + 1, bytes(4 * limit + 4)))
    with pytest.raises(MalformedMessage, match=f"has {limit + 1} strings; at most {limit} are taken"):
        decode_infer_response(layout.bytes)


def test_strings_far_apart_and_in_any_order_are_read():
    layout = Layout()
    (only,) = layout.response(1)
    table = layout.tensor(only, 12)
    count = 70_000  # more than are read at once
    layout.point(table + 4, layout.vector(1, struct.pack("<q", count)))
    strings = layout.vector(count, bytes(4 * count))
    layout.point(table + 12, strings)
    first = layout.vector(3, b"one")
    layout.bytes += bytes(32 * MIB)
    last = layout.vector(3, b"two")
    for i in range(count):
        layout.point(strings + 4 + 4 * i, (last, first)[i % 2])
    assert decode_infer_response(layout.bytes).outputs[0].tolist() == [b"two", b"one"] * (count // 2)


def test_messages_of_two_gibibytes_are_neither_sent_nor_taken():
    untouched = np.zeros(2**31, np.uint8)  # no memory is taken for it unless somebody looks at it
    with pytest.raises(TooLarge, match="may have less than 2147483648: send fewer rows"):
        encode_request([untouched[:-1]])
    with pytest.raises(MalformedMessage, match="less than 2 GiB; 2147483648 bytes came"):
        decode_request(untouched.data)
