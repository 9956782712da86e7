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

_RUN_BYTES = 1 << 18
_VARINT_BYTES_MAX = 10


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
    if len(ends) == len(octets):
        return octets.astype(np.uint64)
    starts = np.concatenate((np.zeros(1, np.intp), ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _VARINT_BYTES_MAX:
        raise MalformedMessage("a packed number is longer than 10 bytes")
    found = (octets[starts] & np.uint8(0x7F)).astype(np.uint64)
    for place in range(1, longest):
        longer = np.flatnonzero(lengths > place)
        part = (octets[starts[longer] + place] & np.uint8(0x7F)).astype(np.uint64)
        found[longer] |= part << np.uint64(7 * place)
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
