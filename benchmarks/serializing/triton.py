"""Triton's two protocols: the side of a caller by its clients' library, the side of a server as servers in Python have it.

Triton itself is not Python; those that speak its protocol in Python read a request and write an answer in these steps.
"""

from __future__ import annotations

import json

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.grpc import service_pb2

# What its client's infer() makes a message with.
from tritonclient.grpc._utils import _get_inference_request

from benchmarks.serializing.codec import Array, Codec, Parts, Way

# --- HTTP with the binary extension: JSON, then the bytes; a header of HTTP says where the JSON ends -------------------


def http_request(array: Array) -> Parts:
    tensor = over_http.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=True)
    wanted = over_http.InferRequestedOutput("y", binary_data=True)
    body, head_bytes = over_http.InferenceServerClient.generate_request_body([tensor], outputs=[wanted])
    return Sent(body, head_bytes)


def http_read_request(received: tuple[bytes, int]) -> Array:
    body, head_bytes = received
    tensor = json.loads(body[:head_bytes])["inputs"][0]
    count = tensor["parameters"]["binary_data_size"] // 4
    return np.frombuffer(body, np.float32, count, head_bytes).reshape(tensor["shape"])


def http_response(array: Array) -> Parts:
    tensor = {
        "name": "y",
        "datatype": "FP32",
        "shape": array.shape,
        "parameters": {"binary_data_size": array.nbytes},
    }
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": [tensor]}).encode()
    return Sent(b"".join((head, array.data)), len(head))


def http_read_response(received: tuple[bytes, int]) -> Array:
    body, head_bytes = received
    result = over_http.InferResult.from_response_body(body, header_length=head_bytes)
    array: Array = result.as_numpy("y")
    return array


class Sent(list[bytes]):
    """A body, and where its JSON ends, which a header says."""

    def __init__(self, body: bytes, head_bytes: int) -> None:
        super().__init__([body])
        self.head_bytes = head_bytes


def received(sent: Parts) -> tuple[bytes, int]:
    assert isinstance(sent, Sent)
    return sent[0], sent.head_bytes


# --- gRPC -------------------------------------------------------------------------------------------------------------


def grpc_request(array: Array) -> Parts:
    tensor = over_grpc.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    message = _get_inference_request(
        model_name="m",
        inputs=[tensor],
        model_version="",
        request_id="",
        outputs=[over_grpc.InferRequestedOutput("y")],
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters=None,
    )
    return [message.SerializeToString()]


def grpc_read_request(body: bytes) -> Array:
    message = service_pb2.ModelInferRequest.FromString(body)
    return np.frombuffer(message.raw_input_contents[0], np.float32).reshape(message.inputs[0].shape)


def grpc_response(array: Array) -> Parts:
    message = service_pb2.ModelInferResponse(model_name="m", model_version="1")
    message.outputs.add(name="y", datatype="FP32", shape=array.shape)
    message.raw_output_contents.append(array.tobytes())
    return [message.SerializeToString()]


def grpc_read_response(body: bytes) -> Array:
    array: Array = over_grpc.InferResult(service_pb2.ModelInferResponse.FromString(body)).as_numpy("y")
    return array


WAYS = {
    "triton-http": Way(
        Codec(http_request, http_read_request, received), Codec(http_response, http_read_response, received)
    ),
    "triton-grpc": Way(Codec(grpc_request, grpc_read_request), Codec(grpc_response, grpc_read_response)),
}
