"""Which protocol is spoken where."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from graphpipe.buffers import BufferPool
from graphpipe.errors import LoadError, ServiceError, Unsupported
from graphpipe.server.models.directory import Directory
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.graphpipe import GraphPipe
from graphpipe.server.protocols.open_inference.dialect import OpenInference
from graphpipe.server.protocols.path import segments
from graphpipe.server.protocols.protocol import Dialect, Endpoint, Field, Rpcs
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.rpcs import rpcs_of
from graphpipe.server.protocols.tensorflow_serving.dialect import TensorFlowServing
from graphpipe.server.settings.values import PROTOCOLS, Settings
from graphpipe.server.state import State

__all__ = ["Dialects"]


class Dialects:
    """The dialects of a server: one by the first segment of its paths, GraphPipe's everywhere else.

    ``rpcs`` are gRPC's services, by ``package.Service``; there are none where it is not spoken.
    """

    def __init__(
        self, graphpipe: GraphPipe, others: Mapping[str, Dialect] | None = None, rpcs: Mapping[str, Rpcs] | None = None
    ) -> None:
        self.graphpipe = graphpipe
        self._others = dict(others or {})
        self.rpcs = dict(rpcs or {})

    @classmethod
    def of(
        cls, settings: Settings, directory: Directory, state: State, counters: Counters, pool: BufferPool
    ) -> Dialects:
        """Those that the settings have. Raises LoadError where they name one that takes what is not installed."""
        room = Room(pool)
        others: dict[str, Dialect] = {}
        if "open-inference" in settings.protocols:
            if _is_there("orjson", "json", settings, "open-inference"):
                others["v2"] = OpenInference(directory, state, counters, settings.strings_max, room)
            else:
                others["v2"] = _Missing("open_inference", "json")
        if "tensorflow-serving" in settings.protocols:
            if _is_there("orjson", "json", settings, "tensorflow-serving"):
                others["v1"] = TensorFlowServing(directory, state, settings.strings_max, room)
            else:
                others["v1"] = _Missing("tensorflow_serving", "json")
        rpcs: dict[str, Rpcs] = {}
        if "grpc" in settings.protocols and _is_there("ngh2", "grpc", settings, "grpc"):
            rpcs = rpcs_of(settings, directory, state, counters, room)
        return cls(GraphPipe(directory, settings.strings_max, room), others, rpcs)

    def at(self, path: str) -> Dialect:
        """Whose an escaped path is."""
        # A head that never repeats comes by here: what is surely GraphPipe's is not taken apart twice.
        if self._others and (path.startswith("/v") or "/." in path or "%" in path) and path.startswith("/"):
            return self._others.get(segments(path)[0], self.graphpipe)
        return self.graphpipe


class _Missing:
    """A dialect that takes a library which is not installed: it says so at each of its paths."""

    def __init__(self, protocol: str, extra: str) -> None:
        self.protocol = protocol
        self._extra = extra

    def endpoint(self, method: str, path: str, field: Field) -> Endpoint:
        raise self._missing()

    def methods(self, path: str) -> tuple[str, ...]:
        raise self._missing()

    def _missing(self) -> Unsupported:
        return Unsupported(
            f"this takes a library that is not installed here: pip install 'graphpipe-rpc[{self._extra}]'", 501
        )

    def error_body(self, error: ServiceError, accept: str) -> tuple[str, bytes]:
        return "text/plain; charset=utf-8", f"{error.message}\n".encode("utf-8", "replace")


def _is_there(module: str, extra: str, settings: Settings, word: str) -> bool:
    """Whether a module is installed that a protocol takes. Raises LoadError if it is not, and the protocol was asked for."""
    if find_spec(module) is not None:
        return True
    if settings.protocols != PROTOCOLS:
        raise LoadError(
            f"--protocols {word} takes a library that is not installed: pip install 'graphpipe-rpc[{extra}]'"
        )
    return False
