"""What has come back so far: how long each answer took, and what went wrong."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from graphpipe.errors import ServiceError

__all__ = ["Failure", "Mark", "Tally"]


@dataclass(slots=True)
class Failure:
    """Calls that ended in the same kind of error, and what the first of them said."""

    count: int
    first: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a tally stood at a moment."""

    answers: int
    received: int
    failures: int
    cpu_s: float


@dataclass(slots=True)
class Tally:
    """``latencies`` are those of good answers, in seconds and in the order that they came in; ``received`` counts the bytes
    of their bodies.
    """

    latencies: array[float] = field(default_factory=lambda: array("d"))
    received: int = 0
    failed: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)

    def fail(self, error: BaseException) -> None:
        """Count a call that was refused, or had no answer."""
        self.failed += 1
        kind = type(error).__name__
        if isinstance(error, ServiceError):
            kind = f"{error.http_status} {kind}"
        known = self.failures.get(kind)
        if known is None:
            self.failures[kind] = Failure(1, str(error))
        else:
            known.count += 1
