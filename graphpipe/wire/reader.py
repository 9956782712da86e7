"""Foreign bytes, read without trust.

A FlatBuffers message is a graph of offsets chosen by whoever wrote it. This reader follows none before it is checked:
every offset, table, vtable and vector must lie inside the message; offsets, tables and vtables must be aligned; and the
lengths of all vectors and strings together may not exceed the message, so that a small message cannot stand for a large
one. Only MalformedMessage leaves this file, TooLarge, and what whoever reads raises himself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import MalformedMessage, TooLarge
from graphpipe.wire.dtypes import BYTES_MAX, NAME_BYTES_MAX, NDIM_MAX, STRINGS_MAX, TEXT_BYTES_MAX
from graphpipe.wire.memory import StringPlace

__all__ = ["Hold", "Reader"]

_u32 = struct.Struct("<I").unpack_from
_i32 = struct.Struct("<i").unpack_from
_i64 = struct.Struct("<q").unpack_from
_vtable_head = struct.Struct("<HH").unpack_from
# Slots of a vtable and dimensions of a shape, by their number. No table of the schema has more than six fields.
_slots = tuple(struct.Struct(f"<{n}H").unpack_from for n in range(7))
_dims = tuple(struct.Struct(f"<{n}q").unpack_from for n in range(NDIM_MAX + 1))

# Strings are read in runs of this many, so that the arrays needed on the way stay small.
_STRINGS_AT_ONCE = 1 << 14
# A run of strings that fills no more than this many bytes for each is copied at once and then cut, which is faster.
_DENSE_BYTES = 256


# Is told of strings, and of the bytes that they have, which are to be in an array; it may raise.
Hold = Callable[[NDArray[Any], int, int], None]


class Reader:
    """One message being read.

    ``structures`` are the places, from and to, of all that was looked at so far: tables, vtables, vectors of offsets,
    names, shapes and the lengths of vectors, but not the bytes of tensors and of their strings. What lies elsewhere had no
    influence on the reading. ``unspent`` is the part of the message's size that no vector or string has claimed yet.
    """

    __slots__ = ("_hold", "_strings", "_strings_max", "_text_left", "buffer", "size", "structures", "unspent")

    def __init__(self, buffer: memoryview, strings_max: int = STRINGS_MAX, hold: Hold | None = None) -> None:
        self.buffer = buffer
        self.size = self.unspent = len(buffer)
        self.structures: list[tuple[int, int]] = [(0, 4)]
        self._text_left = TEXT_BYTES_MAX
        self._strings_max = strings_max
        self._hold = hold
        self._strings = 0

    @property
    def claimed(self) -> int:
        """What all vectors and strings that were read say that they hold."""
        return self.size - self.unspent

    def root(self) -> int:
        """The position of the root table."""
        if self.size < 8:
            raise MalformedMessage(f"a message has at least 8 bytes; {self.size} came")
        if self.size >= BYTES_MAX:
            raise MalformedMessage(f"a message has less than 2 GiB; {self.size} bytes came")
        position: int = _u32(self.buffer, 0)[0]
        return position

    def table(self, position: int, slot_count: int) -> list[int]:
        """The absolute positions of a table's first fields, 0 for an absent one; the last entry is the table's end."""
        buffer, size = self.buffer, self.size
        if position & 3 or position + 4 > size:
            raise MalformedMessage(f"a table at byte {position} is misaligned or outside the message of {size} bytes")
        vtable = position - _i32(buffer, position)[0]
        if vtable & 1 or vtable < 0 or vtable + 4 > size:
            raise MalformedMessage(f"the vtable of the table at byte {position} is misaligned or outside the message")
        vtable_size, table_size = _vtable_head(buffer, vtable)
        vtable_end = vtable + vtable_size
        if vtable_size & 1 or vtable_size < 4 or vtable_end > size:
            raise MalformedMessage(f"the vtable at byte {vtable} has an impossible size of {vtable_size}")
        end: int = position + table_size
        if table_size < 4 or end > size:
            raise MalformedMessage(f"the table at byte {position} has an impossible size of {table_size}")
        # A vtable may be shorter (fields left out at its end) or longer (fields of a later schema) than ours.
        present = min((vtable_size - 4) >> 1, slot_count)
        fields = []
        for offset in _slots[present](buffer, vtable + 4):
            if not offset:
                fields.append(0)
            elif 4 <= offset < table_size:
                fields.append(position + offset)
            else:
                raise MalformedMessage(f"a field of the table at byte {position} lies outside the table")
        if present < slot_count:
            fields += [0] * (slot_count - present)
        fields.append(end)
        self.structures += ((position, end), (vtable, vtable_end))
        return fields

    def u8(self, field: int) -> int:
        """A one-byte scalar field (absent: 0). A table's fields start inside it, so one byte always is."""
        return self.buffer[field] if field else 0

    def i64(self, field: int, table_end: int) -> int:
        """An eight-byte scalar field (absent: 0)."""
        if not field:
            return 0
        if field + 8 > table_end:
            raise MalformedMessage(f"the number at byte {field} lies outside its table")
        return int(_i64(self.buffer, field)[0])

    def target(self, field: int, table_end: int) -> int:
        """Where an offset field points: four bytes from there are inside the message."""
        if field & 3 or field + 4 > table_end:
            raise MalformedMessage(f"the offset at byte {field} is misaligned or outside its table")
        position: int = field + _u32(self.buffer, field)[0]
        if position == field or position + 4 > self.size:
            raise MalformedMessage(f"the offset at byte {field} points at itself or outside the message")
        return position

    def data(self, field: int, table_end: int) -> tuple[int, int]:
        """The position of a tensor's first byte and the number of its bytes (absent: none)."""
        start, length = self._vector(field, table_end, 1, "data")
        if start:
            self.structures.append((start - 4, start))
        return start, length

    def vector(self, field: int, table_end: int, item_size: int, what: str) -> tuple[int, int]:
        """The position of a vector's first element and the number of its elements (absent: none)."""
        start, count = self._vector(field, table_end, item_size, what)
        if start:
            self.structures.append((start - 4, start + count * item_size))
        return start, count

    def _vector(self, field: int, table_end: int, item_size: int, what: str) -> tuple[int, int]:
        if not field:
            return 0, 0
        position = self.target(field, table_end)
        count: int = _u32(self.buffer, position)[0]
        length = count * item_size
        if position + 4 + length > self.size:
            raise self._too_long(what, position, length)
        self.unspent -= length
        if self.unspent < 0:
            raise _overspent()
        return position + 4, count

    def text(self, field: int, table_end: int, what: str) -> str:
        """A string field as text (absent: empty)."""
        return self._text_at(self.target(field, table_end), what) if field else ""

    def names(self, field: int, table_end: int, count_max: int, what: str) -> tuple[str, ...]:
        """A vector of names."""
        positions = self.tables(field, table_end, count_max, what)
        return tuple([self._text_at(position, what, NAME_BYTES_MAX) for position in positions])

    def _text_at(self, position: int, what: str, bytes_max: int = TEXT_BYTES_MAX) -> str:
        start = position + 4
        length: int = _u32(self.buffer, position)[0]
        end = start + length
        if end > self.size:
            raise self._too_long(what, position, length)
        self.unspent -= length
        if self.unspent < 0:
            raise _overspent()
        self._text_left -= length
        if self._text_left < 0:
            raise MalformedMessage(f"the message has more than {TEXT_BYTES_MAX} bytes of names and other text")
        if length > bytes_max:
            raise MalformedMessage(f"{what} has a name of {length} bytes; at most {bytes_max} are taken")
        self.structures.append((position, end))
        try:
            return self.buffer[start:end].tobytes().decode()
        except UnicodeDecodeError:
            raise MalformedMessage(f"{what} is not UTF-8") from None

    def tables(self, field: int, table_end: int, count_max: int, what: str) -> list[int]:
        """The positions of the tables (or strings) that a vector of offsets points to."""
        start, count = self.vector(field, table_end, 4, what)
        if count > count_max:
            raise MalformedMessage(f"{what} has {count} entries; at most {count_max} are taken")
        end = start + 4 * count
        if start & 3:
            raise MalformedMessage(f"{what} at byte {start} is misaligned")
        buffer, last = self.buffer, self.size - 4
        positions = []
        for at in range(start, end, 4):
            position = at + _u32(buffer, at)[0]
            if position == at or position > last:
                raise MalformedMessage(f"an entry of {what} points at itself or outside the message")
            positions.append(position)
        return positions

    def shape(self, field: int, table_end: int) -> tuple[int, ...]:
        """A vector of dimensions, as it stands (absent: a scalar's)."""
        start, count = self.vector(field, table_end, 8, "shape")
        if count > NDIM_MAX:
            raise MalformedMessage(f"a tensor has {count} dimensions; at most {NDIM_MAX} are taken")
        return _dims[count](self.buffer, start)

    def string_place(self, field: int, table_end: int, expected: int) -> StringPlace:
        """Where a vector of strings has its offsets, ``expected`` of them; the strings themselves are not looked at yet.

        Raises TooLarge where the message is allowed fewer strings than the wire allows.
        """
        start, count = self.vector(field, table_end, 4, "string_val")
        if count != expected:
            raise MalformedMessage(f"a string tensor's shape asks for {expected} elements, but string_val has {count}")
        if start & 3:
            raise MalformedMessage(f"string_val at byte {start} is misaligned")
        self._strings += count
        if self._strings > STRINGS_MAX:
            raise MalformedMessage(f"the message has {self._strings} strings; at most {STRINGS_MAX} are taken")
        if self._strings > self._strings_max:
            raise TooLarge(
                f"the message has {self._strings} strings or more; at most {self._strings_max} are taken: send fewer rows"
            )
        return StringPlace(start, count)

    def strings(self, place: StringPlace) -> NDArray[Any]:
        """The strings of a tensor, as an array of bytes objects.

        Checked and cut in runs, so that what is needed on the way stays small, and other threads have their turn.
        """
        array = np.empty(place.number, object)
        # Where they are made at once, all is said of them at once.
        ahead = place.number if place.number > _STRINGS_AT_ONCE else 0
        if self._hold is not None and ahead:
            self._hold(array, ahead, 0)
        unspent = self.unspent
        for at in range(0, place.number, _STRINGS_AT_ONCE):
            run = array[at : at + _STRINGS_AT_ONCE]
            start = place.start + 4 * at
            run[:] = self._run_of_strings(start, start + 4 * len(run))
        if self._hold is not None:
            self._hold(array, place.number - ahead, unspent - self.unspent)
        return array

    def _run_of_strings(self, start: int, end: int) -> list[bytes]:
        """The strings that the offsets from ``start`` to ``end`` point to."""
        buffer = self.buffer
        words = np.frombuffer(buffer[: self.size & ~3], "<u4")
        offsets = words[start >> 2 : end >> 2].astype(np.int64)  # int64 keeps sums of 32-bit offsets exact
        positions = offsets + np.arange(start, end, 4, dtype=np.int64)
        if not offsets.all() or int(positions.max()) + 4 > self.size:
            raise MalformedMessage("an entry of string_val points at itself or outside the message")
        if (positions & 3).any():  # strange but legal: gather the lengths byte by byte
            octets = np.frombuffer(buffer, np.uint8)
            lengths = np.stack([octets[positions + i] for i in range(4)], axis=1).view("<u4")[:, 0].astype(np.int64)
        else:
            lengths = words[positions >> 2].astype(np.int64)
        starts = positions + 4
        ends = starts + lengths
        first, last = int(starts.min()), int(ends.max())
        if last > self.size:
            raise MalformedMessage("an entry of string_val reaches past the end of the message")
        self.unspent -= int(lengths.sum())
        if self.unspent < 0:
            raise _overspent()
        if last - first <= _DENSE_BYTES * len(starts):
            run = buffer[first:last].tobytes()
            return [run[a:b] for a, b in zip((starts - first).tolist(), (ends - first).tolist(), strict=True)]
        return [buffer[a:b].tobytes() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def _too_long(self, what: str, position: int, length: int) -> MalformedMessage:
        left = self.size - position - 4
        return MalformedMessage(f"{what} claims {length} bytes, but only {left} are left in the message")


def _overspent() -> MalformedMessage:
    return MalformedMessage("the message's vectors and strings claim more bytes together than the message has")
