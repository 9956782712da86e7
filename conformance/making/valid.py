"""Messages that every reader takes, and what they say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from conformance.cases import expand_value
from conformance.making.hand import Layout, field, follow, patched, root
from conformance.making.values import TYPES, infer, io, metadata, response, tensor, vector
from conformance.making.writers import ORIGINAL_GO, ORIGINAL_PYTHON, PLAIN, Manner, builder, ours

__all__ = ["SIX", "TEXTS", "THREE", "by_builder", "by_hand", "by_us", "long_config", "many_outputs"]

Value = dict[str, Any]

# Elements that go wrong first: extremes, signed zeros, infinities, NaNs with a payload, subnormal numbers.
ELEMENTS: dict[str, bytes] = {
    "uint8": bytes([0, 1, 127, 128, 254, 255]),
    "int8": struct.pack("<6b", 0, 1, -1, 127, -128, -127),
    "uint16": struct.pack("<6H", 0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF),
    "int16": struct.pack("<6h", 0, 1, -1, 0x7FFF, -0x8000, -0x7FFF),
    "uint32": struct.pack("<6I", 0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF),
    "int32": struct.pack("<6i", 0, 1, -1, 0x7FFF_FFFF, -0x8000_0000, -0x7FFF_FFFF),
    "uint64": struct.pack("<6Q", 0, 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1),
    "int64": struct.pack("<6q", 0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)),
    "float16": struct.pack("<6H", 0x0000, 0x8000, 0x7BFF, 0xFC00, 0x7E01, 0x0001),
    "float32": struct.pack("<6I", 0x0000_0000, 0x8000_0000, 0x7F7F_FFFF, 0xFF80_0000, 0x7FC0_0001, 0x0000_0001),
    "float64": struct.pack("<6Q", 0, 1 << 63, 0x7FEF << 48, 0xFFF0 << 48, 0x7FF8_0000_0000_0001, 1),
}
STRINGS = [b"abcd", b"", b"a\0b\0", b"\xff\xfe", "größer \U0001f600".encode(), b"\0"]
SIX = tensor("float32", [2, 3], struct.pack("<6f", *range(6)))
THREE = tensor("uint8", [3], b"\0\1\2")
TEXTS = tensor("string", [2, 2], STRINGS[:4])
NAMES = ["x", "größe", "\U0001f600", "with space", "TensorFlow:0", "nul\0inside", "λ" * 40]
META = metadata(
    "digits",
    "sha256:0",
    "graphpipe 1",
    "recognises größe",
    [io("x", "an image", [-1, 64], "float32"), io("any", "any shape", [], "null"), io("", "", [0, -1, -1], "string")],
    [io("label", "", [-1], "int64"), io("\U0001f600", "scalar", [], "float64")],
)


def by_us() -> Iterator[Value]:
    """Messages that our writer wrote."""

    def made(name: str, comment: str, flags: list[str], message: str, value: Value) -> Value:
        content = ours(message, expand_value(value))
        return vector(f"valid/{name}", f"{comment}, as our writer lays it out", flags, message, content, value)

    for kind, six in ELEMENTS.items():
        one = six[: len(six) // 6]
        yield made(f"{kind}-scalar", f"one {kind}", ["scalar", "types"], "request", infer([tensor(kind, [], one)]))
        yield made(f"{kind}-empty", f"no {kind}", ["empty", "types"], "request", infer([tensor(kind, [0, 3], b"")]))
        yield made(
            f"{kind}-matrix",
            f"{kind} at its extremes",
            ["types"],
            "infer_response",
            response([tensor(kind, [2, 3], six)]),
        )
    for name, comment, value in (
        ("string-scalar", "one string", tensor("string", [], [b"scalar"])),
        ("string-empty", "no strings", tensor("string", [0, 3], [])),
        ("string-matrix", "strings with NUL and bytes that are no UTF-8", tensor("string", [2, 3], STRINGS)),
        ("string-lengths", "strings of every length modulo 8", tensor("string", [9], [b"x" * n for n in range(9)])),
        ("string-long", "a string of 5,000 bytes", tensor("string", [2], [b"long " * 1000, b"short"])),
    ):
        yield made(name, comment, ["strings", "types"], "request", infer([value]))
        yield made(f"{name}-answer", comment, ["strings", "types"], "infer_response", response([value]))
    every = [tensor(kind, [6], six) for kind, six in ELEMENTS.items()]
    yield made("every-type-at-once", "a tensor of each type", ["types"], "request", infer([*every, TEXTS]))
    yield made(
        "every-type-in-an-answer", "a tensor of each type", ["types"], "infer_response", response([TEXTS, *every])
    )
    yield made("no-inputs", "no tensors and no names", ["empty"], "request", infer())
    yield made(
        "names", "names in several scripts", ["names", "unicode"], "request", infer([SIX] * 7, NAMES, NAMES[::-1])
    )
    yield made("config", "a config", ["config", "unicode"], "request", infer([SIX], config='{"k": "größe \U0001f600"}'))
    yield made("empty-names", "names that are empty", ["names"], "request", infer([SIX, THREE], ["", "b"], ["", "y"]))
    yield made("repeated-outputs", "an output asked for twice", ["names"], "request", infer([SIX], ["x"], ["y", "y"]))
    yield made("fewer-names", "one name for two tensors", ["names"], "request", infer([SIX, THREE], ["a"]))
    yield made("two-names-each", "2N names for N tensors", ["names"], "request", infer([SIX, THREE], ["a", "b"] * 2))
    yield made("metadata-request", "the question for metadata", ["metadata"], "request", {"type": "metadata"})
    deep = tensor("uint8", [1] * 31 + [6], ELEMENTS["uint8"])
    yield made("32-dimensions", "as many dimensions as there may be", ["limits"], "request", infer([deep]))
    for kind, most in (("uint8", 2**31 - 1), ("float64", 2**28 - 1), ("string", 2**29 - 1)):
        value = tensor(kind, [0, most], [] if kind == "string" else b"")
        comment = f"an extent just below 2 GiB of {kind}, without elements"
        yield made(f"extent-of-{kind}", comment, ["empty", "limits"], "request", infer([value]))
    yield made("no-outputs", "an answer with nothing in it", ["empty"], "infer_response", response())
    errors = [(4, "it failed"), (0, ""), (-(2**63), "größe"), (2**63 - 1, "x" * 300), (999, "nobody knows this code")]
    yield made("errors", "several errors", ["errors", "unicode"], "infer_response", response([], errors))
    both = response([SIX, TEXTS], [(4, "and yet")])
    yield made("errors-beside-outputs", "errors and outputs", ["errors"], "infer_response", both)
    yield made("metadata", "inputs and outputs, known and unknown", ["metadata", "unicode"], "metadata_response", META)
    yield made("metadata-empty", "a model that says nothing", ["empty", "metadata"], "metadata_response", metadata())
    each = [io(kind, f"of type {kind}", [-1, n], kind) for n, kind in enumerate(TYPES)]
    yield made("metadata-types", "every type", ["metadata", "types"], "metadata_response", metadata("m", inputs=each))
    names = {"repeat": [""], "times": 4096}
    yield made("4096-names", "as many names as there may be", ["limits"], "request", infer([SIX], names, names))


def by_builder() -> Iterator[Value]:
    """Messages that the official Builder wrote, used as the programs of 2018 used it, and in other ways."""
    manners = (
        ("python", ORIGINAL_PYTHON, "the original Python client's manner: data aligned to 4 bytes"),
        ("go", ORIGINAL_GO, "the original Go programs' manner: strings without NUL, shapes aligned to 4"),
    )
    yield _built(
        "builder-metadata-request", "the question for metadata", ["metadata"], "request", {"type": "metadata"}, PLAIN
    )
    for name, manner, comment in manners:
        for kind, six in ELEMENTS.items():
            wide = infer([tensor(kind, [2, 3], six)], ["x"])
            yield _built(f"{name}-{kind}", comment, ["types"], "request", wide, manner)
            answer = response([tensor(kind, [2], six[: len(six) // 3]), tensor(kind, [0], b""), THREE])
            yield _built(f"{name}-{kind}-answer", comment, ["types"], "infer_response", answer, manner)
        strings = [tensor("string", [2, 3], STRINGS), tensor("string", [], [b"scalar"]), tensor("string", [0, 2], [])]
        yield _built(f"{name}-strings", comment, ["strings"], "request", infer(strings, ["a", "b"], ["y"], "c"), manner)
        yield _built(f"{name}-strings-answer", comment, ["strings"], "infer_response", response(strings), manner)
        two = infer([SIX, THREE], ["a", "b", "a", "b"], ["größe", ""], "größe")
        yield _built(f"{name}-2n-names", f"{comment}; 2N names for N tensors", ["names"], "request", two, manner)
        yield _built(f"{name}-no-inputs", comment, ["empty"], "request", infer(), manner)
        yield _built(f"{name}-metadata", comment, ["metadata"], "metadata_response", META, manner)
        failed = response([], [(0, "no"), (7, "größe")])
        yield _built(f"{name}-errors", comment, ["errors"], "infer_response", failed, manner)
        for length in range(1, 8):
            shifted = infer(
                [tensor("float64", [2], ELEMENTS["float64"][-16:]), tensor("uint8", [length], bytes(length))]
            )
            what = f"{comment}; {length} bytes at the end shift what stands before"
            yield _built(f"{name}-shifted-by-{length}", what, ["alignment"], "request", shifted, manner)
    request, answer = infer([SIX, TEXTS, THREE], ["a", "b"], [], "c"), response([SIX, TEXTS, THREE])
    failed = response([], [(0, ""), (0, "no code")])
    for name, comment, manner, values in (
        ("numpy-vectors", "data as the Builder's numpy vectors", Manner(data="numpy"), (request, answer)),
        ("tensors-first", "tensors built before names", Manner(tensors_first=True), (request,)),
        ("config-last", "config built last", Manner(config_last=True), (request,)),
        ("data-first", "a tensor's data before its shape", Manner(data_first=True), (request, answer)),
        ("no-empty-vectors", "empty vectors left out", Manner(empty_vectors=False), (request, answer)),
        ("both-kinds", "an empty string_val beside data, and the reverse", Manner(both_data=True), (request, answer)),
        ("defaults", "fields written though they have their default", Manner(defaults=True), (failed, META)),
    ):
        for value in values:
            message = "request" if "config" in value else "infer_response" if "errors" in value else "metadata_response"
            yield _built(f"builder-{name}-{message.replace('_', '-')}", comment, ["freedom"], message, value, manner)


def _built(name: str, comment: str, flags: list[str], message: str, value: Value, manner: Manner) -> Value:
    return vector(f"valid/{name}", comment, ["builder", *flags], message, builder(message, value, manner), value)


# --- by hand ----------------------------------------------------------------------------------------------------------


def by_hand() -> Iterator[Value]:
    """Messages that no writer is known to write, and that are right all the same."""
    yield from _alignments()
    yield from _absences()
    yield from _sharing()
    yield from _later_schemas()
    yield from _bad_errors_beside_outputs()
    yield from _at_limits()


def _hand(name: str, comment: str, flags: list[str], message: str, content: bytes | bytearray, value: Value) -> Value:
    return vector(f"valid/{name}", comment, ["by-hand", *flags], message, content, value)


def _alignments() -> Iterator[Value]:
    for remainder in range(8):
        layout = Layout()
        first, second = layout.response(2)
        numbers, strings = layout.tensor(first, 10), layout.tensor(second, 12)
        for table in (numbers, strings):
            layout.shape(table + 4, [2, 1], remainder)
        layout.run(numbers + 8, struct.pack("<2f", 1.5, 2.5), remainder)
        layout.run(strings + 8, b"")
        layout.offsets(numbers + 12, 0)
        for place, raw in zip(layout.offsets(strings + 12, 2), (b"ab", b"c"), strict=True):
            layout.run(place, raw, remainder)
        value = response(
            [tensor("float32", [2, 1], struct.pack("<2f", 1.5, 2.5)), tensor("string", [2, 1], [b"ab", b"c"])]
        )
        comment = f"shapes, data and strings whose counts stand at {remainder} modulo 8"
        yield _hand(f"at-{remainder}-modulo-8", comment, ["alignment"], "infer_response", layout.bytes, value)
    for place in range(8, 16):
        layout = Layout()
        top = layout.table(12, 0, 4)
        layout.point(0, top)
        only = layout.offsets(top + 4, 1)[0]
        error = layout.table(24, place, 4)
        layout.point(only, error)
        struct.pack_into("<q", layout.bytes, error + place, -7)
        layout.run(error + 4, b"no")
        comment = f"an error's code at {place % 8} modulo 8 of its table"
        yield _hand(
            f"code-at-{place}",
            comment,
            ["alignment", "errors"],
            "infer_response",
            layout.bytes,
            response([], [(-7, "no")]),
        )
    layout = Layout()
    only = layout.response(1)[0]
    layout.place(b"\0\0", 4, 0)  # so that the next vtable stands at 2 modulo 4
    layout.numbers(only, 1, [3], b"\0\1\2")
    assert any(_vtable_remainders(layout.bytes))
    yield _hand(
        "vtable-at-2",
        "a vtable at 2 modulo 4",
        ["alignment", "vtable"],
        "infer_response",
        layout.bytes,
        response([THREE]),
    )


def _vtable_remainders(message: bytes | bytearray) -> list[int]:
    outputs = follow(message, field(message, root(message), 0))
    table = follow(message, outputs + 4)
    return [(table - struct.unpack_from("<i", message, table)[0]) % 4]


def _absences() -> Iterator[Value]:
    layout = Layout()
    first, second, third = layout.response(3)
    scalar = layout.table(12, 8, 0, 4)
    layout.point(first, scalar)
    layout.bytes[scalar + 8] = 3
    layout.run(scalar + 4, b"\1\2")
    empty = layout.table(12, 8, 4)
    layout.point(second, empty)
    layout.bytes[empty + 8] = 10
    layout.shape(empty + 4, [0, 3])
    none = layout.table(12, 8, 4)
    layout.point(third, none)
    layout.bytes[none + 8] = 12
    layout.shape(none + 4, [3, 0])
    value = response([tensor("uint16", [], b"\1\2"), tensor("float32", [0, 3], b""), tensor("string", [3, 0], [])])
    comment = "no shape is a scalar's; no data and no string_val are empty ones"
    yield _hand("absent-in-tensors", comment, ["absent", "scalar", "empty"], "infer_response", layout.bytes, value)
    for message, name, value in (
        ("infer_response", "answer", response()),
        ("metadata_response", "metadata", metadata()),
    ):
        for slots in ((), (0,), (0, 0)):
            layout = Layout()
            layout.point(0, layout.table(4, *slots))
            comment = f"a table without fields, its vtable with {len(slots)} entries"
            yield _hand(f"absent-in-{name}-{len(slots)}", comment, ["absent", "empty"], message, layout.bytes, value)
    layout = Layout()
    top = layout.table(12, 8, 4)
    layout.point(0, top)
    layout.bytes[top + 8] = 1
    layout.point(top + 4, layout.table(4))
    yield _hand(
        "absent-in-request", "an inference without fields", ["absent", "empty"], "request", layout.bytes, infer()
    )
    layout = Layout()
    top = layout.table(8, 0, 4)
    layout.point(0, top)
    layout.point(layout.offsets(top + 4, 1)[0], layout.table(4))
    comment = "an error without code and words"
    yield _hand(
        "absent-in-error", comment, ["absent", "errors"], "infer_response", layout.bytes, response([], [(0, "")])
    )
    layout = Layout()
    top = layout.table(8, 0, 0, 0, 0, 4)
    layout.point(0, top)
    layout.point(layout.offsets(top + 4, 1)[0], layout.table(4))
    comment = "an input without fields: no name, no shape, type Null"
    yield _hand(
        "absent-in-input", comment, ["absent", "metadata"], "metadata_response", layout.bytes, metadata(inputs=[io()])
    )


def _sharing() -> Iterator[Value]:
    layout = Layout()
    first, second = layout.response(2)
    tables = [layout.tensor(first, 1), layout.tensor(second, 2)]
    shape, data = layout.vector(1, struct.pack("<q", 3), 4), layout.vector(3, b"\0\1\2")
    none = layout.vector(0, b"")
    for table in tables:
        layout.point(table + 4, shape)
        layout.point(table + 8, data)
        layout.point(table + 12, none)
    value = response([THREE, tensor("int8", [3], b"\0\1\2")])
    yield _hand(
        "shared-vectors", "two tensors share shape and data", ["sharing"], "infer_response", layout.bytes, value
    )
    layout = Layout()
    places = layout.response(2)
    table = layout.numbers(places[0], 1, [3], b"\0\1\2")
    layout.point(places[1], table)
    yield _hand(
        "shared-table", "one tensor twice", ["sharing"], "infer_response", layout.bytes, response([THREE, THREE])
    )
    layout = Layout()
    member = layout.request()
    names = layout.offsets(member + 8, 1)
    layout.point(member + 16, names[0] - 4)
    layout.point(names[0], layout.vector(4, b"same"))
    layout.offsets(member + 12, 0)
    layout.place(bytes(8))
    value = infer([], ["same"], ["same"])
    yield _hand("shared-names", "inputs and outputs share their names", ["sharing"], "request", layout.bytes, value)
    layout = Layout()
    only = layout.response(1)[0]
    table = layout.tensor(only, 12)
    layout.shape(table + 4, [10])
    layout.run(table + 8, b"")
    places = layout.offsets(table + 12, 10)
    target = layout.run(places[0], b"x" * 20)
    for place in places:
        layout.point(place, target)
    # The offset to the tensor, one dimension, ten offsets, ten times the string: exactly as many bytes as there are.
    layout.place(bytes(4 + 8 + 40 + 200 - len(layout.bytes)), 1)
    value = response([tensor("string", [10], [b"x" * 20] * 10)])
    comment = "what is shared, counted each time, is as long as the message"
    yield _hand("shared-up-to-the-budget", comment, ["budget", "sharing"], "infer_response", layout.bytes, value)


def _later_schemas() -> Iterator[Value]:
    layout = Layout()
    top = layout.table(20, 4, 0, 16, 12, 8)
    layout.point(0, top)
    only = layout.offsets(top + 4, 1)[0]
    struct.pack_into("<III", layout.bytes, top + 8, 0xFFFF_FFFF, 0, 77)
    table = layout.table(28, 12, 4, 8, 0, 16, 20, 0xFFFF)
    layout.point(only, table)
    layout.bytes[table + 12] = 1
    layout.shape(table + 4, [3])
    layout.run(table + 8, b"\0\1\2")
    struct.pack_into("<III", layout.bytes, table + 16, 0xFFFF_FFFF, 0x7FFF_FFFF, 1)
    comment = "fields that this schema does not have, with anything in them"
    yield _hand("unknown-fields", comment, ["freedom"], "infer_response", layout.bytes, response([THREE]))
    whole = ours("infer_response", response([SIX]))
    comment = "bytes after the last that belongs to anything"
    yield _hand("bytes-at-the-end", comment, ["freedom"], "infer_response", whole + b"\xff" * 13, response([SIX]))
    layout = Layout()
    layout.place(b"\xee" * 40)
    only = layout.response(1)[0]
    layout.place(b"\xee" * 12)
    layout.numbers(only, 1, [3], b"\0\1\2")
    comment = "bytes in between that belong to nothing"
    yield _hand("bytes-in-between", comment, ["freedom"], "infer_response", layout.bytes, response([THREE]))


def _bad_errors_beside_outputs() -> Iterator[Value]:
    def answer(count: int = 1, remainder: int = 0) -> tuple[Layout, list[int]]:
        """An answer with an output, and places for its errors; the field itself is at 24."""
        layout = Layout()
        top = layout.table(12, 4, 8)
        layout.point(0, top)
        layout.numbers(layout.offsets(top + 4, 1)[0], 1, [3], b"\0\1\2")
        return layout, layout.offsets(top + 8, count, remainder)

    def made(name: str, comment: str, message: bytes | bytearray) -> Value:
        comment = f"{comment}: as if absent, since there are outputs"
        return _hand(f"bad-errors-{name}", comment, ["errors"], "infer_response", message, response([THREE]))

    layout, places = answer()
    errors = field(layout.bytes, root(layout.bytes), 1)
    for name, comment, at, value in (
        ("outside", "an errors that points past the end", errors, 0x7FFF_FFF0),
        ("to-itself", "an errors that points at itself", errors, 0),
        ("entry-to-itself", "an error that points at itself", places[0], 0),
        ("entry-outside", "what the original Python server writes with a runtime of today", places[0], 0x7FFF_FFF0),
        ("count", "more errors than there are bytes", places[0] - 4, 0x4000_0000),
    ):
        yield made(name, comment, patched(layout.bytes, at, "I", value))
    layout, _ = answer(remainder=2)
    yield made("misaligned", "a misaligned vector of errors", layout.bytes)
    layout, places = answer()
    error = layout.table(8, 0, 4)
    layout.point(places[0], error)
    layout.run(error + 4, b"no \xff UTF-8")
    yield made("not-utf8", "an error whose words are not UTF-8", layout.bytes)
    layout, places = answer(4097)
    error = layout.table(4)
    for place in places:
        layout.point(place, error)
    yield made("too-many", "4,097 errors", layout.bytes)
    layout, places = answer(100)
    error = layout.table(8, 0, 4)
    layout.run(error + 4, b"x" * 1000)
    for place in places:
        layout.point(place, error)
    yield made("shared", "a hundred errors with the same long words", layout.bytes)


def _at_limits() -> Iterator[Value]:
    value = infer(config={"repeat": "x", "times": 2**24})
    comment = "as many bytes of text as there may be"
    yield _hand("16-mib-of-config", comment, ["large", "limits"], "request", long_config(2**24), value)
    value = response({"repeat": [tensor("uint8", [], b"\7")], "times": 4096})
    comment = "one tensor 4,096 times"
    yield _hand("4096-outputs", comment, ["limits", "sharing"], "infer_response", many_outputs(4096), value)


def long_config(count: int) -> bytes:
    """A request whose config has so many bytes."""
    layout = Layout()
    member = layout.request()
    layout.run(member + 4, b"x" * count)
    for slot in (8, 12, 16):
        layout.offsets(member + slot, 0)
    return bytes(layout.bytes)


def many_outputs(count: int) -> bytes:
    """An answer with so many outputs, which are all the same table."""
    layout = Layout()
    places = layout.response(count)
    scalar = layout.table(12, 8, 0, 4)
    layout.bytes[scalar + 8] = 1
    layout.run(scalar + 4, b"\7")
    for place in places:
        layout.point(place, scalar)
    # The byte of each counts, so there have to be as many.
    return bytes(layout.bytes) + bytes(count)
