"""BYTES as they travel: each element is a length of four bytes, little-endian, and as many bytes."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, TooLarge
from graphpipe.server.protocols.room import Room
from graphpipe.wire.dtypes import BYTES_MAX, to_bytes

__all__ = ["LENGTH_BYTES", "joined", "separated"]

LENGTH_BYTES = 4
_STRINGS_AT_ONCE = 1 << 14
_length_at = struct.Struct("<I").unpack_from


def separated(data: memoryview | bytes, number: int, what: str, room: Room) -> NDArray[Any]:
    """The elements, ``number`` of them, as a vector of bytes objects. Raises InvalidRequest if they are not all there is,
    Overloaded.
    """
    size = len(data)
    if number * LENGTH_BYTES > size:
        raise InvalidRequest(f"{what} has {number} elements, each behind a length of 4 bytes; only {size} bytes came")
    array = room.strings(number, size - number * LENGTH_BYTES)
    at = 0
    for start in range(0, number, _STRINGS_AT_ONCE):
        run: list[bytes] = []
        for _ in range(min(_STRINGS_AT_ONCE, number - start)):
            begins = at + LENGTH_BYTES
            if begins > size:
                raise InvalidRequest(f"{what} ends after {start + len(run)} of its {number} elements")
            at = begins + _length_at(data, at)[0]
            if at > size:
                raise InvalidRequest(
                    f"element {start + len(run)} of {what} claims {at - begins} bytes, and only {size - begins} are left"
                )
            run.append(bytes(data[begins:at]))
        array[start : start + len(run)] = run
    if at < size:
        raise InvalidRequest(f"{what} has {size - at} bytes more than its {number} elements take")
    return array


def joined(array: NDArray[Any], what: str) -> bytes:
    """The elements of a tensor of strings, row after row. Raises InvalidRequest for what is no string, TooLarge."""
    flat = array.reshape(-1)
    parts: list[bytes] = []
    total = 0
    for start in range(0, len(flat), _STRINGS_AT_ONCE):
        run = [to_bytes(item, what) for item in flat[start : start + _STRINGS_AT_ONCE].tolist()]
        between = [b""] * (2 * len(run))
        between[::2] = [len(item).to_bytes(LENGTH_BYTES, "little") for item in run]
        between[1::2] = run
        parts.append(b"".join(between))
        total += len(parts[-1])
        if total >= BYTES_MAX:
            raise TooLarge(f"{what} takes {BYTES_MAX} bytes or more; ask for fewer rows at once")
    return b"".join(parts)
