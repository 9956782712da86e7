"""What decoders have been found to disagree about: vtables and tables in odd places, fields outside of their table."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.making.hand import Layout, field, follow, patched, root, vtable
from conformance.making.tree import Byte, Dims, Long, Outside, Table, message
from conformance.making.valid import SIX, THREE
from conformance.making.values import infer, io, metadata, response, tensor, vector
from conformance.making.writers import ours

__all__ = ["refused", "valid"]

Value = dict[str, Any]
_TENSOR = Table((Byte(1), Dims([3]), b"\0\1\2"))
_ERROR = Table((Long(4), b"no"))


def valid() -> Iterator[Value]:
    """Messages that every reader takes."""
    yield from _marks()
    yield from _vtables()
    yield from _broken_errors()
    yield from _many_strings()


def refused() -> Iterator[Value]:
    """Messages that no reader takes."""
    for kind, name, tables in _leaves():
        for remainder in (1, 2, 3):
            comment = f"a table of {name.replace('-', ' ')} at {remainder} modulo 4"
            content = message(tables(Table((), remainder)))
            yield _refused(f"{name}-at-{remainder}", comment, ["alignment", "table"], kind, content)
        for size in (0, 1, 2, 3):
            comment = f"a table of {name.replace('-', ' ')} without fields, of {size} bytes"
            content = message(tables(Table((), size=size)))
            yield _refused(f"{name}-of-{size}-bytes", comment, ["table"], kind, content)
    for name, slots in (
        ("errors", (None, Outside())),
        ("errors-and-no-outputs", ([], Outside())),
        ("outputs", (Outside(), None)),
        ("outputs-and-errors", (Outside(), [_ERROR])),
    ):
        comment = f"{name.replace('-', ' ')} outside of the table"
        yield _refused(f"outside-{name}", comment, ["errors", "table"], "infer_response", message(Table(slots)))
    for place in (1, 2, 3, 5, 6, 7, 9, 10, 11, 12):
        content = message(Table(([], [_ERROR])))
        top = root(content)
        content = patched(content, vtable(content, top) + 6, "H", place)
        comment = f"errors at {place} of a table of 12 bytes, and no outputs"
        yield _refused(f"errors-at-{place}", comment, ["errors", "table"], "infer_response", content)
    content = message(Table((b"n", b"v", b"s", b"d", [], [])))
    top = root(content)
    for slot in range(6):
        for place in (1, 3, 6, 26, 27, 28):
            changed = patched(content, vtable(content, top) + 4 + 2 * slot, "H", place)
            comment = f"field {slot} at {place} of a table of 28 bytes"
            yield _refused(f"metadata-{slot}-at-{place}", comment, ["metadata", "table"], "metadata_response", changed)

    yield from _at_the_edges()


def _at_the_edges() -> Iterator[Value]:
    """One byte less than is needed, one more than is allowed, right but for its place."""
    for by in (1, 3):
        layout = Layout()
        top = layout.place(bytes(8))
        layout.point(0, top)
        at = layout.place(bytes(by) + struct.pack("<HHH", 6, 8, 4)) + by
        struct.pack_into("<i", layout.bytes, top, top - at)
        layout.offsets(top + 4, 0)
        comment = f"a good vtable at {by} modulo 4"
        yield _refused(f"good-vtable-at-{by}", comment, ["alignment", "vtable"], "infer_response", bytes(layout.bytes))
    content = struct.pack("<II", 12, 0) + bytes(4) + b"\4\0\0"
    yield _refused("root-in-the-last-3-bytes", "a root of 3 bytes", ["table"], "infer_response", content)
    content = struct.pack("<Ii", 4, -4) + b"\4\0\4"
    yield _refused("vtable-in-the-last-3-bytes", "a vtable of 3 bytes", ["vtable"], "infer_response", content)
    for place in (1, 2, 3):
        one = message(Table((b"", b"", b"", b"", [Table((None, None, None, Byte(0)))], [])))
        table = _first(one, 4)
        content = patched(one, vtable(one, table) + 10, "H", place)
        comment = f"a type at {place} of its table, within the offset to the vtable"
        yield _refused(f"type-at-{place}", comment, ["metadata", "table"], "metadata_response", content)
    for by in (1, 2, 3):
        layout = Layout()
        table = layout.tensor(layout.response(1)[0], 12)
        layout.shape(table + 4, [0])
        layout.run(table + 8, b"")
        layout.point(table + 12, layout.vector(0, b"", by))
        layout.place(bytes(8))
        comment = f"an empty vector of strings at {by} modulo 4"
        yield _refused(f"no-strings-at-{by}", comment, ["alignment", "strings"], "infer_response", bytes(layout.bytes))
    comment = "what is shared, counted each time, is one byte more than the message: the last of it a tensor's data"
    yield _refused("data-over-the-budget", comment, ["budget", "sharing"], "infer_response", _shared_data()[:-1])
    for name, texts in (("in-two", (2**23, 2**23 + 1)), ("in-four", (2**22, 2**22, 2**22, 2**22 + 1))):
        content = message(Table([b"x" * count for count in texts]))
        comment = f"one byte more than 16 MiB of text, {name.replace('-', ' ')}"
        yield _refused(f"text-{name}", comment, ["large", "limits"], "metadata_response", content)


def _shared_data() -> bytes:
    """Two tensors of 1,000 bytes that are the same, in a message that is as long as all that they claim."""
    layout = Layout()
    first, second = layout.response(2)
    layout.point(second, layout.numbers(first, 1, [1000], bytes(1000)))
    return bytes(layout.bytes) + bytes(2 * (4 + 8 + 1000) - len(layout.bytes))


def _first(content: bytes, slot: int) -> int:
    """The first table of the vector in a field of the root."""
    vector = follow(content, field(content, root(content), slot))
    return follow(content, vector + 4)


def _refused(name: str, comment: str, flags: list[str], kind: str, content: bytes) -> Value:
    return vector(f"attacks/{name}", comment, flags, kind, content, "malformed")


def _leaves() -> Iterator[tuple[str, str, Any]]:
    """Tables that may be without fields, each in a message."""
    yield "request", "metadata-request", lambda leaf: Table((Byte(2), leaf))
    yield "request", "infer-request", lambda leaf: Table((Byte(1), leaf))
    yield "infer_response", "error", lambda leaf: Table(([], [leaf]))
    yield "metadata_response", "input", lambda leaf: Table((b"", b"", b"", b"", [leaf], []))
    yield "metadata_response", "output", lambda leaf: Table((b"", b"", b"", b"", [], [leaf]))


def _taken(name: str, comment: str, flags: list[str], kind: str, content: bytes | bytearray, value: Value) -> Value:
    return vector(f"valid/{name}", comment, flags, kind, content, value)


def _marks() -> Iterator[Value]:
    """U+FEFF is a character like any other."""
    mark = "\ufeff"
    for name, kind, value in (
        ("names", "request", infer([SIX], [f"{mark}x", mark], [f"{mark}{mark}y"], f"{mark}config")),
        ("error", "infer_response", response([], [(4, f"{mark}it failed")])),
        (
            "metadata",
            "metadata_response",
            metadata(*(f"{mark}{text}" for text in "nvsd"), [io(f"{mark}x", mark)], [io(mark, f"{mark} y")]),
        ),
    ):
        comment = "text that begins with U+FEFF, which stays"
        yield _taken(f"feff-in-{name}", comment, ["names", "unicode"], kind, ours(kind, value), value)


def _vtables() -> Iterator[Value]:
    one = response([THREE])
    content = bytearray(message(Table(([_TENSOR],))))
    top = root(content)
    where = vtable(content, top)
    behind = len(content)
    content += content[where : where + 6] + b"\0\0"
    struct.pack_into("<i", content, top, top - behind)
    comment = "a vtable behind its table"
    yield _taken("vtable-behind", comment, ["by-hand", "vtable"], "infer_response", content, one)
    del content[behind + 6 :]
    comment = "a vtable that ends with the message"
    yield _taken("vtable-at-the-end", comment, ["by-hand", "vtable"], "infer_response", content, one)
    layout = Layout()
    top = layout.place(bytes(16))
    # The table is its own vtable, from its fifth byte on: 6 bytes, for a table of 16, with one field, at 12.
    layout.bytes[top : top + 12] = struct.pack("<iHHHH", -4, 6, 16, 12, 0)
    layout.point(0, top)
    layout.numbers(layout.offsets(top + 12, 1)[0], 1, [3], b"\0\1\2")
    comment = "a vtable within its table"
    yield _taken("vtable-within", comment, ["by-hand", "vtable"], "infer_response", layout.bytes, one)
    layout = Layout()
    top = layout.table(8, 4, 4)
    layout.point(0, top)
    layout.offsets(top + 4, 0)
    comment = "outputs and errors are the same field, and empty"
    yield _taken("one-field-twice", comment, ["by-hand", "vtable"], "infer_response", layout.bytes, response())
    layout = Layout()
    top = layout.table(8, 4, 4, 4, 4)
    layout.point(0, top)
    layout.run(top + 4, b"same")
    layout.place(bytes(32))
    value = metadata("same", "same", "same", "same")
    comment = "four texts are the same field"
    yield _taken("one-text-four-times", comment, ["by-hand", "vtable"], "metadata_response", layout.bytes, value)
    layout = Layout()
    only = layout.response(1)[0]
    table = layout.table(12, 8, 4, 8)
    layout.point(only, table)
    layout.shape(table + 4, [3])
    at = layout.place(struct.pack("<I", 3) + b"\0\1\2", 256, (table + 8 + 1) % 256)
    layout.point(table + 8, at)  # the offset's lowest byte is 1: uint8
    comment = "a type that is a byte of the offset to the data"
    yield _taken("type-within-an-offset", comment, ["by-hand", "vtable"], "infer_response", layout.bytes, one)
    layout = Layout()
    top = layout.table(8, 4)
    layout.point(0, top)
    layout.numbers(layout.offsets(top + 4, 1)[0], 1, [3], b"\0\1\2")
    where = vtable(layout.bytes, top)
    slots = struct.pack("<HHH", 0xFFFE, 8, 4) + bytes(0xFFFE - 6)
    layout.bytes += bytes(-len(layout.bytes) % 2)
    struct.pack_into("<i", layout.bytes, top, top - len(layout.bytes))
    layout.bytes += slots
    comment = "a vtable as long as one can be"
    yield _taken("vtable-of-64-kib", comment, ["by-hand", "vtable"], "infer_response", layout.bytes, one)
    layout = Layout()
    only = layout.response(1)[0]
    layout.numbers(only, 1, [3], b"\0\1\2")
    top = root(layout.bytes)
    comment = "a table that reaches to the end of the message, over all that follows it"
    size = len(layout.bytes) - top
    content = bytearray(patched(layout.bytes, vtable(layout.bytes, top) + 2, "H", size))
    yield _taken("table-up-to-the-end", comment, ["by-hand", "vtable"], "infer_response", content, one)

    content = struct.pack("<I", 0x0004_0004) + bytes(0x0004_0000) + struct.pack("<i", 0x0004_0004)
    comment = "a vtable at the first byte: the root's offset says that it has 4 bytes, as has the root"
    yield _taken("vtable-at-0", comment, ["by-hand", "vtable"], "infer_response", content, response())
    content = struct.pack("<Ii", 4, -4) + struct.pack("<HH", 4, 4)
    comment = "the shortest message there is, its vtable last"
    yield _taken("of-12-bytes", comment, ["by-hand", "vtable"], "infer_response", content, response())
    twice = tensor("uint8", [1000], bytes(1000))
    comment = "what is shared, counted each time, is as long as the message: the last of it a tensor's data"
    flags = ["budget", "by-hand", "sharing"]
    yield _taken("data-up-to-the-budget", comment, flags, "infer_response", _shared_data(), response([twice, twice]))
    texts = (2**22, 2**22, 2**22, 2**22)
    value = {
        **metadata(),
        **{name: {"repeat": "x", "times": 2**22} for name in ("name", "version", "server", "description")},
    }
    comment = "16 MiB of text in four"
    content = message(Table([b"x" * count for count in texts]))
    yield _taken("16-mib-in-four", comment, ["by-hand", "large", "limits"], "metadata_response", content, value)


def _broken_errors() -> Iterator[Value]:
    """An errors that is none, beside outputs, is as if it were not there."""
    one = response([THREE])

    def made(name: str, comment: str, content: bytes | bytearray, value: Value = one) -> Value:
        comment = f"{comment}: as if absent, since there are outputs"
        return _taken(f"broken-errors-{name}", comment, ["by-hand", "errors"], "infer_response", content, value)

    whole = message(Table(([_TENSOR], [_ERROR])))
    place = vtable(whole, root(whole)) + 6
    for at in (1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 0xFFFF):
        comment = f"a field of errors at {at} of a table of 12 bytes"
        yield made(f"at-{at}", comment, patched(whole, place, "H", at))
    for remainder in (1, 2, 3):
        comment = f"an error at {remainder} modulo 4"
        yield made(f"table-at-{remainder}", comment, message(Table(([_TENSOR], [Table((), remainder)]))))
    for size in (0, 1, 2, 3):
        comment = f"an error of {size} bytes"
        yield made(f"table-of-{size}", comment, message(Table(([_TENSOR], [Table((), size=size)]))))
    for name, error in (
        ("code-outside", Table((Outside(), b"no"))),
        ("words-outside", Table((Long(1), Outside()))),
        ("code-cut-off", Table((Long(1),), size=8)),
    ):
        yield made(name, f"an error: {name.replace('-', ' ')}", message(Table(([_TENSOR], [error]))))
    yield made("second", "a good error and a broken one", message(Table(([_TENSOR], [_ERROR, Table((), 1)]))))
    # One string ten times leaves nothing of the message's length for the errors, or just enough.
    for name, left, errors in (("no-budget", 4 + 5, []), ("all-of-the-budget", 4 + 6, [(0, "errors")])):
        layout = Layout()
        top = layout.table(12, 4, 8)
        layout.point(0, top)
        table = layout.tensor(layout.offsets(top + 4, 1)[0], 12)
        layout.shape(table + 4, [10])
        layout.run(table + 8, b"")
        places = layout.offsets(table + 12, 10)
        target = layout.run(places[0], b"x" * 50)
        for each in places:
            layout.point(each, target)
        only = layout.offsets(top + 8, 1)[0]
        error = layout.table(8, 0, 4)
        layout.point(only, error)
        layout.run(error + 4, b"errors")
        layout.bytes += bytes(4 + 8 + 40 + 500 + left - len(layout.bytes))
        value = response([tensor("string", [10], [b"x" * 50] * 10)], errors)
        comment = "errors that the outputs have left " + (
            "too little of the message's length" if not errors else "enough"
        )
        yield _taken(f"errors-{name}", comment, ["budget", "by-hand", "errors"], "infer_response", layout.bytes, value)


def _many_strings() -> Iterator[Value]:
    """More strings than a server takes unless it is told to, up to as many as there may be."""
    for name, count, flags in (("1-mi-strings-and-one", 2**20 + 1, []), ("16-mi-strings", 2**24, ["huge"])):
        layout = Layout()
        table = layout.tensor(layout.response(1)[0], 12)
        layout.shape(table + 4, [count])
        layout.run(table + 8, b"")
        layout.point(table + 12, layout.vector(count, b""))
        offsets = np.arange(4 * count, 0, -4, dtype="<u4").tobytes()
        value = response([{**tensor("string", [count], []), "strings": {"repeat": [""], "times": count}}])
        comment = f"one empty string {count:,} times"
        content = bytes(layout.bytes) + offsets + bytes(4)
        yield _taken(name, comment, ["by-hand", "large", "limits", "strings", *flags], "infer_response", content, value)
