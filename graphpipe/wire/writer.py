"""Our own bytes, laid out so that no tensor is ever copied.

FlatBuffers offsets only point forward, so a message can be written front to back: all tables, names and shapes first
(the *prefix*), the tensors' bytes last. A message is then a list of segments

    [prefix ... u32 length] [tensor bytes] [padding, u32 length] [tensor bytes] ...

of which the tensor bytes are the caller's own memory, handed to the kernel as they are. Every numeric tensor's first
byte stands at a multiple of 64 from the message's start: received into a 64-byte-aligned buffer, it feeds the runtimes
without a copy.

The prefix depends on names, types, shapes and lengths alone, and callers repeat themselves: prefixes are remembered.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, TooLarge
from graphpipe.wire.dtypes import (
    BYTES_MAX,
    ENTRIES_MAX,
    NAME_BYTES_MAX,
    NDIM_MAX,
    STRINGS_MAX,
    TEXT_BYTES_MAX,
    Type,
    to_bytes,
    to_sendable,
)
from graphpipe.words import quoted

__all__ = ["ALIGNMENT", "Prefix", "Segment", "TensorKey", "layout", "payload"]

Segment = bytes | memoryview
ALIGNMENT = 64

_pack_u32 = struct.Struct("<I").pack
_pack_u32_into = struct.Struct("<I").pack_into
_i32 = struct.Struct("<i").pack
_zeros = bytes(ALIGNMENT)

# Strings are written in runs of this many.
_STRINGS_AT_ONCE = 1 << 14


class TensorKey(NamedTuple):
    """What the prefix has to know of a tensor.

    ``length_word`` is the u32 in front of its vector: bytes of data, or number of strings. ``length`` counts the bytes
    after it.
    """

    type: Type
    shape: tuple[int, ...]
    length_word: int
    length: int
    is_bool: bool = False


def payload(value: object, what: str) -> tuple[TensorKey, Segment]:
    """The bytes of one tensor, ready to follow their u32 count, and what the prefix has to know of it.

    Numeric tensors come back as a view of the array's own memory. ``what`` names the tensor in errors.
    """
    wire_type, array = to_sendable(value, what)
    shape = array.shape
    if len(shape) > NDIM_MAX:
        raise InvalidRequest(f"{what} has {len(shape)} dimensions; at most {NDIM_MAX} travel")
    if not array.size:
        # Others find their end in `layout`. No reader takes this one, since no array of its own could have the shape.
        item_size = 4 if wire_type is Type.STRING else array.itemsize
        if math.prod(dim or 1 for dim in shape) * item_size >= BYTES_MAX:
            raise InvalidRequest(f"{what} has shape {list(shape)}; with 1 in place of 0 that reaches 2 GiB")
    if wire_type is Type.STRING:
        body = _strings(array, what)
        return TensorKey(wire_type, shape, array.size, len(body)), body
    # A memoryview of nothing cannot be cast.
    data = array.data.cast("B") if array.size else b""
    return TensorKey(wire_type, shape, array.nbytes, array.nbytes, array.dtype == np.bool_), data


def _strings(array: NDArray[Any], what: str) -> Segment:
    """Everything of a string vector after its count: all offsets, then of each length, bytes, NUL and padding.

    In runs, so that what is needed on the way stays small, and other threads have their turn.
    """
    count = array.size
    if count > STRINGS_MAX:
        raise TooLarge(
            f"{what} has {count} strings; at most {STRINGS_MAX} travel in one message: send fewer rows at once"
        )
    flat = array.reshape(-1)
    runs = [_bytes_of(flat[at : at + _STRINGS_AT_ONCE], what) for at in range(0, count, _STRINGS_AT_ONCE)]
    lengths = np.empty(count, np.int64)
    for i, run in enumerate(runs):
        lengths[i * _STRINGS_AT_ONCE :][: len(run)] = np.fromiter(map(len, run), np.int64, len(run))
    taken = (lengths + 8) & ~3  # u32 length, bytes, at least one NUL, up to a multiple of 4
    total = int(taken.sum()) + 4 * count
    if total >= BYTES_MAX:
        raise TooLarge(f"{what} needs {total} bytes; a message holds less than {BYTES_MAX}: send fewer rows at once")
    body = np.empty(total, np.uint8)
    starts = np.cumsum(taken) - taken + 4 * count
    body[: 4 * count] = (starts - np.arange(0, 4 * count, 4)).astype("<u4").view(np.uint8)
    at = 4 * count
    for i, run in enumerate(runs):
        piece = _joined(run, lengths[i * _STRINGS_AT_ONCE :][: len(run)])
        body[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return body.data


def _bytes_of(run: NDArray[Any], what: str) -> list[bytes]:
    return [item if type(item) is bytes else to_bytes(item, what) for item in run.tolist()]


def _joined(items: list[bytes], lengths: NDArray[np.int64]) -> bytes:
    """Each string behind its length, with NUL and padding behind it."""
    # Between two strings stand the padding of the first, 1 to 4 zeros, and the length of the second: the end of 8 bytes.
    words = np.zeros((len(items) + 1, 2), "<u4")
    words[:-1, 1] = lengths
    between = words.tobytes()
    begins = np.arange(0, 8 * len(items) + 8, 8)
    begins[0] += 4
    begins[1:] += lengths & 3
    parts = [b""] * (2 * len(items) + 1)
    parts[::2] = [between[a:b] for a, b in zip(begins.tolist(), range(8, 8 * len(items) + 9, 8), strict=True)]
    parts[-1] = parts[-1][:-4]  # no length follows the last
    parts[1::2] = items
    return b"".join(parts)


class Prefix:
    """The part of a message before the tensors' bytes, written front to back.

    Whatever is placed gives its position; an offset is left open and closed by ``point`` when its target is placed.
    """

    def __init__(self) -> None:
        self.bytes = bytearray(4)
        self._text_left = TEXT_BYTES_MAX

    def align(self, to: int, ahead: int = 0) -> None:
        """Pad so that what comes ``ahead`` bytes later stands at a multiple of ``to``."""
        self.bytes += _zeros[: -(len(self.bytes) + ahead) % to]

    def point(self, field: int, target: int | None = None) -> None:
        """Close the offset at ``field``: it points to ``target``, or to what is placed next."""
        _pack_u32_into(self.bytes, field, (len(self.bytes) if target is None else target) - field)

    def vtable(self, *entries: int) -> int:
        """Place a vtable: table size, then each field's place in the table (0: absent)."""
        self.align(4)
        at = len(self.bytes)
        self.bytes += struct.pack(f"<{len(entries) + 1}H", 2 * len(entries) + 2, *entries)
        return at

    def table(self, vtable: int, body: bytes, alignment: int = 4) -> int:
        """Place a table of a vtable placed before; ``body`` is all that follows the offset to the vtable."""
        self.align(alignment)
        at = len(self.bytes)
        self.bytes += _i32(at - vtable) + body
        return at

    def text(self, field: int, value: str, on_error: str = "strict") -> None:
        """Place a string and point ``field`` at it. ``on_error`` is as in str.encode.

        Raises InvalidRequest if it has no UTF-8 form, TooLarge if the message's texts exceed their limit.
        """
        try:
            raw = value.encode("utf-8", on_error)
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"the text {value[:100]!r} has no UTF-8 form: {error.reason}") from None
        self._text_left -= len(raw)
        if self._text_left < 0:
            raise TooLarge(f"the message's names and other texts have more than {TEXT_BYTES_MAX} bytes")
        self.align(4)
        self.point(field)
        self.bytes += _pack_u32(len(raw)) + raw + b"\0"

    def shape(self, field: int, dims: Sequence[int]) -> None:
        """Place a vector of dimensions and point ``field`` at it."""
        self.align(8, ahead=4)
        self.point(field)
        self.bytes += struct.pack(f"<I{len(dims)}q", len(dims), *dims)

    def offsets(self, field: int, count: int) -> list[int]:
        """Place a vector of ``count`` open offsets, point ``field`` at it, and give the offsets' positions.

        Raises InvalidRequest for more entries than a reader takes.
        """
        if count > ENTRIES_MAX:
            raise InvalidRequest(
                f"the message has {count} tensors, names or errors in one place; at most {ENTRIES_MAX} travel"
            )
        self.align(4)
        self.point(field)
        at = len(self.bytes) + 4
        self.bytes += _pack_u32(count) + bytes(4 * count)
        return list(range(at, at + 4 * count, 4))

    def names(self, field: int, values: Sequence[str]) -> None:
        """Place a vector of names and point ``field`` at it. Raises InvalidRequest for a name that no reader takes."""
        for at, value in zip(self.offsets(field, len(values)), values, strict=True):
            before = self._text_left
            self.text(at, value)
            if before - self._text_left > NAME_BYTES_MAX:
                length = before - self._text_left
                raise InvalidRequest(f"the name {quoted(value)} has {length} bytes; at most {NAME_BYTES_MAX} travel")

    def tensors(self, field: int, keys: Sequence[TensorKey], *, mark_bool: bool) -> list[int]:
        """Place a vector of tensors without their bytes, and give the positions of the open offsets to those bytes.

        ``mark_bool`` tells tensors of bool from others of Uint8.
        """
        places = self.offsets(field, len(keys))
        vtables: dict[tuple[int, ...], int] = {}
        open_offsets = []
        for place, key in zip(places, keys, strict=True):
            marked = mark_bool and key.is_bool
            if key.type is Type.STRING:
                fields: tuple[int, ...] = (12, 4, 0, 8)
            else:
                fields = (12, 4, 8, 0, 13) if marked else (12, 4, 8)
            if fields not in vtables:
                vtables[fields] = self.vtable(16, *fields)
            self.align(4)
            self.point(place)
            table = self.table(vtables[fields], bytes(8) + bytes((key.type, marked, 0, 0)))
            open_offsets.append(table + 8)
            self.shape(table + 4, key.shape)
        return open_offsets


