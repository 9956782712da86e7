"""The protocol's gRPC service, and what of Triton's own calls there is."""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import NDArray

from graphpipe.errors import Forbidden, InvalidRequest, MalformedMessage, NotFound, ServiceError, TooLarge, Unsupported
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.call import ASIDE_FROM, Form, InferenceCall, Models, Question, RefusedCall
from graphpipe.server.protocols.inference import Inference
from graphpipe.server.protocols.open_inference.contents import arrays, is_work
from graphpipe.server.protocols.open_inference.describe import configuration, in_index, metadata, server, statistics
from graphpipe.server.protocols.open_inference.messages import (
    InferRequest,
    Parameters,
    check_empty,
    configuration_response,
    infer_response,
    metadata_response,
    model_metadata_response,
    read_infer_request,
    read_name,
    repository_index,
    statistics_response,
    truth,
)
from graphpipe.server.protocols.protocol import Endpoint
from graphpipe.server.protocols.recall import Recall
from graphpipe.server.protocols.room import Room
from graphpipe.server.state import State
from graphpipe.wire import Segment
from graphpipe.words import quoted

__all__ = ["SERVICE", "OpenInferenceRpcs"]

SERVICE = "inference.GRPCInferenceService"
_MODEL_INFER = f"/{SERVICE}/ModelInfer"
_METHODS = frozenset(
    f"/{SERVICE}/{name}"
    for name in (
        "ModelConfig",
        "ModelInfer",
        "ModelMetadata",
        "ModelReady",
        "ModelStatistics",
        "RepositoryIndex",
        "ServerLive",
        "ServerMetadata",
        "ServerReady",
    )
)
# Of Triton's calls that are not served.
_WORDS = {
    **dict.fromkeys(
        ("RepositoryModelLoad", "RepositoryModelUnload"),
        "models are not loaded or unloaded by request here; the server's start says which",
    ),
    **dict.fromkeys(
        (f"{kind}SharedMemory{what}" for kind in ("System", "Cuda") for what in ("Status", "Register", "Unregister")),
        "this server has no shared memory with its callers; send tensors' bytes",
    ),
    "ModelStreamInfer": "there are no streams here; send each request as a ModelInfer",
}
_NOT_THIS_MODEL = "this key may not use what is asked for here, if there is such a thing"

Array = NDArray[Any]

_CONFIG_CHARACTERS_MAX = 1 << 20
_SHARED_MEMORY = frozenset(("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"))


