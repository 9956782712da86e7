"""Descriptors that have come from callers and belong to no request yet: how many there may be, and who has them."""

from __future__ import annotations

from typing import Protocol

from graphpipe.memory.discard import waiting

__all__ = ["Holder", "Waiting"]


class Holder(Protocol):
    """A connection by which descriptors have come."""

    def lose_descriptors(self) -> None:
        """Drop those that it holds; whoever asks for them is told."""
        ...


class Waiting:
    """How many descriptors wait for their request, on all connections together: at most ``most``, so that callers who send
    nothing else leave some for files and for other callers. Who has held some for longest loses them, since those of a
    request are taken as soon as they have come.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._held: dict[Holder, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether so many cannot be closed that no more are to be taken in."""
        return waiting() >= self.most

    def hold(self, holder: Holder, count: int) -> None:
        """So many more have come by a connection."""
        if count:
            self._held[holder] = self._held.get(holder, 0) + count
            self.count += count
            while self.count > self.most:
                next(iter(self._held)).lose_descriptors()

    def let_go(self, holder: Holder) -> None:
        """It holds none any more."""
        self.count -= self._held.pop(holder, 0)
