"""Many varints at once: the numbers of a tensor that protobuf packs into as few bytes as each of them needs.

They cannot be views. They are unpacked in runs, so that what is needed on the way stays small, and each run is worked on
as a whole: a loop over bytes of a number, of which there are ten at most, not over numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage

__all__ = ["counted_varints", "unpacked"]

_RUN_BYTES = 1 << 16
_VARINT_BYTES_MAX = 10

# Which bits of eight bytes belong to a number of so many of them.
_BELONGING = np.array([(1 << 8 * length) - 1 & 0x7F7F_7F7F_7F7F_7F7F for length in range(9)], np.uint64)
# Of eight times seven bits, each in a byte, the upper one of two neighbours moves down to the lower one; then of four times
# fourteen, then of twice 28: what stays, how far the rest moves, and where that comes to lie.
_MOVES = [
    (np.uint64(stays), np.uint64(shift), np.uint64(stays << bits))
    for stays, shift, bits in ((0x007F_007F_007F_007F, 1, 7), (0x0000_3FFF_0000_3FFF, 2, 14), (0x0FFF_FFFF, 4, 28))
]


def counted_varints(packed: memoryview) -> int:
    """How many numbers there are in a packed field."""
    octets = _octets(packed)
    starts = range(0, len(octets), _RUN_BYTES)
    return sum(int(np.count_nonzero(octets[at : at + _RUN_BYTES] < 0x80)) for at in starts)


def unpacked(packed: memoryview, bits: int, into: NDArray[Any], what: str) -> None:
    """Fill an array with the numbers of a packed field, which are ``counted_varints`` many.

    The field holds numbers of ``bits`` bits, of the array's kind; what is above is cut off, as the format has it. Of a
    bool all but 0 is true. Raises MalformedMessage for what are no varints, and InvalidRequest for a number that the
    array's type cannot hold; ``what`` names the tensor.
    """
    at = 0
    for run in _runs(packed):
        into[at : at + len(run)] = _fitted(run, bits, into.dtype, what)
        at += len(run)


def _octets(packed: memoryview) -> NDArray[np.uint8]:
    return np.ndarray(len(packed), np.uint8, packed)


def _runs(packed: memoryview) -> Iterator[NDArray[np.uint64]]:
    """Packed varints in runs of whole ones."""
    octets = _octets(packed)
    start = 0
    while start < len(octets):
        run = octets[start : start + _RUN_BYTES]
        ends = np.flatnonzero(run < 0x80)
        if not len(ends):
            raise MalformedMessage("packed numbers end in the middle of one, or one is longer than 10 bytes")
        last = int(ends[-1]) + 1
        yield _numbers(run[:last], ends)
        start += last


def _numbers(octets: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.uint64]:
    """The numbers that end at these places of as many bytes."""
    if len(ends) == len(octets):
        return octets.astype(np.uint64)
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, starts[1:])
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _VARINT_BYTES_MAX:
        raise MalformedMessage("a packed number is longer than 10 bytes")
    # The eight bytes from each start on as one number, of which those that belong to it stay.
    padded = np.zeros(len(octets) + _VARINT_BYTES_MAX, np.uint8)
    padded[: len(octets)] = octets
    windows: NDArray[np.uint64] = np.ndarray(len(octets), "<u8", padded, 0, (1,))
    found: NDArray[np.uint64] = windows[starts] & _BELONGING[np.minimum(lengths, 8)]
    for stays, shift, moves in _MOVES:
        found = found & stays | found >> shift & moves
    if longest > 8:
        long = np.flatnonzero(lengths > 8)
        ninth, tenth = padded[starts[long] + 8].astype(np.uint64), padded[starts[long] + 9].astype(np.uint64)
        tenth[lengths[long] == 9] = 0
        found[long] |= (ninth & np.uint64(0x7F)) << np.uint64(56) | tenth << np.uint64(63)
    return found


def _fitted(run: NDArray[np.uint64], bits: int, dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    if dtype.kind == "b":
        return np.not_equal(run, 0)
    whole: NDArray[Any] = run.astype(f"{dtype.kind}{bits // 8}") if bits < 64 else run.view(f"{dtype.kind}8")
    if dtype.itemsize < bits // 8 and len(whole):
        limits = np.iinfo(dtype)
        low, high = int(whole.min()), int(whole.max())
        if low < limits.min or high > limits.max:
            wrong = low if low < limits.min else high
            raise InvalidRequest(f"{what} is {dtype.name}, which cannot hold {wrong}")
    return whole
