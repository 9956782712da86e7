"""What one caller has under way and has sent of late, and what he may."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from graphpipe.errors import Overloaded, ServiceError, TooLarge
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

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = self.size = 0
        # A second's worth may come at once.
        per_s = limits.requests_per_s
        self._requests_rate = Bucket(per_s, max(1.0, per_s)) if per_s else None
        self._bytes_rate = Bucket(limits.bytes_per_s, limits.bytes_per_s) if limits.bytes_per_s else None

    def enter(self, size: int, now: float) -> None:
        """A request begins whose body has so many bytes, as far as that is known."""
        limits = self._limits
        if self.requests >= limits.requests_max > 0:
            raise _over(
                f"this caller has {self.requests} requests in flight, of at most {limits.requests_max} "
                "(--caller-requests-max)",
                1.0,
            )
        if self.size + size > limits.bytes_max > 0:
            raise self._no_room(0, size)
        rate = self._requests_rate
        if rate is not None and (wait_s := rate.take(1, now)):
            raise _over(
                f"more than {limits.requests_per_s:.12g} requests a second come from this caller "
                "(--caller-requests-per-s)",
                wait_s,
            )
        if self._bytes_rate is not None and (wait_s := self._bytes_rate.take(size, now)):
            if rate is not None:
                rate.give_back(1)
            raise self._too_fast(wait_s)
        self.requests += 1
        self.size += size

    def grow(self, before: int, after: int, now: float) -> None:
        """A body counted for ``before`` bytes, and turns out to have ``after``: it is judged as if that had been known."""
        if self.size + after - before > self._limits.bytes_max > 0:
            raise self._no_room(before, after)
        if self._bytes_rate is not None and (wait_s := self._bytes_rate.take(after, now, paid=before)):
            raise self._too_fast(wait_s)
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

    def _no_room(self, before: int, after: int) -> ServiceError:
        most = self._limits.bytes_max
        if after > most:
            what = f"the body has {after} bytes; a caller may have at most {most} in flight"
            return TooLarge(f"{what} (--caller-bytes-max)")
        others = self.size - before
        return _over(
            f"this caller has {others} bytes of bodies in flight, and {after} more are over its {most} "
            "(--caller-bytes-max)",
            1.0,
        )

    def _too_fast(self, wait_s: float) -> ServiceError:
        most = self._limits.bytes_per_s
        return _over(f"more than {most} bytes a second come from this caller (--caller-bytes-per-s)", wait_s)


def _over(words: str, wait_s: float) -> Overloaded:
    retry_s = ceil(min(wait_s, _RETRY_S_MAX))
    return Overloaded(f"{words}; try again in {retry_s} s", retry_s, 429)
