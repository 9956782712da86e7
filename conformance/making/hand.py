"""Messages put together by hand, where no writer would put things, and messages with one number changed."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["Layout", "field", "follow", "patched", "root", "vtable"]


class Layout:
    """A message front to back. Whatever is placed gives its position; ``point`` closes an offset."""

    def __init__(self) -> None:
        self.bytes = bytearray(4)

    def place(self, raw: bytes, modulus: int = 4, remainder: int = 0) -> int:
        """Put bytes at the next position that leaves ``remainder``."""
        self.bytes += bytes((remainder - len(self.bytes)) % modulus)
        at = len(self.bytes)
        self.bytes += raw
        return at

    def table(self, size: int, *slots: int) -> int:
        """A table of ``size`` bytes, all zero, behind a vtable of its own."""
        vtable = self.place(struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots), 2)
        at = self.place(bytes(size))
        struct.pack_into("<i", self.bytes, at, at - vtable)
        return at

    def point(self, field: int, target: int) -> None:
        """Let the offset at ``field`` lead to ``target``."""
        struct.pack_into("<I", self.bytes, field, target - field)

    def vector(self, count: int, elements: bytes, remainder: int = 0, modulus: int = 8) -> int:
        """A vector whose count stands at ``remainder``."""
        return self.place(struct.pack("<I", count) + elements, modulus, remainder)

    def offsets(self, field: int, count: int, remainder: int = 0) -> list[int]:
        """A vector of open offsets that ``field`` points to; their positions."""
        at = self.vector(count, bytes(4 * count), remainder)
        self.point(field, at)
        return [at + 4 + 4 * i for i in range(count)]

    def shape(self, field: int, dims: Sequence[int], remainder: int = 4) -> None:
        """Dimensions, the vector's count at ``remainder`` modulo 8."""
        self.point(field, self.vector(len(dims), struct.pack(f"<{len(dims)}q", *dims), remainder))

    def run(self, field: int, raw: bytes, remainder: int = 0) -> int:
        """A string without a NUL, or a tensor's data."""
        at = self.vector(len(raw), raw, remainder)
        self.point(field, at)
        return at

    def response(self, tensors: int, remainder: int = 0) -> list[int]:
        """The root of an InferResponse; the offsets to its tensors."""
        at = self.table(8, 4)
        self.point(0, at)
        return self.offsets(at + 4, tensors, remainder)

    def request(self) -> int:
        """The root of a Request for inference, all of whose fields are absent but config and vectors of names."""
        at = self.table(12, 8, 4)
        self.point(0, at)
        self.bytes[at + 8] = 1
        member = self.table(20, 4, 8, 12, 16)
        self.point(at + 4, member)
        self.run(member + 4, b"")
        return member

    def tensor(self, place: int, kind: int) -> int:
        """A Tensor with every field: shape at 4, data at 8, string_val at 12, all open."""
        at = self.table(20, 16, 4, 8, 12)
        self.point(place, at)
        self.bytes[at + 16] = kind
        return at

    def numbers(self, place: int, kind: int, dims: Sequence[int], raw: bytes) -> int:
        """A Tensor of numbers, complete."""
        at = self.table(16, 12, 4, 8)
        self.point(place, at)
        self.bytes[at + 12] = kind
        self.shape(at + 4, dims)
        self.run(at + 8, raw)
        return at


def follow(message: bytes | bytearray, at: int) -> int:
    """Where the offset at a position leads to."""
    return at + int(struct.unpack_from("<I", message, at)[0])


def root(message: bytes | bytearray) -> int:
    """Where the root table stands."""
    return follow(message, 0)


def vtable(message: bytes | bytearray, table: int) -> int:
    """Where a table's vtable stands."""
    return table - int(struct.unpack_from("<i", message, table)[0])


def field(message: bytes | bytearray, table: int, slot: int) -> int:
    """Where a field stands that is present."""
    place = int(struct.unpack_from("<H", message, vtable(message, table) + 4 + 2 * slot)[0])
    assert place, f"field {slot} of the table at {table} is absent"
    return table + place


def patched(message: bytes | bytearray, at: int, form: str, *values: int) -> bytes:
    """The message with other numbers at a position."""
    changed = bytearray(message)
    struct.pack_into("<" + form, changed, at, *values)
    return bytes(changed)
