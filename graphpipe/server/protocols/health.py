"""gRPC's own health service, which load balancers and Kubernetes' probes ask.

The empty name is the server, and so is the name of each gRPC service that it has; a model is asked for by its name.
``Watch`` is not served: it is a stream without an end, and whoever gets the answer that there is none takes the server for
healthy as long as it answers.
"""

from __future__ import annotations

from collections.abc import Container

from graphpipe.errors import NotFound, Unsupported
from graphpipe.server.models.directory import Directory
from graphpipe.server.protocols.call import Models, Question
from graphpipe.server.protocols.protobuf import Message, Reader, key, text
from graphpipe.server.protocols.protocol import Endpoint
from graphpipe.server.state import State
from graphpipe.wire import Segment
from graphpipe.words import quoted

__all__ = ["SERVICE", "HealthRpcs"]

SERVICE = "grpc.health.v1.Health"
_CHECK = f"/{SERVICE}/Check"
_SERVING, _NOT_SERVING = 1, 2
_FIELDS_MAX = 64
_NAME = key(1)


class HealthRpcs:
    """How a server is that has these gRPC services and the models of a directory."""

    protocol = "health_grpc"

    def __init__(self, directory: Directory, state: State, services: Container[str] = ()) -> None:
        self._directory = directory
        self._state = state
        self._services = services

    def check(self, method: str) -> None:
        """Raise Unsupported (501) for a method that is not served."""
        if method != _CHECK:
            raise Unsupported(f"{method[:100]!r} is not a call that is served here", 501)

    def endpoint(self, method: str, message: memoryview | bytes) -> Endpoint:
        """What a call asks with its message. Raises NotFound, Unsupported (501), MalformedMessage, TooLarge."""
        self.check(method)
        name = ""
        for found, value in Reader(_FIELDS_MAX).fields(memoryview(message).toreadonly()):
            if found == _NAME:
                name = text(value, "service")
        if not name or name == SERVICE or name in self._services:
            return Question(self._say, "")
        try:
            # Who may not know of a model is not told whether there is one.
            return Question(self._say, "metadata", self._directory.find(name))
        except NotFound:
            raise NotFound(f"there is no service or model {quoted(name)}") from None

    def _say(self, models: Models) -> list[Segment]:
        return Message().number(1, _SERVING if self._state.ready else _NOT_SERVING).segments()
