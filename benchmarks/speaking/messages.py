"""A float32 tensor as each protocol asks for it back, and what of the answer is the tensor."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.forms import JSON_HEAD, OIP_JSON, Form
from tests.protocols.official import message_class

__all__ = ["MODEL_INFER", "PATHS", "ROWS", "binary", "grpc_floats", "grpc_request"]

Array = NDArray[Any]

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"


def grpc_request(array: Array) -> bytes:
    """A ModelInferRequest as the protocol's clients make it: the tensor's bytes in raw_input_contents."""
    described = {"name": "x", "datatype": "FP32", "shape": array.shape}
    made = message_class("inference.ModelInferRequest")(
        model_name="echo", inputs=[described], raw_input_contents=[array.tobytes()]
    )
    written: bytes = made.SerializeToString()
    return written


def grpc_floats(answer: bytes) -> Array:
    """Of a ModelInferResponse, flat."""
    read: Any = message_class("inference.ModelInferResponse").FromString(answer)
    return np.frombuffer(read.raw_output_contents[0], np.float32)


def binary(array: Array) -> tuple[list[memoryview | bytes], list[str]]:
    """Over HTTP with the tensor's bytes behind the JSON: the body, not joined, and what the head has besides."""
    described = {
        "name": "x",
        "shape": array.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }
    asked = {"inputs": [described], "parameters": {"binary_data_output": True}}
    head = json.dumps(asked, separators=(",", ":")).encode()
    return [head, memoryview(array).cast("B")], [f"Inference-Header-Content-Length: {len(head)}"]


def _write_rows(array: Array) -> tuple[dict[str, str], bytes]:
    numbers = array.astype(str).astype(np.float64).tolist()  # as short as float32 can be written
    return JSON_HEAD, json.dumps({"instances": numbers}, separators=(",", ":")).encode()


ROWS = Form(
    "TF-Serving, row form",
    True,
    _write_rows,
    lambda head, body: np.asarray(json.loads(body)["predictions"], np.float32).reshape(-1),
)
PATHS = {OIP_JSON: "/v2/models/echo/infer", ROWS: "/v1/models/echo:predict"}
