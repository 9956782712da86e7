"""Messages as trees of tables with any fields, known to the schema or not, written front to back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conformance.making.hand import Layout

__all__ = ["Byte", "Dims", "Long", "Outside", "Table", "Word", "message"]


@dataclass(frozen=True)
class Byte:
    """A field of one byte."""

    number: int


@dataclass(frozen=True)
class Word:
    """A field of four bytes: an offset that nobody made."""

    number: int


@dataclass(frozen=True)
class Long:
    """A field of eight bytes."""

    number: int


@dataclass(frozen=True)
class Outside:
    """A field that its vtable puts outside of the table."""

    place: int = 0xFFFF


@dataclass(frozen=True)
class Dims:
    """A vector of dimensions."""

    numbers: Sequence[int] = ()


@dataclass(frozen=True)
class Table:
    """A table: a field for each slot, None for one that is absent. Bytes are a string, a list is a vector of offsets.

    ``remainder`` is where it starts modulo 4, ``size`` what its vtable says of its size (None: the truth).
    """

    slots: Sequence[Any] = ()
    remainder: int = 0
    size: int | None = None


def message(top: Table) -> bytes:
    """The bytes of a message with this root."""
    layout = Layout()
    layout.point(0, _place(layout, top))
    layout.place(bytes(8))  # so that what is read past an end is still in the message
    return bytes(layout.bytes)


def _place(layout: Layout, node: Any) -> int:
    if isinstance(node, Table):
        return _table(layout, node)
    if isinstance(node, Dims):
        return layout.vector(len(node.numbers), struct.pack(f"<{len(node.numbers)}q", *node.numbers), 4)
    if isinstance(node, bytes):
        return layout.vector(len(node), node + b"\0")
    at = layout.vector(len(node), bytes(4 * len(node)))
    for i, each in enumerate(node):
        layout.point(at + 4 + 4 * i, _place(layout, each))
    return at


def _table(layout: Layout, table: Table) -> int:
    inline, places, children = bytearray(4), [], []
    for slot in table.slots:
        if slot is None or isinstance(slot, Outside):
            places.append(slot.place if slot else 0)
            continue
        places.append(len(inline))
        if isinstance(slot, Byte):
            inline += bytes((slot.number, 0, 0, 0))
        elif isinstance(slot, Word):
            inline += struct.pack("<I", slot.number)
        elif isinstance(slot, Long):
            inline += struct.pack("<q", slot.number)
        else:
            children.append((len(inline), slot))
            inline += bytes(4)
    size = len(inline) if table.size is None else table.size
    vtable = layout.place(struct.pack(f"<{2 + len(places)}H", 4 + 2 * len(places), size, *places), 2)
    at = layout.place(bytes(inline), 4, table.remainder)
    struct.pack_into("<i", layout.bytes, at, at - vtable)
    for place, child in children:
        layout.point(at + place, _place(layout, child))
    return at
