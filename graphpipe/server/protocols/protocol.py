"""What a dialect is, for those who carry its bytes."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from graphpipe.errors import ServiceError
from graphpipe.server.models.service import Service
from graphpipe.wire import Segment

__all__ = ["Answer", "Dialect", "Endpoint"]

# An answer's bytes, as segments, and the number of rows that were asked for.
Answer = tuple[list[Segment], int]


class Endpoint(Protocol):
    """One service, spoken to in one dialect."""

    service: Service

    def answer(
        self, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to a request's body, or a coroutine that gives it where that takes waiting.

        ``deadline`` is loop time, ``request_id`` for the log. What the model gets borrows ``body``. Raises ServiceError
        for whatever is wrong with the request, the model or the load, here or in the coroutine.
        """
        ...

    def admit(self, size: int) -> None:
        """Raise Overloaded if a request of ``size`` bytes need not be read, as it would be refused in any case."""
        ...

    def limited(self, *, infer: bool, metadata: bool) -> Endpoint:
        """The same for a caller who may ask for one of these alone: it raises Forbidden for the other."""
        ...


class Dialect(Protocol):
    """The bytes of one protocol."""

    def endpoint(self, path: str) -> Endpoint:
        """What a POST to a path asks, as it came: still escaped, with its dots. Raises NotFound."""
        ...

    def error_body(self, error: ServiceError, accept: str) -> tuple[str, bytes]:
        """Content type and body of a refusal, for a caller that accepts so much."""
        ...