class OpenInferenceRpcs:
    """What the service's calls ask of the models of a directory."""

    protocol = "open_inference_grpc"

    def __init__(self, directory: Directory, state: State, counters: Counters, strings_max: int, room: Room) -> None:
        self._directory = directory
        self._state = state
        self._counters = counters
        self._strings_max = strings_max
        self._room = room
        self._inferences: dict[Service, Inference] = {}
        self._recall: Recall[Form] = Recall()
        directory.on_change += (self._inferences.clear, self._recall.forget)

    def check(self, method: str) -> None:
        """Raise Unsupported (501) for a method that is not served."""
        if method not in _METHODS:
            raise _not_served(method.rpartition("/")[2])

    def endpoint(self, method: str, message: memoryview | bytes) -> Endpoint:
        """What a call asks with its message. Raises ServiceError: also Unsupported (501), for one that is not served."""
        view = memoryview(message) if type(message) is bytes else memoryview(message).toreadonly()
        if method == _MODEL_INFER:
            known = self._recall.find(view)
            return self._infer(view) if known is None else InferenceCall(*known)
        match name := method.rpartition("/")[2]:
            case "ServerLive":
                check_empty(view)
                return Question(_live, "")
            case "ServerReady":
                check_empty(view)
                return Question(self._ready, "")
            case "ServerMetadata":
                check_empty(view)
                return Question(_server, "metadata")
            case "ModelReady":
                return self._model_ready(*read_name(view))
            case "ModelMetadata":
                service = self._directory.find(*read_name(view))
                return Question(partial(self._metadata, service), "metadata", service)
            case "ModelConfig":
                service = self._directory.find(*read_name(view))
                return Question(partial(self._configuration, service), "metadata", service)
            case "ModelStatistics":
                asked, version = read_name(view)
                if asked:
                    service = self._directory.find(asked, version)
                    return Question(partial(self._statistics, asked, version), "metadata", service)
                return Question(partial(self._statistics, "", ""), "metadata")
            case "RepositoryIndex":
                check_empty(view)
                return Question(self._index, "metadata")
        raise _not_served(name)

    def _infer(self, message: memoryview) -> Endpoint:
        request = read_infer_request(message)
        name = request.model_name
        service = self._directory.find(name, request.model_version)
        version = request.model_version or self._directory.versions(name)[-1]
        try:
            return self._call(service, version, request, message)
        except ServiceError as error:
            return RefusedCall(service, error)

    def _call(self, service: Service, version: str, request: InferRequest, message: memoryview) -> InferenceCall:
        _check(request)
        form = Form(
            self._inference(service),
            tuple([tensor.name for tensor in request.inputs]),
            tuple([output.name for output in request.outputs]),
            _config(request.parameters),
            partial(infer_response, service.name, version, request.id),
        )
        if len(message) >= ASIDE_FROM and is_work(request):
            return InferenceCall(form, partial(arrays, request, self._strings_max, self._room), is_work=True)
        found = arrays(request, self._strings_max, self._room)
        if not request.id:  # one with a name of its own is the last of its kind
            self._recall.keep(message, form, found)
        return InferenceCall(form, found)

    def _model_ready(self, name: str, version: str) -> Question:
        """A question that is asked again and again, until it is yes: no model is no error."""
        try:
            return Question(_live, "metadata", self._directory.find(name, version))
        except NotFound:
            return Question(partial(_not_there, name), "metadata")

    def _ready(self, models: Models) -> list[Segment]:
        return truth(self._state.ready)

    def _inference(self, service: Service) -> Inference:
        inference = self._inferences.get(service)
        if inference is None:
            inference = self._inferences[service] = Inference(service)
        return inference

    def _configuration(self, service: Service, models: Models) -> list[Segment]:
        signature = self._inference(service).signature
        return configuration_response(configuration(service.name, service.model, signature))

    def _metadata(self, service: Service, models: Models) -> list[Segment]:
        signature = self._inference(service).signature
        return model_metadata_response(
            metadata(service.name, self._directory.versions(service.name), service.model, signature)
        )

    def _statistics(self, name: str, version: str, models: Models) -> list[Segment]:
        self._counters.publish()
        numbers = dict(zip(self._counters.names(), self._counters.totals(), strict=False))
        wanted = [
            each
            for each in self._versions(models)
            if (not name or each[0] == name) and (not version or each[1] == version)
        ]
        return statistics_response([statistics(*each, numbers[each[0]]) for each in wanted])

    def _index(self, models: Models) -> list[Segment]:
        return repository_index([in_index(*each) for each in self._versions(models)])

    def _versions(self, models: Models) -> list[tuple[str, str]]:
        return [
            (name, version)
            for name in self._directory.names
            if models is None or name in models
            for version in self._directory.versions(name)
        ]


def _not_served(name: str) -> Unsupported:
    return Unsupported(f"{quoted(name)}: {_WORDS.get(name, 'it is not a call that is served here')}", 501)


def _live(models: Models) -> list[Segment]:
    return truth(True)


def _not_there(name: str, models: Models) -> list[Segment]:
    if models is not None and name not in models:
        raise Forbidden(_NOT_THIS_MODEL)  # as if there were one
    return truth(False)


def _server(models: Models) -> list[Segment]:
    described = server()
    return metadata_response(described["name"], described["version"], described["extensions"])


def _check(request: InferRequest) -> None:
    """Raise for what of the protocol is not done here, and for what is no request of it."""
    for place, tensor in enumerate(request.inputs):
        if not tensor.name:
            raise MalformedMessage(f"inputs[{place}] has no name")
        if tensor.parameters and not _SHARED_MEMORY.isdisjoint(tensor.parameters):
            raise _shared_memory(f"input {quoted(tensor.name)}")
    asked: set[str] = set()
    for place, output in enumerate(request.outputs):
        if not output.name:
            raise MalformedMessage(f"outputs[{place}] has no name")
        what = f"output {quoted(output.name)}"
        if output.name in asked:
            raise InvalidRequest(f"{what} is asked for twice; ask for each once")
        asked.add(output.name)
        if output.parameters.get("classification"):
            raise Unsupported(f"{what}: classes are not made of scores here (classification); ask for the scores", 501)
        if not _SHARED_MEMORY.isdisjoint(output.parameters):
            raise _shared_memory(what)


def _shared_memory(what: str) -> Unsupported:
    return Unsupported(f"{what} is in shared memory, which this server does not have; send its bytes", 501)


def _config(parameters: Parameters) -> str:
    config = parameters.get("config", "")
    if not isinstance(config, str):
        raise InvalidRequest("parameters: config is a string, which the model gets as it is")
    if len(config) > _CONFIG_CHARACTERS_MAX:
        raise TooLarge(f"config has {len(config):,} characters, and at most {_CONFIG_CHARACTERS_MAX:,} are taken")
    return config
