"""TensorFlow Serving's gRPC services."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, NotFound, ServiceError, TooLarge, Unsupported
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.protocols.call import ASIDE_FROM, Form, InferenceCall, Models, Question, RefusedCall
from graphpipe.server.protocols.inference import Inference, Named
from graphpipe.server.protocols.protobuf import Reader
from graphpipe.server.protocols.protocol import Endpoint
from graphpipe.server.protocols.recall import Recall
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.tensorflow_serving.messages import (
    AVAILABLE,
    SIGNATURE_FIELD,
    ModelSpec,
    PredictRequest,
    metadata_response,
    predict_response,
    read_metadata_question,
    read_predict_request,
    read_status_question,
    status_response,
    version_number,
)
from graphpipe.server.protocols.tensorflow_serving.signatures import check_name, method_of, name_of
from graphpipe.server.protocols.tensorflow_serving.tensors import is_work, read_tensor, values
from graphpipe.signature import TensorSpec
from graphpipe.wire import Segment
from graphpipe.words import listed, quoted

__all__ = ["SERVICES", "TensorFlowServingRpcs"]

Array = NDArray[Any]

_PREDICTION, _MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
SERVICES = (_PREDICTION, _MODEL)
_METHODS = frozenset((f"/{_PREDICTION}/Predict", f"/{_PREDICTION}/GetModelMetadata", f"/{_MODEL}/GetModelStatus"))

# What a last value may stand for, in bytes, for a request of a few; and that on the event loop.
_FILLED_BYTES_MAX, _FILLED_AT_ONCE = 64 << 20, 1 << 18


class TensorFlowServingRpcs:
    """What the calls of both services ask of the models of a directory."""

    protocol = "tensorflow_serving_grpc"

    def __init__(self, directory: Directory, strings_max: int, room: Room) -> None:
        self._directory = directory
        self._strings_max = strings_max
        self._room = room
        self._inferences: dict[Service, Inference] = {}
        self._recall: Recall[Form] = Recall()
        directory.on_change += (self._inferences.clear, self._recall.forget)

    def check(self, method: str) -> None:
        """Raise Unsupported (501) for a method that is not served."""
        if method not in _METHODS:
            raise _not_served(method)

    def endpoint(self, method: str, message: memoryview | bytes) -> Endpoint:
        """What a call asks with its message. Raises ServiceError: also Unsupported (501), for one that is not served."""
        view = memoryview(message).toreadonly()
        match method[1:].split("/"):
            case (service, "Predict") if service == _PREDICTION:
                return self._predict(view)
            case (service, "GetModelMetadata") if service == _PREDICTION:
                return self._metadata(view)
            case (service, "GetModelStatus") if service == _MODEL:
                return self._status(view)
        raise _not_served(method)

    def _predict(self, message: memoryview) -> Endpoint:
        known = self._recall.find(message)
        if known is not None:
            return InferenceCall(*known)
        request = read_predict_request(message)
        service, version = self._find(request.spec)
        try:
            return self._call(service, version, request, message)
        except ServiceError as error:
            return RefusedCall(service, error)

    def _call(self, service: Service, version: str, request: PredictRequest, message: memoryview) -> InferenceCall:
        check_name(service.model, request.spec.signature_name)
        form = Form(
            self._inference(service),
            tuple(request.inputs),
            tuple(request.output_filter),
            "",
            partial(_encoded, service, version),
        )
        if len(message) >= ASIDE_FROM and any(is_work(parts) for parts in request.inputs.values()):
            return InferenceCall(form, partial(self._arrays, request.inputs, _FILLED_BYTES_MAX), is_work=True)
        try:
            found = self._arrays(request.inputs, _FILLED_AT_ONCE)
        except TooLarge:  # to be filled in here; or anywhere, which is told there
            return InferenceCall(form, partial(self._arrays, request.inputs, _FILLED_BYTES_MAX), is_work=True)
        self._recall.keep(message, form, found)
        return InferenceCall(form, found)

    def _arrays(self, inputs: dict[str, list[memoryview]], filled_bytes_max: int) -> list[Array]:
        # Beside its values a tensor has a few fields, and four for each dimension.
        reader = Reader(self._strings_max + 256 * len(inputs))
        left = filled_bytes_max
        arrays = []
        for name, parts in inputs.items():
            what = f"input {quoted(name)}"
            tensor = read_tensor(parts, reader, what)
            array = values(tensor, what, left, self._room)
            if tensor.content is None and array.nbytes > sum(map(len, parts)):
                left -= array.nbytes
            arrays.append(array)
        return arrays

    def _metadata(self, message: memoryview) -> Question:
        question = read_metadata_question(message)
        if not question.fields:
            raise InvalidRequest(f"metadata_field says what is asked for, and is missing: {SIGNATURE_FIELD!r}")
        others = [name for name in question.fields if name != SIGNATURE_FIELD]
        if others:
            raise InvalidRequest(f"there is no metadata_field {listed(others)}; there is {SIGNATURE_FIELD!r}")
        service, version = self._find(question.spec)
        return Question(partial(self._describe, service, version), "metadata", service)

    def _describe(self, service: Service, version: str, models: Models) -> list[Segment]:
        signature = self._inference(service).signature
        described = {
            name_of(service.model): (
                _named(signature.inputs, signature.input_names),
                _named(signature.outputs, signature.output_names),
                method_of(service.model),
            )
        }
        return metadata_response(service.name, version_number(version), described)

    def _status(self, message: memoryview) -> Question:
        spec = read_status_question(message)
        service, version = self._find(spec)
        names = [version] if spec.version is not None else self._directory.versions(service.name)
        return Question(partial(_states, names), "metadata", service)

    def _find(self, spec: ModelSpec) -> tuple[Service, str]:
        """The service that a request is for, and the name of its version. Raises NotFound."""
        if spec.label:
            raise NotFound(f"model {quoted(spec.name)} has no version with the label {quoted(spec.label)}")
        version = "" if spec.version is None else str(spec.version)
        service = self._directory.find(spec.name, version)
        return service, version or self._directory.versions(spec.name)[-1]

    def _inference(self, service: Service) -> Inference:
        inference = self._inferences.get(service)
        if inference is None:
            inference = self._inferences[service] = Inference(service)
        return inference


def _not_served(method: str) -> Unsupported:
    return Unsupported(f"{method[:100]!r} is not a call that is served here", 501)


def _named(specs: Sequence[TensorSpec], names: Sequence[str]) -> list[TensorSpec]:
    by_name = {spec.name: spec for spec in specs}
    return [by_name.get(name, TensorSpec(name)) for name in names]


def _encoded(service: Service, version: str, outputs: Named) -> list[Segment]:
    return predict_response(outputs, service.name, version_number(version), name_of(service.model))


def _states(versions: Sequence[str], models: Models) -> list[Segment]:
    numbers = [number for version in versions if (number := version_number(version)) is not None]
    return status_response([(number, AVAILABLE) for number in numbers])
