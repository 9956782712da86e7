"""What a writer does (docs/wire.md), checked on bytes that an adapter wrote."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from conformance.making.hand import follow, root, vtable

__all__ = ["faults"]


def faults(kind: str, message: bytes, value: dict[str, Any]) -> list[str]:
    """What is not as it should be. The message is one that every reader takes."""
    return list(_faults(kind, message, value))


def _faults(kind: str, message: bytes, value: dict[str, Any]) -> Iterator[str]:
    top = root(message)
    if kind == "request":
        body = _target(message, top, 1)
        if value["type"] == "infer":
            assert body
            yield from _text(message, body, 0, "config")
            yield from _entries(message, body, 1, "input_names")
            yield from _entries(message, body, 3, "output_names")
            yield from _tensors(message, _target(message, body, 2), "input_tensors")
    elif kind == "infer_response":
        yield from _tensors(message, _target(message, top, 0), "output_tensors")
        errors = _target(message, top, 1)
        if errors is not None and not value["errors"]:
            yield "errors is there, though there are none: the originals take that for a failure"
        for error in _each(message, errors):
            yield from _text(message, error, 1, "an error's message")
    else:
        for slot, name in enumerate(("name", "version", "server", "description")):
            yield from _text(message, top, slot, name)
        for slot, name in ((4, "inputs"), (5, "outputs")):
            vector = _target(message, top, slot)
            if vector is None:
                yield f"{name} is absent"
            for io in _each(message, vector):
                yield from _text(message, io, 0, "a name")
                yield from _text(message, io, 1, "a description")
                if _target(message, io, 2) is None:
                    yield "the shape of an input or output is absent"


def _tensors(message: bytes, vector: int | None, what: str) -> Iterator[str]:
    if vector is None:
        yield f"{what} is absent"
    tables, first_data = 0, len(message)
    for i, tensor in enumerate(_each(message, vector)):
        tables = max(tables, tensor)
        if _target(message, tensor, 1) is None:
            yield f"tensor {i} has no shape"
        kind = message[tensor + _place(message, tensor, 0)]
        content = _target(message, tensor, 3 if kind == 12 else 2)
        if content is None:
            yield f"tensor {i} has no data"
        elif kind == 12:
            for string in _each(message, content):
                yield from _ends_in_nul(message, string, f"a string of tensor {i}")
        else:
            first_data = min(first_data, content)
            if (content + 4) % 64 and struct.unpack_from("<I", message, content)[0]:
                yield f"the data of tensor {i} starts at {(content + 4) % 64} modulo 64"
    if tables > first_data:
        yield "a tensor's table stands behind a tensor's data"


def _entries(message: bytes, table: int, slot: int, what: str) -> Iterator[str]:
    vector = _target(message, table, slot)
    if vector is None:
        yield f"{what} is absent"
    for text in _each(message, vector):
        yield from _ends_in_nul(message, text, what)


def _text(message: bytes, table: int, slot: int, what: str) -> Iterator[str]:
    at = _target(message, table, slot)
    if at is None:
        yield f"{what} is absent"
    else:
        yield from _ends_in_nul(message, at, what)


def _ends_in_nul(message: bytes, at: int, what: str) -> Iterator[str]:
    end = at + 4 + struct.unpack_from("<I", message, at)[0]
    if message[end : end + 1] != b"\0":
        yield f"{what} does not end in NUL"


def _place(message: bytes, table: int, slot: int) -> int:
    """Where in its table a field stands; 0 if it is absent."""
    where = vtable(message, table)
    length = struct.unpack_from("<H", message, where)[0]
    return int(struct.unpack_from("<H", message, where + 4 + 2 * slot)[0]) if 6 + 2 * slot <= length else 0


def _target(message: bytes, table: int, slot: int) -> int | None:
    place = _place(message, table, slot)
    return follow(message, table + place) if place else None


def _each(message: bytes, vector: int | None) -> Iterator[int]:
    """What the offsets of a vector lead to."""
    if vector is not None:
        for i in range(struct.unpack_from("<I", message, vector)[0]):
            yield follow(message, vector + 4 + 4 * i)
