"""Where a request goes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from graphpipe.server.models.service import Service
from graphpipe.server.protocols.protocol import Answer, Endpoint

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A service, and the bound function that answers a request's body in the dialect that was asked in.

    Made once for a head that callers repeat, so that another dialect costs a request nothing. ``waits``: there may be a
    queue for it, in which it matters who asks.
    """

    service: Service
    answer: Callable[[memoryview | bytes, float | None, str], Answer | Coroutine[Any, Any, Answer]]
    admit: Callable[[int], None]
    waits: bool = True

    @classmethod
    def of(cls, endpoint: Endpoint) -> Target:
        """The target that an endpoint is."""
        return cls(endpoint.service, endpoint.answer, endpoint.admit, endpoint.service.at_once is None)
