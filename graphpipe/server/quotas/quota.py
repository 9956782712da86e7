"""What one caller has under way and has sent of late, and what he may."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from graphpipe.errors import Overloaded, TooLarge
from graphpipe.server.quotas.bucket import Bucket

__all__ = ["Limits", "Quota"]

_RETRY_S_MAX = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """For each caller: requests and bytes of bodies in flight, and both of them a second. 0: no limit."""

    requests_max: int = 0
    bytes_max: int = 0
    requests_per_s: float = 0.0
    bytes_per_s: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests_max or self.bytes_max or self.requests_per_s or self.bytes_per_s)


class Quota:
    """One caller's. ``requests`` of his, with ``size`` bytes of bodies, are in flight.

    What is refused here costs nothing, so whoever asks too often still gets what he may have. Raises Overloaded, with
    status 429, and TooLarge for a body that would not be taken if it came alone.
    """

    __slots__ = ("_bytes_rate", "_limits", "_requests_rate", "requests", "size")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.requests = self.size = 0
        # A second's worth may come at once.
        per_s = limits.requests_per_s
        self._requests_rate = Bucket(per_s, max(1.0, per_s), now) if per_s else None
        self._bytes_rate = Bucket(limits.bytes_per_s, limits.bytes_per_s, now) if limits.bytes_per_s else None

    def enter(self, size: int, now: float) -> None:
        """A request begins whose body has so many bytes, as far as that is known."""
        limits = self._limits
        if self.requests >= limits.requests_max > 0:
            raise _over(
                f"this caller has {self.requests} requests in flight, of at most {limits.requests_max} "
                "(--caller-requests-max)",
                1.0,
            )
        rate = self._requests_rate
        if rate is not None and (wait_s := rate.wait_s(1, now)):
            raise _over(
                f"more than {limits.requests_per_s:.12g} requests a second come from this caller (--caller-requests-per-s)",
                wait_s,
            )
        self.grow(0, size, now)
        if rate is not None:
            rate.take(1)
        self.requests += 1

    def grow(self, before: int, after: int, now: float) -> None:
        """A body counted for ``before`` bytes, and turns out to have ``after``: it is judged as if that had been known."""
        limits = self._limits
        if limits.bytes_max:
            if after > limits.bytes_max:
                raise TooLarge(
                    f"the body has {after} bytes; a caller may have at most {limits.bytes_max} in flight "
                    "(--caller-bytes-max)"
                )
            if self.size + after - before > limits.bytes_max:
                raise _over(
                    f"this caller has {self.size - before} bytes of bodies in flight, and {after} more are over its "
                    f"{limits.bytes_max} (--caller-bytes-max)",
                    1.0,
                )
        rate = self._bytes_rate
        if rate is not None:
            if wait_s := rate.wait_s(after, now, paid=before):
                raise _over(
                    f"more than {limits.bytes_per_s} bytes a second come from this caller (--caller-bytes-per-s)",
                    wait_s,
                )
            rate.take(after - before)
        self.size += after - before

    def leave(self, size: int) -> None:
        """A request is over, whose body counted for so many bytes."""
        self.requests -= 1
        self.size -= size

    def is_idle(self, now: float) -> bool:
        """Whether it is as if its caller had never been here."""
        return not self.requests and all(
            rate is None or rate.is_full(now) for rate in (self._requests_rate, self._bytes_rate)
        )


def _over(words: str, wait_s: float) -> Overloaded:
    retry_s = ceil(min(wait_s, _RETRY_S_MAX))
    return Overloaded(f"{words}; try again in {retry_s} s", retry_s, 429)
