"""What was made of heads that came before.

Only a head that comes a second time is remembered, so that those which never repeat push nothing out. There are two
generations: when the younger one is full it becomes the older one, and what is used of that joins the younger one again.
So whoever sends many heads, each of them twice, pushes out what nobody used meanwhile, and no head that is in use. Where
callers have keys there are as many heads at least as keys, and room for more of them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Heads"]

T = TypeVar("T")

_HEADS_MIN, _HEADS_MAX = 256, 16_384
_HEADS_PER_CALLER = 4
_HEAD_BYTES_MAX = 1024
_SEEN_PER_HEAD = 16


class Heads(Generic[T]):
    """Heads of at most 1 KiB, 512 of them or 8 for each of so many callers, up to 32,768. ``young`` is for a quick look:
    ``find`` has those that are not there.
    """

    def __init__(self) -> None:
        self._most = _HEADS_MIN
        self.young: dict[bytes, T] = {}
        self._old: dict[bytes, T] = {}
        self._seen: set[int] = set()  # hashes: an equal one of another head does no harm

    def find(self, head: bytes) -> T | None:
        """What was made of a head."""
        known = self.young.get(head)
        if known is None:
            known = self._old.get(head)
            if known is not None:
                self._keep(head, known)
        return known

    def saw(self, head: bytes, made: T) -> None:
        """A head that ``find`` did not know was there, and this was made of it."""
        if len(head) > _HEAD_BYTES_MAX:
            return
        seen = hash(head)
        if seen in self._seen:
            self._seen.discard(seen)
            self._keep(head, made)
            return
        if len(self._seen) >= self._most * _SEEN_PER_HEAD:
            self._seen.clear()
        self._seen.add(seen)

    def expect(self, callers: int) -> None:
        """So many callers have a head of their own, or several: one for each length of a body."""
        self._most = min(max(_HEADS_MIN, _HEADS_PER_CALLER * callers), _HEADS_MAX)

    def forget(self) -> None:
        """What heads mean may have changed."""
        self.young.clear()
        self._old = {}
        self._seen.clear()

    def _keep(self, head: bytes, made: T) -> None:
        if len(self.young) >= self._most:
            self._old = dict(self.young)
            self.young.clear()
        self.young[head] = made
