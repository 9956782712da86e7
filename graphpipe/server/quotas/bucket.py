"""A token bucket, filled by the clock when somebody looks into it."""

from __future__ import annotations

__all__ = ["Bucket"]

# A part of the bucket that is no more than the arithmetic's error.
_ROUNDED = 1e-9


class Bucket:
    """``rate`` tokens come in every second, until there are ``size``.

    What costs more than the whole bucket has to wait until that is full, and leaves a debt, which is paid off before
    anything else is let in: a body that is larger than what may come in a second may come, and the rate holds.
    """

    __slots__ = ("_filled_at", "_left", "_rate", "_size")

    def __init__(self, rate: float, size: float, now: float) -> None:
        self._rate = rate
        self._size = self._left = size
        self._filled_at = now

    def wait_s(self, cost: float, now: float, paid: float = 0.0) -> float:
        """For how many seconds there will not be enough for this cost, of which so much is ``paid``; 0 if there is."""
        lack = min(cost, self._size) - paid - self._filled(now)
        return lack / self._rate if lack > self._size * _ROUNDED else 0.0

    def take(self, cost: float) -> None:
        """Pay; ``wait_s`` was asked in the same moment."""
        self._left -= cost

    def is_full(self, now: float) -> bool:
        """Whether it is as it was at first."""
        return self._filled(now) >= self._size

    def _filled(self, now: float) -> float:
        # A clock that stands still, or is behind itself, adds nothing.
        if now > self._filled_at:
            left = self._left + (now - self._filled_at) * self._rate
            self._left, self._filled_at = (left if left < self._size else self._size), now
        return self._left
