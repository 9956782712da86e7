"""Requests as bytes: our own writer's, another writer's, and some that nobody writes by accident."""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from graphpipe.wire import encode_request
from tests.generated import graphpipe_generated as fbs

__all__ = ["foreign", "post", "shared_strings", "small", "tensor"]


def post(path: str, body: bytes, version: str = "1.1", *fields: str) -> bytes:
    """The head of a request, and its body."""
    more = "".join(f"{field}\r\n" for field in fields)
    return f"POST {path} HTTP/{version}\r\nHost: h\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def tensor(array: NDArray[Any], **more: Any) -> bytes:
    """A request with one tensor, as our writer lays it out."""
    return b"".join(encode_request([array], **more))


def small(floats: int = 256) -> bytes:
    """The request of small calls: 1 KB of float32 unless told otherwise."""
    return tensor(np.linspace(0, 1, floats, dtype=np.float32))


def foreign(array: NDArray[Any], asked: str = "") -> bytes:
    """A request with one tensor as the official FlatBuffers builders lay it out: back to front, so that what was made first,
    here as in the original's clients the config, lies behind the tensor's bytes. ``asked`` is the name of an output.
    """
    builder = flatbuffers.Builder(array.nbytes + 1024)
    config = builder.CreateString("")
    output = builder.CreateString(asked) if asked else 0
    data = builder.CreateNumpyVector(array.reshape(-1).view(np.uint8))
    fbs.TensorStartShapeVector(builder, array.ndim)
    for dim in reversed(array.shape):
        builder.PrependInt64(dim)
    shape = builder.EndVector()
    fbs.TensorStart(builder)
    fbs.TensorAddType(builder, fbs.Type.Float32)
    fbs.TensorAddShape(builder, shape)
    fbs.TensorAddData(builder, data)
    only = fbs.TensorEnd(builder)
    fbs.InferRequestStartInputTensorsVector(builder, 1)
    builder.PrependUOffsetTRelative(only)
    tensors = builder.EndVector()
    outputs = 0
    if output:
        fbs.InferRequestStartOutputNamesVector(builder, 1)
        builder.PrependUOffsetTRelative(output)
        outputs = builder.EndVector()
    fbs.InferRequestStart(builder)
    if outputs:
        fbs.InferRequestAddOutputNames(builder, outputs)
    fbs.InferRequestAddConfig(builder, config)
    fbs.InferRequestAddInputTensors(builder, tensors)
    infer = fbs.InferRequestEnd(builder)
    fbs.RequestStart(builder)
    fbs.RequestAddReqType(builder, fbs.Req.InferRequest)
    fbs.RequestAddReq(builder, infer)
    builder.Finish(fbs.RequestEnd(builder))
    return bytes(builder.Output())


def shared_strings(count: int) -> bytes:
    """A String tensor of ``count`` elements that are all the same empty string: four bytes each, and legal."""
    vector = 96  # where the vector of strings begins, and the only string ends the message
    only = vector + 4 + 4 * count
    front = struct.pack(
        "<I 4H iIB3x 5H2x iI II 6H iIIB3x 4x Iq",
        12,  # the root's table
        8, 12, 8, 4,  # Request's vtable: its size, its table's, req_type, req
        8, 36 - 16, 1,  # Request
        10, 8, 0, 0, 4,  # InferRequest's vtable: config and input_names are absent
        12, 44 - 40,  # InferRequest
        1, 64 - 48,  # its tensors
        12, 16, 12, 4, 0, 8,  # Tensor's vtable: type, shape, no data, string_val
        12, 84 - 68, vector - 72, 12,  # Tensor, of type String
        1, count,  # its shape
    )  # fmt: skip
    assert len(front) == vector
    places = only - np.arange(vector + 4, only, 4, dtype="<u4")
    return front + struct.pack("<I", count) + places.tobytes() + bytes(8)
