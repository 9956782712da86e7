"""What a dialect is, for those who carry its bytes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from graphpipe.errors import ServiceError, Unsupported
from graphpipe.server.models.service import Service
from graphpipe.wire import Segment

__all__ = ["BY_MESSAGE", "OCTETS", "Answer", "Dialect", "Endpoint", "Field", "Fields", "Rpcs", "WrongMethod"]

# What an answer's head says: Content-Type first.
Fields = tuple[tuple[str, str], ...]
# An answer's bytes, as segments, the number of rows that were asked for, and its fields where they are not GraphPipe's.
Answer = tuple[list[Segment], int] | tuple[list[Segment], int, Fields]
# What a field of a request's head says, by its name in small letters; None where there is none. Raises InvalidRequest for
# a field that came more than once.
Field = Callable[[str], str | None]

# A message of GraphPipe's.
OCTETS: Fields = (("Content-Type", "application/octet-stream"),)

# The scope of an endpoint whose messages say what a key must be good for.
BY_MESSAGE = "message"


class WrongMethod(Unsupported):
    """A path that is served with these methods is asked with another. ``allowed`` is how a head says them: who may GET may
    ask for the HEAD alone, and everybody for the OPTIONS.
    """

    def __init__(self, method: str, served: Iterable[str]) -> None:
        methods = sorted(served)
        super().__init__(f"{method} is not served here; use {' or '.join(methods)}")
        self.allowed = ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))


class Endpoint(Protocol):
    """One service, spoken to in one dialect; or the server as a whole, whose ``service`` is None.

    ``scope`` is what a key must be good for: ``infer``, ``metadata``, nothing (an empty one: nobody needs a key), or
    BY_MESSAGE, where ``limited`` looks at each message.
    """

    @property
    def service(self) -> Service | None: ...

    @property
    def scope(self) -> str: ...

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

    def limited(self, *, infer: bool, metadata: bool, models: frozenset[str] | None = None) -> Endpoint:
        """The same for a caller who may ask for one of these alone, or of these models: for the rest it raises Forbidden,
        or leaves it out.
        """
        ...


class Dialect(Protocol):
    """The bytes of one protocol over HTTP. ``protocol`` is what the metrics call it."""

    @property
    def protocol(self) -> str: ...

    def endpoint(self, method: str, path: str, field: Field) -> Endpoint:
        """What a GET (which has no body) or a POST asks: ``path`` as it came, still escaped, with its dots.

        Raises NotFound, WrongMethod, InvalidRequest for a field that cannot be.
        """
        ...

    def methods(self, path: str) -> tuple[str, ...]:
        """Which of the two a path has, whoever asks: nothing is told of which models there are.

        Raises NotFound for a path that is nobody's, Unsupported (501) for one that is another server's alone.
        """
        ...

    def error_body(self, error: ServiceError, accept: str) -> tuple[str, bytes]:
        """Content type and body of a refusal, for a caller that accepts so much."""
        ...


class Rpcs(Protocol):
    """The calls of a gRPC service."""

    @property
    def protocol(self) -> str: ...

    def check(self, method: str) -> None:
        """Raise Unsupported (501) for a method, ``/package.Service/Name``, that there is not: whoever calls it need not
        have sent a message, and may never end what he sends.
        """
        ...

    def endpoint(self, method: str, message: memoryview | bytes) -> Endpoint:
        """What a call asks with its message; ``method`` is ``/package.Service/Name``.

        Raises NotFound, Unsupported (501) for a method that there is not, MalformedMessage.
        """
        ...
