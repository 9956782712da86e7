"""Which path of ``/v1`` asks what."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from graphpipe.errors import NotFound, NotReady, ServiceError
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.protocols.jsons import write
from graphpipe.server.protocols.page import Models, Page
from graphpipe.server.protocols.path import segments
from graphpipe.server.protocols.protocol import Endpoint, Field, WrongMethod
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.tensorflow_serving.describe import metadata, status
from graphpipe.server.protocols.tensorflow_serving.infer import VERBS, Infer, Served
from graphpipe.server.state import State
from graphpipe.words import quoted

__all__ = ["TensorFlowServing"]

_HERE = (
    "there are /v1/models, /v1/models/M[/versions/V], /v1/models/M[/versions/V]/metadata and, to POST to, "
    "/v1/models/M[/versions/V]:predict, :classify and :regress"
)


class _Asked(NamedTuple):
    """What a path says; no ``name`` is the list of models."""

    name: str
    version: str
    label: str
    of_metadata: bool
    verb: str

    @property
    def method(self) -> str:
        return "POST" if self.verb else "GET"


class TensorFlowServing:
    """TensorFlow Serving's REST API, and with it the first protocol of KServe."""

    protocol = "tensorflow_serving"

    def __init__(self, directory: Directory, state: State, strings_max: int, room: Room) -> None:
        self._directory = directory
        self._state = state
        self._strings_max = strings_max
        self._room = room
        self._served: dict[Service, Served] = {}
        directory.on_change.append(self._served.clear)

    def endpoint(self, method: str, path: str, field: Field) -> Endpoint:
        """What a path asks. Raises NotFound, WrongMethod."""
        asked = _asked_by(path)
        name, version, label, of_metadata, verb = asked
        if method == "POST" and ":" in (label or version or name) and not verb and not of_metadata:
            raise _nothing_at(path)
        # Before a model is looked for: who may not know of it learns nothing by a wrong method.
        if method != asked.method:
            raise WrongMethod(method, (asked.method,))
        if not name:
            return Page(self._models, "metadata")
        service = self._directory.find(name, version)
        if label:
            raise NotFound(f"model {quoted(name)} has no version with the label {quoted(label)}; labels are not kept")
        if verb:
            return Infer(self._served_by(service), verb)
        say = partial(self._metadata, service, version) if of_metadata else partial(self._status, name, version)
        return Page(say, "metadata", service)

    def methods(self, path: str) -> tuple[str, ...]:
        """The one that a path has. Raises NotFound."""
        return (_asked_by(path).method,)

    def error_body(self, error: ServiceError, accept: str) -> tuple[str, bytes]:
        """An object with one word, for everybody."""
        return "application/json", write({"error": error.message.encode("utf-8", "replace").decode()})

    def _served_by(self, service: Service) -> Served:
        served = self._served.get(service)
        if served is None:
            served = self._served[service] = Served(service, self._strings_max, self._room)
        return served

    def _models(self, body: bytes, models: Models) -> object:
        return {"models": [name for name in self._directory.names if models is None or name in models]}

    def _status(self, name: str, version: str, body: bytes, models: Models) -> object:
        if not self._state.ready:
            raise NotReady("the server is starting or draining")
        return status(name, [version] if version else self._directory.versions(name))

    def _metadata(self, service: Service, version: str, body: bytes, models: Models) -> object:
        version = version or self._directory.versions(service.name)[-1]
        return metadata(service.name, version, service.model, self._served_by(service).inference.signature)


def _asked_by(path: str) -> _Asked:
    parts = segments(path)[1:]
    while parts and not parts[-1]:  # an empty one at the end is no part of a name
        parts = parts[:-1]
    last, colon, verb = parts[-1].rpartition(":") if parts else ("", "", "")
    if colon and verb in VERBS:
        parts = (*parts[:-1], last)
    else:
        verb = ""
    name = version = label = ""
    rest: Sequence[str] = ()
    match parts:
        case ("models",) if not verb:
            pass
        case ("models", name, "versions", version, *rest) if name and version:
            pass
        case ("models", name, "labels", label, *rest) if name and label:
            pass
        case ("models", name, *rest) if name:
            pass
        case _:
            raise _nothing_at(path)
    if rest and (verb or tuple(rest) != ("metadata",)):
        raise _nothing_at(path)
    return _Asked(name, version, label, bool(rest), verb)


def _nothing_at(path: str) -> NotFound:
    return NotFound(f"nothing is served at {path[:200]}; {_HERE}")
