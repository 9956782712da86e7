"""Callers that have the official classes: grpcio's channel, and the messages that protobuf makes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

from tests.front.servers import InProcess
from tests.grpc.servers import LARGE
from tests.protocols.official import message_class

__all__ = ["HEALTH", "INFERENCE", "PREDICTION", "STATUS", "Caller", "caller", "refusal"]

# Of each call: its service, and its messages, question and answer.
INFERENCE = {
    f"{name}": (
        f"/inference.GRPCInferenceService/{name}",
        f"inference.{name}Request",
        f"inference.{name}Response",
    )
    for name in (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "RepositoryIndex",
        "ModelStatistics",
        "ModelConfig",
    )
}
PREDICTION = {
    name: (
        f"/tensorflow.serving.PredictionService/{name}",
        f"tensorflow.serving.{name}Request",
        f"tensorflow.serving.{name}Response",
    )
    for name in ("Predict", "GetModelMetadata")
}
STATUS = {
    "GetModelStatus": (
        "/tensorflow.serving.ModelService/GetModelStatus",
        "tensorflow.serving.GetModelStatusRequest",
        "tensorflow.serving.GetModelStatusResponse",
    )
}
HEALTH = {
    "Check": (
        "/grpc.health.v1.Health/Check",
        "grpc.health.v1.HealthCheckRequest",
        "grpc.health.v1.HealthCheckResponse",
    )
}
_CALLS = {**INFERENCE, **PREDICTION, **STATUS, **HEALTH}


class Caller:
    """Calls by name, with messages of the official classes."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __call__(self, call: str, message: Any = None, key: str = "", timeout: float = 20, **fields: Any) -> Any:
        path, question, answer = _CALLS[call]
        said = message_class(question)(**fields) if message is None else message
        raw = self.raw(path, said.SerializeToString(), key, timeout)
        return message_class(answer).FromString(raw)

    def raw(self, path: str, message: bytes, key: str = "", timeout: float = 20) -> bytes:
        """The bytes that a call answers to bytes."""
        metadata = [("authorization", f"Bearer {key}")] if key else None
        answer: bytes = self._channel.unary_unary(path)(message, timeout=timeout, metadata=metadata)
        return answer

    def infer(self, model: str, *tensors: tuple[str, str, np.ndarray[Any, Any]], **more: Any) -> Any:
        """The answer to a ModelInferRequest with raw contents."""
        request = message_class("inference.ModelInferRequest")(model_name=model, **more)
        for name, datatype, array in tensors:
            request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        return self("ModelInfer", request)


@contextlib.contextmanager
def caller(server: InProcess) -> Iterator[Caller]:
    """Somebody who calls a server."""
    with grpc.insecure_channel(server.url.removeprefix("http://").rstrip("/"), options=LARGE) as channel:
        yield Caller(channel)


def refusal(error: Any) -> tuple[str, str]:
    """Name of the status, and words, of a call that was refused."""
    return error.value.code().name, error.value.details()