def layout(build: Callable[[Prefix], list[int]], keys: Sequence[TensorKey]) -> tuple[bytes, ...]:
    """All bytes that stand before each tensor's own: the prefix, then the gaps between the tensors.

    ``build`` places everything but the tensors' bytes and gives the open offsets to those, one for each of ``keys``.

    Raises TooLarge if the message would reach 2 GiB.
    """
    prefix = Prefix()
    open_offsets = build(prefix)
    end = len(prefix.bytes)
    gaps: list[bytes] = []
    for field, key in zip(open_offsets, keys, strict=True):
        # A numeric tensor's bytes start at a multiple of 64; a string vector's offsets need only 4.
        ahead, alignment = (end + 4, ALIGNMENT) if key.type is not Type.STRING else (end, 4)
        padding = -ahead % alignment
        gaps.append(_zeros[:padding] + _pack_u32(key.length_word))
        length_at = end + padding
        end = length_at + 4 + key.length
        if end >= BYTES_MAX:
            raise TooLarge(
                f"the message needs at least {end} bytes; it may have less than {BYTES_MAX}: send fewer rows"
            )
        prefix.point(field, length_at)
    if not gaps:
        return (bytes(prefix.bytes),)
    return (bytes(prefix.bytes) + gaps[0], *gaps[1:])
