"""gRPC's health service."""

from __future__ import annotations

import grpc
import pytest

from tests.front.servers import InProcess
from tests.grpc.official import Caller, refusal


@pytest.mark.parametrize(
    "service",
    [
        "",
        "grpc.health.v1.Health",
        "inference.GRPCInferenceService",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "echo",
    ],
)
def test_what_is_served_is_serving(call: Caller, service: str):
    assert call("Check", service=service).status == 1


def test_what_is_not_there_is_not_found(call: Caller):
    with pytest.raises(grpc.RpcError) as error:
        call("Check", service="nobody")
    assert refusal(error) == ("NOT_FOUND", "there is no service or model 'nobody'")


def test_a_server_that_ends_is_not_serving(call: Caller, server: InProcess):
    server.ask(lambda: setattr(server.app.state, "draining", True))
    try:
        assert call("Check").status == 2
        assert call("Check", service="echo").status == 2
    finally:
        server.ask(lambda: setattr(server.app.state, "draining", False))


def test_there_is_no_watching(call: Caller):
    with pytest.raises(grpc.RpcError) as error:
        call.raw("/grpc.health.v1.Health/Watch", b"")
    assert refusal(error)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x01\xff", b"\x78\x01" * 1000])
def test_what_is_no_message_is_refused(call: Caller, message: bytes):
    with pytest.raises(grpc.RpcError) as error:
        call.raw("/grpc.health.v1.Health/Check", message)
    assert refusal(error)[0] in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
