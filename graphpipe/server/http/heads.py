"""What was made of heads that came before.

Only a head that comes a second time is remembered, so that those which never repeat push nothing out. There are two
generations: when the younger one is full it becomes the older one, and what is used of that joins the younger one again.
So whoever sends many heads, each of them twice, pushes out what nobody used meanwhile, and no head that is in use.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Heads"]

T = TypeVar("T")

_HEADS_MAX = 256
_HEAD_BYTES_MAX = 1024
_SEEN_MAX = 4096


class Heads(Generic[T]):
    """At most 512 heads of at most 1 KiB. ``young`` is for a quick look: ``find`` has those that are not there."""

    def __init__(self) -> None:
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
        if len(self._seen) >= _SEEN_MAX:
            self._seen.clear()
        self._seen.add(seen)

    def forget(self) -> None:
        """What heads mean may have changed."""
        self.young.clear()
        self._old = {}
        self._seen.clear()

    def _keep(self, head: bytes, made: T) -> None:
        if len(self.young) >= _HEADS_MAX:
            self._old = dict(self.young)
            self.young.clear()
        self.young[head] = made
