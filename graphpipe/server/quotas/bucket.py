"""A token bucket that is nothing but the moment at which it will be full."""

from __future__ import annotations

__all__ = ["Bucket"]

# What would be there so soon is there: times are no more exact.
_ROUNDED_S = 1e-6
# As good as never: 0 would be a bucket that nobody fills.
_RATE_MIN = 1e-12


class Bucket:
    """``rate`` tokens come in every second, until there are ``size``. It is full at first.

    What costs more than the whole bucket has to wait until that is full, and leaves a debt, which is paid off before
    anything else is let in: a body that is larger than what may come in a second may come, and the rate holds.
    """

    __slots__ = ("_full_at", "_size", "_token_s")

    def __init__(self, rate: float, size: float) -> None:
        self._token_s = 1 / max(rate, _RATE_MIN)
        self._size = size
        self._full_at = 0.0

    def take(self, cost: float, now: float, paid: float = 0.0) -> float:
        """Pay a cost, of which so much was ``paid`` before: 0.0. Or, where there is not enough, nothing is paid: in how many
        seconds there will be.
        """
        full_at = self._full_at
        if full_at < now:
            full_at = now
        spare_s = (self._size - cost) * self._token_s
        if spare_s < 0:
            spare_s = 0.0
        wait_s = full_at - now - paid * self._token_s - spare_s - _ROUNDED_S
        if wait_s > 0:
            return wait_s
        self._full_at = full_at + (cost - paid) * self._token_s
        return 0.0

    def give_back(self, cost: float) -> None:
        """What was taken in this moment is not needed."""
        self._full_at -= cost * self._token_s

    def is_full(self, now: float) -> bool:
        """Whether it is as it was at first."""
        return self._full_at <= now
