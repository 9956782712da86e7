"""Messages from somebody who means harm: to be read past its end, to be large in memory, to never end. All malformed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from conformance.making.hand import Layout, field, follow, patched, root, vtable
from conformance.making.valid import SIX, TEXTS, THREE, long_config, many_outputs
from conformance.making.values import infer, io, metadata, response, tensor, vector
from conformance.making.writers import ORIGINAL_GO, ORIGINAL_PYTHON, builder, ours

__all__ = ["on_size", "on_structure"]

Value = dict[str, Any]


def on_structure() -> Iterator[Value]:
    """Parts that stand where nothing may stand."""
    yield from _cut_off()
    yield from _offsets()
    yield from _tables()
    yield from _misaligned()


def on_size() -> Iterator[Value]:
    """Numbers that ask for more than there is."""
    yield from _counts()
    yield from _shapes()
    yield from _amplified()
    yield from _over_limits()


def _made(name: str, comment: str, flags: list[str], message: str, content: bytes | bytearray) -> Value:
    return vector(f"attacks/{name}", comment, flags, message, content, "malformed")


class Whole(NamedTuple):
    """A message that is right, and where its parts stand."""

    message: str
    content: bytes
    tables: dict[str, int]
    offsets: dict[str, int]  # positions of offsets
    counts: dict[str, int]  # positions of counts


def _wholes() -> list[Whole]:
    """One message of each kind."""
    content = ours("request", infer([SIX, TEXTS], ["x", "s"], ["y"], "config"))
    top = root(content)
    body = follow(content, field(content, top, 1))
    vectors = {
        name: field(content, body, slot)
        for slot, name in enumerate(("config", "input-names", "input-tensors", "output-names"))
    }
    tensors = follow(content, vectors["input-tensors"]) + 4
    numbers, strings = follow(content, tensors), follow(content, tensors + 4)
    string_val = field(content, strings, 3)
    offsets = {
        "root": 0,
        "body": field(content, top, 1),
        **vectors,
        "first-input-name": follow(content, vectors["input-names"]) + 4,
        "first-output-name": follow(content, vectors["output-names"]) + 4,
        "first-tensor": tensors,
        "second-tensor": tensors + 4,
        "shape": field(content, numbers, 1),
        "data": field(content, numbers, 2),
        "shape-of-strings": field(content, strings, 1),
        "string-val": string_val,
        "first-string": follow(content, string_val) + 4,
        "last-string": follow(content, string_val) + 16,
    }
    counts = {name: follow(content, at) for name, at in offsets.items() if name not in ("root", "body")}
    counts = {name: at for name, at in counts.items() if not name.endswith("-tensor")}
    request = Whole("request", content, {"root": top, "body": body, "tensor": numbers}, offsets, counts)

    content = ours("infer_response", response([], [(4, "it failed")]))
    top = root(content)
    errors = field(content, top, 1)
    error = follow(content, follow(content, errors) + 4)
    offsets = {"errors": errors, "first-error": follow(content, errors) + 4, "words": field(content, error, 1)}
    counts = {"errors": follow(content, errors), "words": follow(content, offsets["words"])}
    failure = Whole("infer_response", content, {"error": error}, offsets, counts)

    content = ours("metadata_response", metadata("m", "1", "s", "d", [io("x", "d", [-1, 3], "float32")], [io("y")]))
    top = root(content)
    texts = {name: field(content, top, slot) for slot, name in enumerate(("name", "version", "server", "description"))}
    inputs, outputs = field(content, top, 4), field(content, top, 5)
    one = follow(content, follow(content, inputs) + 4)
    offsets = {
        **texts,
        "inputs": inputs,
        "outputs": outputs,
        "first-input": follow(content, inputs) + 4,
        "input-name": field(content, one, 0),
        "input-description": field(content, one, 1),
        "input-shape": field(content, one, 2),
    }
    counts = {name: follow(content, at) for name, at in offsets.items() if name != "first-input"}
    return [request, failure, Whole("metadata_response", content, {"root": top, "input": one}, offsets, counts)]


def _cut_off() -> Iterator[Value]:
    by_go = builder("request", infer([SIX, THREE], ["a", "b"], ["y"], "config"), ORIGINAL_GO)
    by_python = builder("request", infer([SIX, TEXTS], ["a"], ["y"], "config"), ORIGINAL_PYTHON)
    plain = ours("request", infer([TEXTS, SIX], ["s", "x"], ["y"], "config"))
    for writer, message, whole in (
        ("ours", "request", plain),
        ("go", "request", by_go),
        ("python", "request", by_python),
        ("answer", "infer_response", ours("infer_response", response([TEXTS, SIX]))),
        ("metadata", "metadata_response", builder("metadata_response", metadata("m" * 9, "v" * 9, "s" * 9, "d" * 9))),
    ):
        # The Builder fills its buffer from the end, and leaves up to 3 bytes of padding there.
        ends = [len(whole) * n // 8 for n in range(1, 8)]
        for length in (*ends, len(whole) - 5, len(whole) - (4 if writer != "ours" else 1)):
            comment = f"the first {length} of {len(whole)} bytes"
            yield _made(f"cut-{writer}-{length}", comment, ["cut-off"], message, whole[:length])


def _offsets() -> Iterator[Value]:
    for whole in _wholes():
        size = len(whole.content)
        for name, at in whole.offsets.items():
            for fault, value in (
                ("to-itself", 0),
                ("to-the-end", size - at),
                ("into-the-last-bytes", size - at - 3),
                ("beyond-31-bits", 0xFFFF_FFFC),
                ("wraps-32-bits", (0x1_0000_0000 - at + 4) % 2**32),
            ):
                comment = f"the offset to {name.replace('-', ' ')}: {fault.replace('-', ' ')}"
                content = patched(whole.content, at, "I", value)
                yield _made(f"offset-{name}-{fault}-{_short(whole)}", comment, ["offset"], whole.message, content)


def _short(whole: Whole) -> str:
    return whole.message.partition("_")[0]


def _tables() -> Iterator[Value]:
    for whole in _wholes():
        content, size = whole.content, len(whole.content)
        for name, table in whole.tables.items():
            where = vtable(content, table)
            table_size = struct.unpack_from("<H", content, where + 2)[0]
            for fault, at, form, values in (
                ("vtable-before-the-start", table, "i", (table + 4,)),
                ("vtable-far-before-the-start", table, "i", (0x7FFF_FFFE,)),
                ("vtable-past-the-end", table, "i", (table - size,)),
                ("vtable-far-past-the-end", table, "i", (-(2**31),)),
                ("vtable-in-the-last-bytes", table, "i", (table - size + 2 + size % 2,)),
                ("vtable-at-an-odd-place", table, "i", (table - where - 1,)),
                ("vtable-of-0-bytes", where, "H", (0,)),
                ("vtable-of-2-bytes", where, "H", (2,)),
                ("vtable-of-5-bytes", where, "H", (5,)),
                ("vtable-of-64-kib", where, "H", (0xFFFE,)),
                ("of-0-bytes", where + 2, "H", (0,)),
                ("of-3-bytes", where + 2, "H", (3,)),
                ("of-64-kib", where + 2, "H", (0xFFFF,)),
                ("of-4-bytes", where + 2, "H", (4,)),
                ("field-in-its-head", where + 4, "H", (1,)),
                ("field-at-its-end", where + 4, "H", (table_size,)),
                ("field-far-outside", where + 4, "H", (0xFFFF,)),
            ):
                comment = f"the table {name}: {fault.replace('-', ' ')}"
                changed = patched(content, at, form, *values)
                yield _made(f"table-{name}-{fault}-{_short(whole)}", comment, ["table"], whole.message, changed)
    for size, place in ((11, 4), (15, 8)):
        layout = Layout()
        top = layout.table(8, 0, 4)
        layout.point(0, top)
        only = layout.offsets(top + 4, 1)[0]
        layout.point(only, layout.table(size, place))
        layout.place(bytes(16))
        comment = f"a number of 8 bytes at {place} of a table of {size}"
        yield _made(f"code-out-of-a-table-of-{size}", comment, ["table"], "infer_response", layout.bytes)
    layout = Layout()
    top = layout.table(7, 4)
    layout.point(0, top)
    layout.place(b"")
    struct.pack_into("<I", layout.bytes, top + 4, 8)
    layout.place(bytes(16))
    comment = "an offset of which 3 bytes are in its table"
    yield _made("offset-out-of-its-table", comment, ["table"], "infer_response", layout.bytes)


def _misaligned() -> Iterator[Value]:
    content = ours("infer_response", response([SIX]))
    for by in (1, 2, 3):
        comment = f"a root table at {by} modulo 4"
        changed = patched(bytes(by) + content, 0, "I", root(content) + by)
        yield _made(f"root-at-{by}", comment, ["alignment", "offset"], "infer_response", changed)
        layout = Layout()
        place = layout.response(1, by)[0]
        layout.bytes += bytes(-len(layout.bytes) % 4)
        layout.numbers(place, 1, [3], b"\0\1\2")
        comment = f"a vector of tensors at {by} modulo 4"
        yield _made(f"tensors-at-{by}", comment, ["alignment", "offset"], "infer_response", layout.bytes)
        layout = Layout()
        layout.response(0, by)
        layout.place(bytes(8))
        comment = f"an empty vector of tensors at {by} modulo 4"
        yield _made(f"no-tensors-at-{by}", comment, ["alignment", "offset"], "infer_response", layout.bytes)
        layout = Layout()
        table = layout.tensor(layout.response(1)[0], 12)
        layout.shape(table + 4, [1])
        layout.run(table + 8, b"")
        layout.point(table + 12, layout.vector(1, b"\4\0\0\0\0\0\0\0", by))
        comment = f"a vector of strings at {by} modulo 4"
        yield _made(f"strings-at-{by}", comment, ["alignment", "offset"], "infer_response", layout.bytes)
        layout = Layout()
        member = layout.request()
        layout.point(member + 8, layout.vector(1, b"\4\0\0\0\0\0\0\0", by))
        layout.bytes += bytes(-len(layout.bytes) % 4)
        layout.offsets(member + 12, 0)
        layout.offsets(member + 16, 0)
        comment = f"a vector of names at {by} modulo 4"
        yield _made(f"names-at-{by}", comment, ["alignment", "offset"], "request", layout.bytes)
        layout = Layout()
        top = layout.table(12, 4 + by)
        layout.point(0, top)
        layout.point(top + 4 + by, layout.vector(0, b""))
        comment = f"an offset at {by} modulo 4"
        yield _made(f"offset-at-{by}", comment, ["alignment", "offset"], "infer_response", layout.bytes)
        layout = Layout()
        place = layout.response(1)[0]
        layout.numbers(place, 1, [3], b"\0\1\2")
        start = follow(layout.bytes, place)
        head = start - struct.unpack_from("<i", layout.bytes, start)[0]
        behind = len(layout.bytes)
        layout.place(bytes(by) + struct.pack("<i", 0) + bytes(12), 4)
        table = behind + (-behind % 4) + by
        struct.pack_into("<i", layout.bytes, table, table - head)
        layout.point(place, table)
        comment = f"a tensor's table at {by} modulo 4"
        yield _made(f"tensor-at-{by}", comment, ["alignment", "table"], "infer_response", layout.bytes)


def _counts() -> Iterator[Value]:
    for whole in _wholes():
        for name, at in whole.counts.items():
            # Times 4 or 8 some of them are 0, or small, in 32 bits.
            for count in (2**20, 2**28, 2**29 + 1, 2**30, 2**31, 2**32 - 1):
                comment = f"{name.replace('-', ' ')}: {count} elements, says the count"
                content = patched(whole.content, at, "I", count)
                yield _made(f"count-{name}-{count}-{_short(whole)}", comment, ["count"], whole.message, content)
            if at + 4 < len(whole.content):
                left = len(whole.content) - at - 4
                content = patched(whole.content, at, "I", left + 1)
                comment = f"{name.replace('-', ' ')}: one element more than there are bytes"
                yield _made(f"count-{name}-one-too-many-{_short(whole)}", comment, ["count"], whole.message, content)


def _shapes() -> Iterator[Value]:
    six = struct.pack("<6f", *range(6))
    for name, kind, shape in (
        ("product-wraps-to-0", "uint8", [2**32, 2**32]),
        ("product-wraps-to-24", "uint8", [2**61 + 3, 8]),
        ("size-wraps-to-24", "float32", [2**62 + 6]),
        ("two-wrapping", "float32", [2**62, 4]),
        ("three-wrapping", "float64", [2**21, 2**21, 2**22 + 1]),
        ("largest-dimension", "uint8", [2**63 - 1]),
        ("smallest-dimension", "uint8", [-(2**63)]),
        ("two-of-the-largest", "uint8", [2**63 - 1, 2**63 - 1]),
        ("two-of-the-smallest", "float32", [-(2**63), -(2**63)]),
        ("empty-but-2-to-the-62", "float32", [0, 2**62]),
        ("2-to-the-62-but-empty", "float32", [2**62, 0]),
        ("empty-and-wrapping", "float32", [0, 2**32, 2**32]),
        ("empty-and-largest", "uint8", [2**63 - 1, 0, 2**63 - 1]),
        ("extent-of-uint8", "uint8", [0, 2**31]),
        ("extent-of-float64", "float64", [0, 2**28]),
        ("extent-of-float16", "float16", [2**15, 0, 2**15]),
        ("extent-in-32-parts", "uint8", [2] * 31 + [0]),
        ("2-gib-of-data", "uint8", [2**31]),
        ("nearly-2-gib-of-data", "float32", [2**29 - 1]),
    ):
        data = b"" if 0 in shape else six
        comment = f"{kind} of shape {shape}, with {len(data)} bytes"
        content = builder("request", infer([tensor(kind, shape, data)]))
        yield _made(f"shape-{name}", comment, ["overflow", "shape"], "request", content)
    for name, shape in (
        ("empty-but-2-to-the-62", [0, 2**62]),
        ("extent", [0, 2**29]),
        ("extent-in-two", [2**15, 0, 2**14]),
        ("2-to-the-30", [2**30]),
        ("wrapping", [2**62, 4]),
        ("wrapping-to-1", [2**63 - 1, 2**63 - 1]),
    ):
        strings = [] if 0 in shape else [b"x"]
        comment = f"strings of shape {shape}, {len(strings)} of them: an extent of 2 GiB at 4 bytes each, or more"
        content = builder("infer_response", response([tensor("string", shape, strings)]))
        yield _made(f"strings-{name}", comment, ["overflow", "shape", "strings"], "infer_response", content)


def _amplified() -> Iterator[Value]:
    def made(name: str, comment: str, message: str, layout: Layout) -> Value:
        return _made(name, comment, ["budget", "sharing"], message, layout.bytes)

    def shared(layout: Layout, field: int, count: int, raw: bytes) -> None:
        places = layout.offsets(field, count)
        target = layout.run(places[0], raw)
        for place in places:
            layout.point(place, target)

    layout = Layout()
    table = layout.tensor(layout.response(1)[0], 12)
    layout.shape(table + 4, [100])
    layout.run(table + 8, b"")
    shared(layout, table + 12, 100, b"x" * 2**20)
    yield made("100-strings-in-one", "one string of a megabyte a hundred times", "infer_response", layout)
    for slot, name in ((8, "input"), (16, "output")):
        layout = Layout()
        member = layout.request()
        shared(layout, member + slot, 4096, b"x" * 4096)
        yield made(f"4096-{name}-names-in-one", "one name of 4 KiB 4,096 times", "request", layout)
    layout = Layout()
    places = layout.response(100)
    tables = [layout.table(16, 12, 4, 8) for _ in places]
    shape, data = layout.vector(1, struct.pack("<q", 5000), 4), layout.vector(5000, bytes(5000))
    for place, table in zip(places, tables, strict=True):
        layout.point(place, table)
        layout.bytes[table + 12] = 1
        layout.point(table + 4, shape)
        layout.point(table + 8, data)
    yield made("100-tensors-in-one", "a hundred tensors share their data", "infer_response", layout)
    layout = Layout()
    places = layout.response(1000)
    table = layout.numbers(places[0], 1, [1] * 32, b"\7")
    for place in places:
        layout.point(place, table)
    yield made("1000-shapes-in-one", "a thousand times a shape of 32 dimensions", "infer_response", layout)
    layout = Layout()
    top = layout.table(8, 0, 4)
    layout.point(0, top)
    places = layout.offsets(top + 4, 100)
    error = layout.table(12, 0, 4)
    layout.run(error + 4, b"x" * 5000)
    for place in places:
        layout.point(place, error)
    yield made("100-errors-in-one", "one error a hundred times, and no outputs", "infer_response", layout)
    layout = Layout()
    top = layout.table(12, 0, 0, 0, 0, 4, 8)
    layout.point(0, top)
    sides = [layout.offsets(top + 4, 50), layout.offsets(top + 8, 50)]
    one = layout.table(12, 4, 8)
    target = layout.run(one + 4, b"x" * 5000)
    layout.bytes[one + 8 : one + 12] = struct.pack("<I", target - one - 8)
    for place in [*sides[0], *sides[1]]:
        layout.point(place, one)
    yield made("100-descriptions-in-one", "one input a hundred times", "metadata_response", layout)
    layout = Layout()
    top = layout.table(20, 4, 8, 12, 16)
    layout.point(0, top)
    target = layout.vector(1000, b"x" * 1000)
    for place in range(top + 4, top + 20, 4):
        layout.point(place, target)
    yield made("4-texts-in-one", "name, version, server and description in one", "metadata_response", layout)
    layout = Layout()
    table = layout.tensor(layout.response(1)[0], 12)
    layout.shape(table + 4, [10])
    layout.run(table + 8, b"")
    shared(layout, table + 12, 10, b"x" * 20)
    layout.place(bytes(4 + 8 + 40 + 200 - 1 - len(layout.bytes)), 1)
    comment = "what is shared, counted each time, is one byte more than the message"
    yield made("one-byte-over-the-budget", comment, "infer_response", layout)


def _over_limits() -> Iterator[Value]:
    def made(name: str, comment: str, message: str, content: bytes | bytearray, *flags: str) -> Value:
        return _made(name, comment, ["limits", *flags], message, content)

    one_more = "one more than there may be"
    for slot, name in ((8, "input-names"), (16, "output-names"), (12, "inputs")):
        layout = Layout()
        member = layout.request()
        places = layout.offsets(member + slot, 4097)
        if name == "inputs":
            target = layout.table(12, 8, 0, 4)
            layout.bytes[target + 8] = 1
            layout.run(target + 4, b"\7")
        else:
            target = layout.vector(0, b"")
        for place in places:
            layout.point(place, target)
        yield made(f"4097-{name}", one_more, "request", bytes(layout.bytes) + bytes(4097))
    yield made("4097-outputs", one_more, "infer_response", many_outputs(4097))
    for name, slots, message in (
        ("errors", (0, 4), "infer_response"),
        ("described-inputs", (0, 0, 0, 0, 4), "metadata_response"),
        ("described-outputs", (0, 0, 0, 0, 0, 4), "metadata_response"),
    ):
        layout = Layout()
        top = layout.table(8, *slots)
        layout.point(0, top)
        places = layout.offsets(top + 4, 4097)
        target = layout.table(4)
        for place in places:
            layout.point(place, target)
        yield made(f"4097-{name}", one_more, message, layout.bytes)
    yield made("text-of-config", "one byte more than 16 MiB", "request", long_config(2**24 + 1), "large")
    layout = Layout()
    member = layout.request()
    layout.run(member + 4, b"x" * 2**23)
    layout.run(layout.offsets(member + 8, 1)[0], b"y" * 2**22)
    layout.run(layout.offsets(member + 16, 1)[0], b"z" * (2**22 + 1))
    comment = "config and names together one byte more than 16 MiB"
    yield made("text-of-config-and-names", comment, "request", layout.bytes, "large")
    layout = Layout()
    table = layout.tensor(layout.response(1)[0], 12)
    count = 2**24 + 1
    layout.shape(table + 4, [count])
    layout.run(table + 8, b"")
    vector_at = layout.vector(count, b"")
    layout.point(table + 12, vector_at)
    first = vector_at + 4
    # All offsets lead to one empty string behind them.
    offsets = np.arange(4 * count, 0, -4, dtype="<u4").tobytes()
    assert len(layout.bytes) == first
    yield made(
        "16-mi-strings-and-one", "one string more than there may be", "infer_response",
        bytes(layout.bytes) + offsets + bytes(4), "large", "strings",
    )  # fmt: skip
