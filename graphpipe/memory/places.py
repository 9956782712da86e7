"""Where an array's bytes lie, if they lie where another process can see them."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from graphpipe.memory.segment import Segment, segment_at

__all__ = ["Place", "place_of"]


class Place(NamedTuple):
    """``length`` bytes from ``offset`` of the segment behind ``fd``; ``key`` tells segments apart.

    Whoever has a place has its segment, so the descriptor stays what it is.
    """

    fd: int
    offset: int
    length: int
    key: tuple[int, int]
    segment: Segment


def place_of(array: NDArray[Any]) -> Place | None:
    """The place of an array's bytes in a segment of this process.

    None for an array that lies elsewhere, has no bytes, or has them scattered. Safe in threads, and cheap: it is asked of
    every array of every call.
    """
    if not array.flags.c_contiguous:
        return None
    address: int = array.__array_interface__["data"][0]
    segment = segment_at(address)
    if segment is None:
        return None
    offset, length = address - segment.address, array.nbytes
    if not length or offset + length > segment.size:
        return None
    return Place(segment.fd, offset, length, segment.key, segment)
