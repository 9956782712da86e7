"""How tensors are asked for over HTTP: one request with one float32 tensor, as each server takes it, and its answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.messages import tensor
from graphpipe.wire import decode_infer_response

__all__ = ["BASE64", "BYTES", "FORMS", "GRAPHPIPE", "JSON", "OIP_BINARY", "OIP_JSON", "Form", "request"]

Array = NDArray[Any]
Head = dict[str, str]


@dataclass(frozen=True)
class Form:
    """``write`` gives the headers and the body of a request; ``read`` the answer's floats, flat."""

    name: str
    is_text: bool  # every number is written out
    write: Callable[[Array], tuple[Head, bytes]]
    read: Callable[[Head, bytes], Array]


def request(form: Form, path: str, array: Array) -> bytes:
    """The whole request, ready to be sent again and again."""
    headers, body = form.write(array)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _floats(data: bytes) -> Array:
    return np.frombuffer(data, np.float32)


def _numbers(array: Array) -> Any:
    """Lists of them, as short as float32 can be written: half the text of what Python makes of the same numbers."""
    return array.astype(str).astype(np.float64).tolist()


def _dumped(what: Any) -> bytes:
    return json.dumps(what, separators=(",", ":")).encode()


def _write_oip(array: Array, binary: bool) -> tuple[Head, bytes]:
    described: dict[str, Any] = {"name": "x", "shape": list(array.shape), "datatype": "FP32"}
    if not binary:
        described["data"] = _numbers(array.reshape(-1))
        return {"Content-Type": "application/json"}, _dumped({"inputs": [described]})
    described["parameters"] = {"binary_data_size": array.nbytes}
    head = _dumped(
        {
            "id": "1",
            "inputs": [described],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    )
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return headers, head + array.tobytes()


def _read_oip_binary(head: Head, body: bytes) -> Array:
    return _floats(body[int(head["inference-header-content-length"]) :])


def _read_graphpipe(head: Head, body: bytes) -> Array:
    (output,) = decode_infer_response(body).outputs
    return np.asarray(output).reshape(-1)


def _read_json(head: Head, body: bytes) -> Array:
    found = json.loads(body)
    return np.asarray(found["y"] if isinstance(found, dict) else found, np.float32).reshape(-1)


BINARY_HEAD = {"Content-Type": "application/octet-stream"}
JSON_HEAD = {"Content-Type": "application/json"}
GRAPHPIPE = Form("GraphPipe", False, lambda array: ({}, tensor(array)), _read_graphpipe)
BYTES = Form("bytes", False, lambda array: (BINARY_HEAD, array.tobytes()), lambda head, body: _floats(body))
JSON = Form("JSON", True, lambda array: (JSON_HEAD, _dumped({"x": _numbers(array)})), _read_json)
BASE64 = Form(
    "base64 in JSON",
    False,
    lambda array: (JSON_HEAD, _dumped({"x": base64.b64encode(array.tobytes()).decode()})),
    lambda head, body: _floats(base64.b64decode(json.loads(body)["y"])),
)
OIP_BINARY = Form("Open Inference, binary", False, lambda array: _write_oip(array, binary=True), _read_oip_binary)
OIP_JSON = Form(
    "Open Inference, JSON",
    True,
    lambda array: _write_oip(array, binary=False),
    lambda head, body: np.asarray(json.loads(body)["outputs"][0]["data"], np.float32).reshape(-1),
)
FORMS = {form.name: form for form in (GRAPHPIPE, BYTES, JSON, BASE64, OIP_BINARY, OIP_JSON)}
