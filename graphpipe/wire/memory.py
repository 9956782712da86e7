"""Layouts of requests seen before.

Requests of one caller to one model differ only in their tensors' bytes: where every table lies before the first tensor byte
(as in our own writer's messages), everything that the reader looks at is one short run of bytes, plus the length words
between the tensors. A message of the same size with the same such bytes would be read in exactly the same way, so the
reading is remembered and compared instead of done again: 1 us instead of 10. Messages of other writers, whose tables and
data are mixed, are read anew each time. benchmarks/codec.py measures both ways.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from graphpipe.wire.messages import ReadTensor, RequestHead

__all__ = ["LayoutMemory"]

_u32 = struct.Struct("<I").unpack_from

# Longer heads are rare, and a stranger must not fill our memory with them: 256 layouts of at most 4 KiB.
_HEAD_BYTES_MAX = 4096
_LAYOUTS_MAX = 256


class _Layout(NamedTuple):
    head: RequestHead
    tensors: tuple[ReadTensor, ...]
    words: tuple[tuple[int, int], ...]  # position and value of the length words between the tensors


class LayoutMemory:
    """Readings of requests, found by the bytes that determined them. Safe in threads: every step is one dict operation."""

    def __init__(self) -> None:
        self._head_length_by_size: dict[int, int] = {}
        self._layouts: dict[tuple[int, bytes], _Layout] = {}

    def find(self, view: memoryview) -> _Layout | None:
        """The reading of this message, if one of the same size and with the same head was read before."""
        size = len(view)
        head_length = self._head_length_by_size.get(size)
        if head_length is None:
            return None
        known = self._layouts.get((size, view[:head_length].tobytes()))
        if known is not None:
            for at, value in known.words:
                if _u32(view, at)[0] != value:
                    return None
        return known

    def keep(self, view: memoryview, end: int, head: RequestHead, tensors: list[ReadTensor]) -> None:
        """Remember a reading whose structures end at byte ``end``, if nothing but lengths lies beyond the first tensor."""
        if not tensors or any(t.strings is not None for t in tensors):
            return
        in_order = sorted(tensors, key=lambda t: t.start)
        first = in_order[0].start
        # A tensor without data has no length word that we know the place of; start is 0 then.
        if first < max(end, 4) or first > _HEAD_BYTES_MAX:
            return
        if len(self._layouts) >= _LAYOUTS_MAX:
            self._layouts.clear()
            self._head_length_by_size.clear()
        words = tuple((t.start - 4, t.length) for t in in_order[1:])
        self._head_length_by_size[len(view)] = first
        self._layouts[len(view), view[:first].tobytes()] = _Layout(head, tuple(tensors), words)
