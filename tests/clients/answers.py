"""What an answer holds, whatever it is written in: tensors by name, as (datatype, array)."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.clients.models import DTYPES
from tests.protocols.official import message_class
from tests.raw_http import Answer

Tensors = dict[str, tuple[str, Any]]

# The numbers of TensorFlow's element types.
TF_DATATYPES = {
    1: "FP32", 2: "FP64", 3: "INT32", 4: "UINT8", 5: "INT16", 6: "INT8", 7: "BYTES",
    9: "INT64", 10: "BOOL", 17: "UINT16", 19: "FP16", 22: "UINT32", 23: "UINT64",
}  # fmt: skip
TF_VALUES = {
    "FP32": "float_val", "FP64": "double_val", "INT64": "int64_val", "BOOL": "bool_val",
    "UINT32": "uint32_val", "UINT64": "uint64_val", "BYTES": "string_val",
}  # fmt: skip


def of_http(answer: Answer) -> Tensors:
    """An answer of the Open Inference Protocol: JSON, and perhaps the bytes of tensors behind it."""
    body = plain(answer)
    length = answer.headers.get("inference-header-content-length")
    head, rest = (body, b"") if length is None else (body[: int(length)], body[int(length) :])
    found: Tensors = {}
    for each in json.loads(head)["outputs"]:
        size = each.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = from_list(each["datatype"], each["data"])
        else:
            array, rest = from_bytes(each["datatype"], rest[:size]), rest[size:]
        found[each["name"]] = each["datatype"], array.reshape(each["shape"])
    assert rest == b""
    return found


def plain(answer: Answer) -> bytes:
    undo: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}
    return undo[answer.headers.get("content-encoding", "")](answer.body)


def of_grpc(message: bytes) -> Tensors:
    """A ModelInferResponse."""
    answer = message_class("inference.ModelInferResponse").FromString(message)
    assert len(answer.raw_output_contents) == len(answer.outputs)
    return {
        each.name: (each.datatype, from_bytes(each.datatype, raw).reshape(tuple(each.shape)))
        for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def of_tensorflow(message: bytes) -> Tensors:
    """A PredictResponse."""
    answer = message_class("tensorflow.serving.PredictResponse").FromString(message)
    found: Tensors = {}
    for name, tensor in answer.outputs.items():
        datatype = TF_DATATYPES[tensor.dtype]
        if tensor.tensor_content or datatype not in TF_VALUES:
            array = from_bytes(datatype, tensor.tensor_content)
        else:
            array = from_list(datatype, list(getattr(tensor, TF_VALUES[datatype])))
        found[name] = datatype, array.reshape([dim.size for dim in tensor.tensor_shape.dim])
    return found


def from_list(datatype: str, values: Any) -> Any:
    if datatype == "BYTES":
        flat = np.empty(len(values), object)
        flat[:] = [value if isinstance(value, bytes) else value.encode() for value in values]
        return flat
    return np.array(values, DTYPES[datatype])


def from_bytes(datatype: str, data: bytes) -> Any:
    if datatype == "BYTES":
        return from_list(datatype, list(words(data)))
    return np.frombuffer(data, DTYPES[datatype])


def words(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack_from("<I", data)
        assert len(data) >= 4 + length
        yield data[4 : 4 + length]
        data = data[4 + length :]
