"""Requests of the Open Inference Protocol by hand, as no client sends them: mistakes, and what the text leaves open."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROW = np.arange(16, dtype=np.int32)
LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Oddity:
    name: str
    path: str
    body: bytes = b""
    method: str = "POST"
    fields: dict[str, str] = field(default_factory=dict)


def asked(**more: Any) -> bytes:
    """The head of a request with two rows, and ``more``, which may replace its parts."""
    return json.dumps({"inputs": [tensor("INPUT0"), tensor("INPUT1")], **more}).encode()


def tensor(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "INT32", "shape": [1, 16], "data": ROW.tolist(), **more}


def of_first(**more: Any) -> bytes:
    return asked(inputs=[tensor("INPUT0", **more), tensor("INPUT1")])


def without(key: str) -> bytes:
    first = tensor("INPUT0")
    del first[key]
    return asked(inputs=[first, tensor("INPUT1")])


def binary(
    length: str | None = None, sizes: tuple[Any, Any] = (64, 64), tail: bytes = ROW.tobytes() * 2
) -> dict[str, Any]:
    """Two rows as bytes; ``length`` is what the field says of the head's, where it is not true."""
    inputs = [
        tensor(name, parameters={"binary_data_size": size})
        for name, size in zip(("INPUT0", "INPUT1"), sizes, strict=True)
    ]
    for each in inputs:
        del each["data"]
    head = asked(inputs=inputs)
    return {"body": head + tail, "fields": {LENGTH: str(len(head)) if length is None else length}}


INFER = "/v2/models/simple/infer"
FP32 = "/v2/models/same_fp32/infer"
BOOL = "/v2/models/same_bool/infer"
BYTES = "/v2/models/same_bytes/infer"


def one(datatype: str, data: Any, shape: tuple[int, ...] = (1, 2)) -> bytes:
    return json.dumps({"inputs": [{"name": "X", "datatype": datatype, "shape": shape, "data": data}]}).encode()


ODDITIES = (
    # The text's own ways to say the same.
    Oddity("plain", INFER, asked()),
    Oddity("with an id", INFER, asked(id="42")),
    Oddity("unknown fields", INFER, asked(unknown={"a": 1})),
    Oddity("unknown parameters", INFER, asked(parameters={"mine": 1})),
    Oddity("nested data", INFER, of_first(data=[ROW.tolist()])),
    Oddity("data nested otherwise than the shape", INFER, of_first(data=ROW.reshape(4, 4).tolist())),
    Oddity("another content type", INFER, asked(), fields={"Content-Type": "text/plain"}),
    Oddity("outputs null", INFER, asked(outputs=None)),
    Oddity("no outputs", INFER, asked(outputs=[])),
    Oddity("version in the path", "/v2/models/simple/versions/1/infer", asked()),
    Oddity("gzip", INFER, gzip.compress(asked()), fields={"Content-Encoding": "gzip"}),
    Oddity("deflate", INFER, zlib.compress(asked()), fields={"Content-Encoding": "deflate"}),
    Oddity("binary", INFER, **binary()),
    Oddity("an integer for a float", FP32, one("FP32", [1, 2])),
    Oddity("0 and 1 for a bool", BOOL, one("BOOL", [0, 1])),
    # Mistakes in JSON.
    Oddity("nothing", INFER),
    Oddity("no JSON", INFER, b"inputs"),
    Oddity("half of it", INFER, asked()[:-10]),
    Oddity("more behind it", INFER, asked() + b"{}"),
    Oddity("a list", INFER, b"[]"),
    Oddity("no inputs", INFER, b"{}"),
    Oddity("inputs are an object", INFER, asked(inputs={"INPUT0": [1]})),
    Oddity("an input is a number", INFER, asked(inputs=[1])),
    Oddity("an id that is a number", INFER, asked(id=42)),
    Oddity("nested 100,000 deep", INFER, b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    Oddity("without a name", INFER, without("name")),
    Oddity("without a shape", INFER, without("shape")),
    Oddity("without a datatype", INFER, without("datatype")),
    Oddity("without data", INFER, without("data")),
    Oddity("a shape of words", INFER, of_first(shape=["1", "16"])),
    Oddity("a shape of fractions", INFER, of_first(shape=[1.0, 16.5])),
    Oddity("too few elements", INFER, of_first(data=[1, 2])),
    Oddity("too many elements", INFER, of_first(data=[*ROW.tolist(), 16])),
    Oddity("a fraction for an integer", INFER, of_first(data=[1.5, *ROW.tolist()[1:]])),
    Oddity("a word for an integer", INFER, of_first(data=["1", *ROW.tolist()[1:]])),
    Oddity("null for an integer", INFER, of_first(data=[None, *ROW.tolist()[1:]])),
    Oddity("too large for its type", INFER, of_first(data=[1 << 31, *ROW.tolist()[1:]])),
    Oddity("too large for a float", FP32, one("FP32", [1e300, 1])),
    Oddity("NaN", FP32, b'{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [NaN, 1]}]}'),
    Oddity("a number for a text", BYTES, one("BYTES", [1, "a"])),
    Oddity("half a surrogate", BYTES, b'{"inputs":[{"name":"X","datatype":"BYTES","shape":[1,1],"data":["\\ud800"]}]}'),
    Oddity("a word for a bool", BOOL, one("BOOL", ["true", "false"])),
    Oddity("an output without a name", INFER, asked(outputs=[{}])),
    Oddity("an output twice", INFER, asked(outputs=[{"name": "OUTPUT0"}, {"name": "OUTPUT0"}])),
    # Mistakes in what surrounds it.
    Oddity("a head that is longer than the body", INFER, **binary(length="100000")),
    Oddity("a head of no length", INFER, **binary(length="")),
    Oddity("a head of a word's length", INFER, **binary(length="many")),
    Oddity("a head of negative length", INFER, **binary(length="-5")),
    Oddity("bytes missing", INFER, **binary(tail=ROW.tobytes())),
    Oddity("bytes left over", INFER, **binary(tail=ROW.tobytes() * 3)),
    Oddity("a size that is a word", INFER, **binary(sizes=("64", 64))),
    Oddity("a negative size", INFER, **binary(sizes=(-64, 64))),
    Oddity("sizes that are swapped", INFER, **binary(sizes=(60, 68))),
    Oddity("an unknown coding", INFER, asked(), fields={"Content-Encoding": "br"}),
    Oddity("broken gzip", INFER, gzip.compress(asked())[:-9], fields={"Content-Encoding": "gzip"}),
    Oddity("no gzip at all", INFER, asked(), fields={"Content-Encoding": "gzip"}),
    Oddity("GET of an inference", INFER, method="GET"),
    Oddity("PUT", INFER, asked(), method="PUT"),
    Oddity("POST of metadata", "/v2/models/simple", b"{}"),
    Oddity("an unknown path", "/v2/nothing", method="GET"),
    Oddity("an unknown verb of a model", "/v2/models/simple/explain", asked()),
    Oddity("a model of no name", "/v2/models//infer", asked()),
    Oddity("a version that is no number", "/v2/models/simple/versions/one/infer", asked()),
    Oddity("a slash behind it", "/v2/models/simple/", method="GET"),
    Oddity("ready of an unknown model", "/v2/models/nobody/ready", method="GET"),
    Oddity("statistics of an unknown model", "/v2/models/nobody/stats", method="GET"),
    Oddity("metadata of the server", "/v2", method="GET"),
    Oddity("health", "/v2/health/ready", method="GET"),
    Oddity("an index", "/v2/repository/index"),
    Oddity("an index of those that are ready", "/v2/repository/index", b'{"ready": true}'),
)
