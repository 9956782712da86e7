"""Which path of ``/v2`` asks what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graphpipe.errors import InvalidRequest, NotFound, NotReady, ServiceError, Unsupported
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.jsons import read, write
from graphpipe.server.protocols.open_inference.answer import LENGTH_FIELD
from graphpipe.server.protocols.open_inference.describe import configuration, in_index, metadata, server, statistics
from graphpipe.server.protocols.open_inference.infer import Infer, Served
from graphpipe.server.protocols.page import Models, Page, Say
from graphpipe.server.protocols.path import segments
from graphpipe.server.protocols.protocol import Endpoint, Field, WrongMethod
from graphpipe.server.protocols.room import Room
from graphpipe.server.state import State
from graphpipe.words import quoted

__all__ = ["OpenInference"]

_LENGTH_FIELD = LENGTH_FIELD.lower()
_HERE = "there are /v2, /v2/health/live, /v2/health/ready, /v2/models/M[/versions/V][/infer|/ready|/stats|/config]"
# Makes an endpoint for a head.
Made = Callable[[Field], Endpoint]
# First segments of what Triton has besides, and what follows a model's name.
_TRITONS = frozenset(("systemsharedmemory", "cudasharedmemory", "trace", "logging"))
_TRITONS_OF_MODELS = frozenset(("generate", "generate_stream", "trace"))


class OpenInference:
    """The Open Inference Protocol over HTTP."""

    protocol = "open_inference"

    def __init__(self, directory: Directory, state: State, counters: Counters, strings_max: int, room: Room) -> None:
        self._directory = directory
        self._state = state
        self._counters = counters
        self._strings_max = strings_max
        self._room = room
        self._served: dict[Service, Served] = {}
        directory.on_change.append(self._served.clear)

    def endpoint(self, method: str, path: str, field: Field) -> Endpoint:
        """What a path asks. Raises NotFound, WrongMethod, InvalidRequest, Unsupported (501) for what only Triton has."""
        served, made = self._at(path)
        # Before a model is looked for: who may not know of it learns nothing by a wrong method.
        if method != served:
            raise WrongMethod(method, (served,))
        return made(field)

    def methods(self, path: str) -> tuple[str, ...]:
        """The one that a path has. Raises NotFound, Unsupported (501)."""
        return (self._at(path)[0],)

    def _at(self, path: str) -> tuple[str, Made]:
        """The method of a path, and what makes its endpoint."""
        parts = segments(path)[1:]
        while parts and not parts[-1]:  # an empty one at the end is no part of a name
            parts = parts[:-1]
        match parts:
            case ():
                return "GET", lambda field: Page(_server, "metadata")
            case ("health", "live"):
                return "GET", lambda field: Page(_live, "")
            case ("health", "ready"):
                return "GET", lambda field: Page(self._ready, "")
            case ("repository", "index"):
                return "POST", lambda field: Page(self._index, "metadata")
            case ("repository", "models", _, "load" | "unload"):
                raise Unsupported(
                    "models are not loaded or unloaded by request here; the server's start says which", 501
                )
            case ("models", "stats"):
                return "GET", lambda field: Page(partial(self._stats, "", ""), "metadata")
            case ("models", name, "versions", version, *rest) if version:
                return self._of_model(path, name, version, tuple(rest))
            case ("models", name, *rest) if name:
                return self._of_model(path, name, "", tuple(rest))
        if parts[0] in _TRITONS:
            raise Unsupported(f"/v2/{parts[0]} is Triton's, and not served here", 501)
        raise NotFound(f"nothing is served at {path[:200]}; {_HERE}")

    def error_body(self, error: ServiceError, accept: str) -> tuple[str, bytes]:
        """An object with one word, for everybody."""
        return "application/json", write({"error": error.message.encode("utf-8", "replace").decode()})

    def _of_model(self, path: str, name: str, version: str, rest: tuple[str, ...]) -> tuple[str, Made]:
        if len(rest) > 1 or (rest and rest[0] not in ("infer", "ready", "stats", "config")):
            if rest[0] in _TRITONS_OF_MODELS:
                raise Unsupported(f"/{rest[0]} of a model is Triton's, and not served here", 501)
            raise NotFound(f"nothing is served at {path[:200]}; {_HERE}")
        if rest == ("infer",):
            return "POST", partial(self._infer, name, version)
        return "GET", lambda field: self._document(name, version, rest)

    def _document(self, name: str, version: str, rest: tuple[str, ...]) -> Page:
        service = self._directory.find(name, version)
        say: Say = partial(self._metadata, service)
        if rest == ("ready",):
            say = partial(_model_ready, name)
        elif rest == ("stats",):
            say = partial(self._stats, name, version)
        elif rest == ("config",):
            say = partial(self._configuration, service)
        return Page(say, "metadata", service)

    def _infer(self, name: str, version: str, field: Field) -> Infer:
        length = _length(field)
        service = self._directory.find(name, version)
        version = version or self._directory.versions(service.name)[-1]
        return Infer(self._served_by(service), version, length)

    def _served_by(self, service: Service) -> Served:
        served = self._served.get(service)
        if served is None:
            served = self._served[service] = Served(service, self._strings_max, self._room)
        return served

    def _metadata(self, service: Service, body: bytes, models: Models) -> object:
        signature = self._served_by(service).inference.signature
        return metadata(service.name, self._directory.versions(service.name), service.model, signature)

    def _configuration(self, service: Service, body: bytes, models: Models) -> object:
        return configuration(service.name, service.model, self._served_by(service).inference.signature)

    def _ready(self, body: bytes, models: Models) -> object:
        if not self._state.ready:
            raise NotReady("the server is starting or draining")
        return {"ready": True}

    def _index(self, body: bytes, models: Models) -> object:
        if body.strip():  # whether only those are wanted that are ready: all are
            asked = read(body)
            if not (isinstance(asked, dict) and isinstance(asked.get("ready"), bool | None)):
                raise InvalidRequest('an index is asked for by nothing, or by an object like {"ready": true}')
        return [in_index(name, version) for name, version in self._versions(models)]

    def _stats(self, name: str, version: str, body: bytes, models: Models) -> object:
        self._counters.publish()
        numbers = dict(zip(self._counters.names(), self._counters.totals(), strict=False))
        wanted = [
            pair
            for pair in self._versions(models)
            if (not name or pair[0] == name) and (not version or pair[1] == version)
        ]
        return {"model_stats": [statistics(*pair, numbers[pair[0]]) for pair in wanted]}

    def _versions(self, models: Models) -> list[tuple[str, str]]:
        return [
            (name, version)
            for name in self._directory.names
            if models is None or name in models
            for version in self._directory.versions(name)
        ]


def _server(body: bytes, models: Models) -> object:
    return server()


def _live(body: bytes, models: Models) -> object:
    return {"live": True}


def _model_ready(name: str, body: bytes, models: Models) -> object:
    return {"name": name, "ready": True}


def _length(field: Field) -> int | None:
    """How many bytes of JSON come before the tensors; None: all is JSON. Raises InvalidRequest."""
    length = field(_LENGTH_FIELD)
    if length is None:
        return None
    if not (length.isascii() and length.isdigit() and len(length) <= 12):
        raise InvalidRequest(f"{LENGTH_FIELD} is how many bytes of JSON come before the tensors; {quoted(length)} came")
    return int(length)
