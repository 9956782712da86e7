"""Where a request goes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from graphpipe.errors import ServiceError, service_error
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.families import PLACES
from graphpipe.server.protocols.beside import Beside
from graphpipe.server.protocols.protocol import Answer, Endpoint

__all__ = ["Target"]


@dataclass(slots=True, eq=False)
class Target:
    """A service (None: nobody's), and the bound function that answers a request's body in the dialect that was asked in.

    Made once for a head that callers repeat, so that another dialect costs a request nothing. ``waits``: there may be a
    queue for it, in which it matters who asks. ``who`` that is, where it is told by a key. ``protocol`` is the dialect's
    place among those that are counted. ``beside`` answers a request whose caller shows memory, where the dialect can.
    """

    service: Service | None
    answer: Callable[[memoryview | bytes, float | None, str], Answer | Coroutine[Any, Any, Answer]]
    admit: Callable[[int], None]
    waits: bool = True
    protocol: int = 0
    who: Hashable = None
    beside: Callable[[Beside, memoryview | bytes, float | None, str], Coroutine[Any, Any, Answer]] | None = None

    @classmethod
    def of(cls, endpoint: Endpoint, protocol: str, who: Hashable = None) -> Target:
        """The target that an endpoint is, for whoever speaks this protocol."""
        service = endpoint.service
        waits = service is not None and service.at_once is None
        beside = getattr(endpoint, "answer_beside", None)
        return cls(service, endpoint.answer, endpoint.admit, waits, PLACES[protocol], who, beside)

    def given(self, beside: Beside) -> Target:
        """The same for one request, whose caller shows this memory."""
        assert self.beside is not None, "memory is given to a target that takes none"
        answer = partial(self.beside, beside)
        return Target(self.service, answer, self.admit, self.waits, self.protocol, self.who, self.beside)

    @classmethod
    def refusing(cls, error: ServiceError, protocol: str) -> Target:
        """One that says no to everything, before its body is read."""
        code, status, message = error.code, error.http_status, error.message

        def refuse(*_: object) -> NoReturn:
            raise service_error(code, status, message)  # a new one each time: it will know the frames it came through

        return cls(None, refuse, refuse, False, PLACES[protocol])
