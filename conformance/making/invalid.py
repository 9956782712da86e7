"""Messages that a careless writer might send, and that every reader refuses as malformed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from conformance.making.hand import Layout, field, follow, patched, root
from conformance.making.valid import SIX, TEXTS, THREE
from conformance.making.values import infer, io, metadata, response, tensor, vector
from conformance.making.writers import builder, ours

__all__ = ["cases"]

Value = dict[str, Any]

# What no reader may take for text. Bytes of a tensor's strings may be anything.
NOT_UTF8 = {
    "ff": b"\xff",
    "lone-continuation": b"a\x80",
    "cut-off": b"a\xe2\x82",
    "overlong": b"\xc0\xaf",
    "overlong-nul": b"\xc0\x80",
    "surrogate": b"\xed\xa0\x80",
    "beyond-unicode": b"\xf4\x90\x80\x80",
}


def cases() -> Iterator[Value]:
    """All of them."""
    yield from _no_messages()
    yield from _kinds()
    yield from _tensors()
    yield from _text()
    yield from _metadata()


def _made(name: str, comment: str, flags: list[str], message: str, content: bytes | bytearray) -> Value:
    return vector(f"invalid/{name}", comment, flags, message, content, "malformed")


def _no_messages() -> Iterator[Value]:
    for message in ("request", "infer_response", "metadata_response"):
        for name, content in (
            ("nothing", b""),
            ("one-byte", b"\4"),
            ("four-bytes", b"\4\0\0\0"),
            ("seven-bytes", b"\4\0\0\0\4\0\4"),
            ("zeros", bytes(64)),
            ("ones", b"\xff" * 64),
            ("html", b"<html><body>502 Bad Gateway</body></html>\n"),
            ("json", b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}'),
        ):
            comment = f"{name.replace('-', ' ')} in place of a message"
            yield _made(f"{name}-as-{message.replace('_', '-')}", comment, ["no-message"], message, content)


def _kinds() -> Iterator[Value]:
    for name, number in (("inference", 1), ("metadata", 2)):
        layout = Layout()
        top = layout.table(8, 4)
        layout.point(0, top)
        layout.bytes[top + 4] = number
        yield _made(f"{name}-without-body", "a kind, but nothing of it", ["kind"], "request", layout.bytes)
    layout = Layout()
    layout.point(0, layout.table(4))
    yield _made("request-without-fields", "neither a kind nor a body", ["kind"], "request", layout.bytes)


def _tensors() -> Iterator[Value]:
    six = struct.pack("<6f", *range(6))
    for name, comment, flags, made in (
        ("type-null", "a tensor of type Null", ["type"], tensor("null", [0], b"")),
        ("type-null-scalar", "a scalar of type Null", ["type"], tensor("null", [], b"")),
        ("type-13", "a type that there is not", ["type"], {**THREE, "type": 13}),
        ("type-255", "a type that there is not", ["type"], {**THREE, "type": 255}),
        ("too-much-data", "24 bytes for 4 elements of 4 bytes", ["shape"], tensor("float32", [2, 2], six)),
        ("too-little-data", "24 bytes for 7 elements of 4 bytes", ["shape"], tensor("float32", [7], six)),
        ("one-byte-less", "23 bytes for 6 elements of 4 bytes", ["shape"], tensor("float32", [2, 3], six[:-1])),
        ("one-byte-more", "25 bytes for 6 elements of 4 bytes", ["shape"], tensor("float32", [2, 3], six + b"\0")),
        ("scalar-with-more", "24 bytes for a scalar", ["scalar", "shape"], tensor("float32", [], six)),
        ("scalar-with-nothing", "no bytes for a scalar", ["scalar", "shape"], tensor("float32", [], b"")),
        ("empty-with-data", "24 bytes for no elements", ["empty", "shape"], tensor("float32", [0], six)),
        ("negative-dimension", "a dimension of -6", ["shape"], tensor("float32", [-6], six)),
        ("negative-one", "-1, which is for metadata alone", ["shape"], tensor("float32", [-1], six)),
        ("two-negative", "-2 times -3 is 6", ["shape"], tensor("float32", [-2, -3], six)),
        ("negative-and-empty", "a negative dimension beside a 0", ["empty", "shape"], tensor("uint8", [-1, 0], b"")),
        ("33-dimensions", "one more than there may be", ["limits", "shape"], tensor("uint8", [1] * 33, b"\0")),
        ("too-few-strings", "4 strings for 5 elements", ["shape", "strings"], {**TEXTS, "shape": ["5"]}),
        ("too-many-strings", "4 strings for 3 elements", ["shape", "strings"], {**TEXTS, "shape": ["3"]}),
        ("scalar-without-string", "no string for a scalar", ["scalar", "strings"], tensor("string", [], [])),
        ("empty-with-strings", "4 strings for no elements", ["empty", "strings"], {**TEXTS, "shape": ["0"]}),
        ("strings-as-data", "data in place of strings", ["strings"], tensor("string", [6], six)),
        ("data-as-strings", "strings in place of data", ["strings"], {**TEXTS, "type": "uint8"}),
    ):
        yield _made(name, comment, flags, "request", builder("request", infer([SIX, made, THREE])))
        content = builder("infer_response", response([SIX, made]))
        yield _made(f"{name}-answered", comment, flags, "infer_response", content)
    layout = Layout()
    table = layout.tensor(layout.response(1)[0], 1)
    layout.shape(table + 4, [3])
    layout.run(table + 8, b"\0\1\2")
    layout.run(layout.offsets(table + 12, 1)[0], b"x")
    yield _made("data-and-strings", "numbers, and a string beside them", ["strings"], "infer_response", layout.bytes)
    layout = Layout()
    table = layout.tensor(layout.response(1)[0], 12)
    layout.shape(table + 4, [1])
    layout.run(table + 8, b"\0\1\2")
    layout.run(layout.offsets(table + 12, 1)[0], b"x")
    yield _made(
        "strings-and-data", "a string, and bytes of data beside it", ["strings"], "infer_response", layout.bytes
    )
    for name, kind in (("numbers", 10), ("strings", 12)):
        layout = Layout()
        only = layout.response(1)[0]
        table = layout.table(12, 8, 4)
        layout.point(only, table)
        layout.bytes[table + 8] = kind
        layout.shape(table + 4, [2])
        comment = f"a shape of 2 and no {name}"
        yield _made(f"absent-{name}", comment, ["absent", "shape"], "infer_response", layout.bytes)
    layout = Layout()
    layout.point(layout.response(1)[0], layout.table(4))
    yield _made("tensor-without-fields", "a tensor without even a type", ["absent"], "infer_response", layout.bytes)


def _text() -> Iterator[Value]:
    mark = "ZQZQ"
    texts: tuple[tuple[str, str, Value], ...] = (
        ("input-name", "request", infer([SIX], [mark])),
        ("output-name", "request", infer([SIX], [], [mark])),
        ("config", "request", infer([SIX], config=mark)),
        ("error", "infer_response", response([], [(4, mark)])),
        ("name", "metadata_response", metadata(mark)),
        ("version", "metadata_response", metadata("", mark)),
        ("server", "metadata_response", metadata("", "", mark)),
        ("description", "metadata_response", metadata("", "", "", mark)),
        ("input", "metadata_response", metadata(inputs=[io(mark)])),
        ("output", "metadata_response", metadata(outputs=[io(mark)])),
        ("input-description", "metadata_response", metadata(inputs=[io("x", mark)])),
        ("output-description", "metadata_response", metadata(outputs=[io("x", mark)])),
    )
    for name, message, value in texts:
        for fault, raw in NOT_UTF8.items():
            if fault != "ff" and name not in ("input-name", "error", "description"):
                continue
            content = ours(message, value).replace(mark.encode(), raw.rjust(4, b"a"))
            comment = f"text ({name}) that is not UTF-8: {fault.replace('-', ' ')}"
            yield _made(f"utf8-{name}-{fault}", comment, ["utf8"], message, content)


def _metadata() -> Iterator[Value]:
    for name, comment, one in (
        ("33-dimensions", "one more than there may be", io("x", "", [1] * 33)),
        ("dimension-of-minus-2", "only -1 has a meaning", io("x", "", [-1, -2])),
    ):
        for side, value in (("input", metadata(inputs=[one])), ("output", metadata(outputs=[io("y"), one]))):
            content = builder("metadata_response", value)
            yield _made(f"{side}-{name}", comment, ["metadata"], "metadata_response", content)
    whole = ours("infer_response", response([], [(4, "it failed")]))
    errors = field(whole, root(whole), 1)
    for name, comment, at, offset in (
        ("outside", "an errors that points past the end", errors, len(whole)),
        ("entry-outside", "an error that stands past the end", follow(whole, errors) + 4, len(whole)),
    ):
        comment = f"{comment}, and no outputs"
        yield _made(f"errors-{name}", comment, ["errors"], "infer_response", patched(whole, at, "I", offset))
