"""What a load is: callers who each ask again when they are answered, or requests that come by the clock.

The first (a closed loop) tells how much a server carries: nobody ever waits for longer than the others let him. The second
(an open loop) tells how long callers wait who do not know of each other: a request is due at its time, whether the earlier
ones were answered or not, and its latency counts from then on. Counted from when it was sent, what a slow answer makes the
next ones wait would be left out (coordinated omission).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Load"]


@dataclass(frozen=True, slots=True)
class Load:
    """``callers`` of a closed loop, or requests a second (``rate``) of an open one; the other is 0.

    ``poisson``: they come at random moments, as those of many callers do, and not evenly.
    """

    callers: int = 0
    rate: float = 0.0
    poisson: bool = False
    seed: int = 0

    def __str__(self) -> str:
        if self.callers:
            return f"{self.callers:,} caller{'' if self.callers == 1 else 's'}"
        return f"{self.rate:,g} requests/s due{' at random' if self.poisson else ''}"

    def dues(self, begin: float) -> Iterator[float]:
        """The moments at which requests are due, in seconds of the clock that ``begin`` is of; without end."""
        if self.poisson:
            chance, due = random.Random(self.seed), begin
            while True:
                due += chance.expovariate(self.rate)
                yield due
        number = 0
        while True:
            yield begin + number / self.rate
            number += 1
