"""What a head asks for on the hot route."""

from __future__ import annotations

from dataclasses import dataclass

from graphpipe.server.http.head import Head
from graphpipe.server.target import Target

__all__ = ["Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a hot request's head asks for. The body of a ``small`` one is not worth a lease, and within all limits.

    ``length`` is -1 for a body in chunks; ``size`` is the same with what its caller shows beside the body.
    """

    head: Head
    target: Target
    small: bool
    length: int
    size: int
