"""Foreign bytes, read without trust.

A FlatBuffers message is a graph of offsets chosen by whoever wrote it. This reader follows none before it is checked: every
offset, table, vtable and vector must lie inside the message, offsets, tables and vtables must be aligned, and the lengths of
all vectors and strings together may not exceed the message, so that a small message cannot stand for a large one. Only
MalformedMessage leaves this file.
"""

from __future__ import annotations

import struct

import numpy as np

from graphpipe.errors import MalformedMessage

__all__ = ["Reader"]

_u16 = struct.Struct("<H").unpack_from
_u32 = struct.Struct("<I").unpack_from
_i32 = struct.Struct("<i").unpack_from
_i64 = struct.Struct("<q").unpack_from
_vtable_head = struct.Struct("<HH").unpack_from
_slots = tuple(struct.Struct(f"<{n}H").unpack_from for n in range(8))
_dims = tuple(struct.Struct(f"<{n}q").unpack_from for n in range(33))


class Reader:
    """One message being read.

    ``end`` is where the furthest structure seen so far ends: tables, vtables, vectors of offsets, names and shapes, but not
    tensor bytes. What lies beyond it had no influence on the reading.
    """

    __slots__ = ("_budget", "buffer", "end", "size")

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.end = 4
        self._budget = self.size

    def root(self) -> int:
        """The position of the root table."""
        if self.size < 8:
            raise MalformedMessage(f"a message has at least 8 bytes; {self.size} came")
        if self.size >= 2**31:
            raise MalformedMessage(f"a message has less than 2 GiB; {self.size} bytes came")
        return int(_u32(self.buffer, 0)[0])

    def table(self, position: int, slot_count: int) -> list[int]:
        """The absolute positions of a table's first fields, 0 for an absent one; the last entry is the table's end."""
        size = self.size
        if position & 3 or position + 4 > size:
            raise MalformedMessage(f"a table at byte {position} is misaligned or outside the message of {size} bytes")
        vtable = position - _i32(self.buffer, position)[0]
        if vtable & 1 or vtable < 0 or vtable + 4 > size:
            raise MalformedMessage(f"the vtable of the table at byte {position} is misaligned or outside the message")
        vtable_size, table_size = _vtable_head(self.buffer, vtable)
        if vtable_size & 1 or vtable_size < 4 or vtable + vtable_size > size:
            raise MalformedMessage(f"the vtable at byte {vtable} has an impossible size of {vtable_size}")
        end = position + table_size
        if table_size < 4 or end > size:
            raise MalformedMessage(f"the table at byte {position} has an impossible size of {table_size}")
        present = min((vtable_size - 4) >> 1, slot_count)
        fields = [0] * (slot_count + 1)
        for slot, offset in enumerate(_slots[present](self.buffer, vtable + 4)):
            if offset:
                if offset < 4 or offset >= table_size:
                    raise MalformedMessage(f"a field of the table at byte {position} lies outside the table")
                fields[slot] = position + offset
        fields[slot_count] = end
        vtable_end = vtable + vtable_size
        if end > self.end:
            self.end = end
        if vtable_end > self.end:
            self.end = vtable_end
        return fields

    def u8(self, field: int) -> int:
        """A one-byte scalar field (absent: 0). A table's fields are inside it, so one byte always is."""
        return self.buffer[field] if field else 0

    def i64(self, field: int, table_end: int) -> int:
        """An eight-byte scalar field (absent: 0)."""
        if not field:
            return 0
        if field + 8 > table_end:
            raise MalformedMessage(f"the number at byte {field} lies outside its table")
        return int(_i64(self.buffer, field)[0])

    def target(self, field: int, table_end: int) -> int:
        """Where an offset field points."""
        if field & 3 or field + 4 > table_end:
            raise MalformedMessage(f"the offset at byte {field} is misaligned or outside its table")
        offset: int = _u32(self.buffer, field)[0]
        if not offset or field + offset + 4 > self.size:
            raise MalformedMessage(f"the offset at byte {field} points at itself or outside the message")
        return field + offset

    def vector(self, field: int, table_end: int, item_size: int, what: str) -> tuple[int, int]:
        """The position of a vector's first element and the number of its elements (absent: none)."""
        if not field:
            return 0, 0
        position = self.target(field, table_end)
        return position + 4, self._spend(position, item_size, what)

    def _spend(self, position: int, item_size: int, what: str) -> int:
        count: int = _u32(self.buffer, position)[0]
        length = count * item_size
        if position + 4 + length > self.size:
            left = self.size - position - 4
            raise MalformedMessage(f"{what} claims {length} bytes, but only {left} are left in the message")
        self._budget -= length
        if self._budget < 0:
            raise MalformedMessage("the message's vectors and strings claim more bytes together than the message has")
        return count

    def _seen(self, end: int) -> None:
        if end > self.end:
            self.end = end

    def text(self, field: int, table_end: int, what: str) -> str:
        """A string field as text (absent: empty)."""
        return self._text_at(self.target(field, table_end), what) if field else ""

    def _text_at(self, position: int, what: str) -> str:
        start, length = position + 4, self._spend(position, 1, what)
        self._seen(start + length)
        try:
            return str(self.buffer[start : start + length], "utf-8")
        except UnicodeDecodeError:
            raise MalformedMessage(f"{what} is not UTF-8") from None

    def tables(self, field: int, table_end: int, count_max: int, what: str) -> list[int]:
        """The positions of the tables (or strings) that a vector of offsets points to."""
        start, count = self.vector(field, table_end, 4, what)
        if count > count_max:
            raise MalformedMessage(f"{what} has {count} entries; at most {count_max} are taken")
        if not count:
            return []
        self._seen(start + 4 * count)
        if start & 3:
            raise MalformedMessage(f"{what} at byte {start} is misaligned")
        size, buffer = self.size, self.buffer
        positions = []
        for at in range(start, start + 4 * count, 4):
            offset: int = _u32(buffer, at)[0]
            if not offset or at + offset + 4 > size:
                raise MalformedMessage(f"an entry of {what} points at itself or outside the message")
            positions.append(at + offset)
        return positions

    def texts(self, field: int, table_end: int, count_max: int, what: str) -> tuple[str, ...]:
        """A vector of strings as text."""
        return tuple([self._text_at(position, what) for position in self.tables(field, table_end, count_max, what)])

    def shape(self, field: int, table_end: int) -> tuple[int, ...]:
        """A vector of dimensions, as it stands (absent: a scalar's)."""
        start, count = self.vector(field, table_end, 8, "shape")
        if count > 32:
            raise MalformedMessage(f"a tensor has {count} dimensions; at most 32 are taken")
        self._seen(start + 8 * count)
        return _dims[count](self.buffer, start)

    def byte_strings(self, field: int, table_end: int, expected: int) -> list[bytes]:
        """A vector of strings as bytes, ``expected`` of them. Checked in bulk: a tensor may hold millions."""
        what = "string_val"
        start, count = self.vector(field, table_end, 4, what)
        if count != expected:
            raise MalformedMessage(f"a string tensor's shape asks for {expected} elements, but string_val has {count}")
        if not count:
            return []
        if start & 3:
            raise MalformedMessage(f"{what} at byte {start} is misaligned")
        words = np.frombuffer(self.buffer[: self.size & ~3], "<u4")
        offsets = words[start >> 2 : (start >> 2) + count].astype(np.int64)  # int64 keeps sums of 32-bit offsets exact
        positions = offsets + np.arange(start, start + 4 * count, 4, dtype=np.int64)
        if not offsets.all() or int(positions.max()) + 4 > self.size:
            raise MalformedMessage(f"an entry of {what} points at itself or outside the message")
        if (positions & 3).any():  # strange but legal: gather the lengths byte by byte
            octets = np.frombuffer(self.buffer, np.uint8)
            lengths = np.stack([octets[positions + i] for i in range(4)], axis=1).view("<u4")[:, 0].astype(np.int64)
        else:
            lengths = words[positions >> 2].astype(np.int64)
        starts = positions + 4
        ends = starts + lengths
        if int(ends.max()) > self.size:
            raise MalformedMessage(f"an entry of {what} reaches past the end of the message")
        self._budget -= int(lengths.sum())
        if self._budget < 0:
            raise MalformedMessage("the message's vectors and strings claim more bytes together than the message has")
        buffer = self.buffer
        return [bytes(buffer[a:b]) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
