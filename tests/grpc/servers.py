"""Servers that speak gRPC, and callers: grpcio's own, and frames made by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import grpc
import numpy as np

from graphpipe.server.life.app import App
from graphpipe.server.protocols.protocol import Endpoint, Rpcs
from graphpipe.wire import decode_infer_response, encode_request
from tests.front.servers import InProcess, in_process

__all__ = ["LARGE", "Messages", "calling", "grpc_server", "message", "tensor"]

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Messages:
    """A service of gRPC whose methods are models, and whose messages are GraphPipe's."""

    protocol = "open_inference_grpc"

    def __init__(self, app: App) -> None:
        self._graphpipe = app.dialects.graphpipe

    def check(self, method: str) -> None:
        """Whatever there is no model for, a message is needed to say so."""

    def endpoint(self, method: str, message: memoryview | bytes) -> Endpoint:
        return self._graphpipe.endpoint("POST", f"/models/{method.rpartition('/')[2]}", lambda name: None)


def _rpcs(app: App) -> Mapping[str, Rpcs]:
    return {"test.Messages": Messages(app)}


grpc_server = partial(in_process, rpcs=_rpcs)


@contextlib.contextmanager
def calling(server: InProcess, model: str = "echo", **options: Any) -> Iterator[grpc.UnaryUnaryMultiCallable]:
    """A model of a server, as grpcio calls it."""
    with grpc.insecure_channel(server.url.removeprefix("http://").rstrip("/"), options=LARGE, **options) as channel:
        yield channel.unary_unary(f"/test.Messages/{model}")


def message(array: Any) -> bytes:
    """A request with one tensor."""
    return b"".join(encode_request([np.asarray(array)]))


def tensor(answer: bytes) -> Any:
    """The one tensor of an answer."""
    (array,) = decode_infer_response(answer).outputs
    return array
