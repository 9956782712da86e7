"""The protocol by hand, with nothing but json and struct: what a client writes, and what it makes of an answer."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from tests.front.servers import Way
from tests.raw_http import Answer, chunked

WAYS = ("hot", "odd", "HTTP/1.0", "unix", "tls", "chunked", "gzip", "deflate")
# By datatype, how struct writes one element.
FORMATS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as plain Python has it: the elements row after row; of BYTES they are bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: tuple[Any, ...]

    @property
    def octets(self) -> bytes:
        if self.datatype == "BYTES":
            return b"".join(struct.pack("<I", len(each)) + each for each in self.elements)
        return struct.pack(f"<{len(self.elements)}{FORMATS[self.datatype]}", *self.elements)

    @property
    def listed(self) -> list[Any]:
        return [each.decode() if isinstance(each, bytes) else each for each in self.elements]

    def nested(self) -> Any:
        def level(shape: tuple[int, ...], elements: list[Any]) -> list[Any]:
            if len(shape) < 2:
                return elements
            size = len(elements) // shape[0] if shape[0] else 0
            return [level(shape[1:], elements[i * size : (i + 1) * size]) for i in range(shape[0])]

        return level(self.shape, self.listed)


def request(
    inputs: list[Tensor],
    as_bytes: set[str] | None = None,
    *,
    nested: bool = False,
    outputs: list[dict[str, Any]] | None = None,
    **more: Any,
) -> tuple[bytes, int | None]:
    """A body, and how many bytes of it are JSON; None where all of it is. Inputs in ``as_bytes`` come behind it."""
    said, behind = [], b""
    for tensor in inputs:
        one: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if as_bytes is not None and tensor.name in as_bytes:
            one["parameters"] = {"binary_data_size": len(tensor.octets)}
            behind += tensor.octets
        else:
            one["data"] = tensor.nested() if nested else tensor.listed
        said.append(one)
    document = {"inputs": said, **more}
    if outputs is not None:
        document["outputs"] = outputs
    text = json.dumps(document).encode()
    return text + behind, None if as_bytes is None else len(text)


def post(way_of: dict[str, Way], way: str, path: str, body: bytes, length: int | None = None, *fields: str) -> Answer:
    """What a POST gets, that comes in by one of WAYS."""
    where = way if way in way_of else "hot"
    version = "1.0" if way == "HTTP/1.0" else "1.1"
    lines = [f"POST {path}{'?x' if way == 'odd' else ''} HTTP/{version}", "Host: h", *fields]
    if length is not None:
        lines.append(f"Inference-Header-Content-Length: {length}")
    if way in ("gzip", "deflate"):
        body = gzip.compress(body) if way == "gzip" else zlib.compress(body)
        lines.append(f"Content-Encoding: {way}")
    if way == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = chunked(body, 1000)
    else:
        lines.append(f"Content-Length: {len(body)}")
    with way_of[where].wire() as wire:
        wire.send("\r\n".join([*lines, "", ""]).encode() + body)
        return wire.answer()


def answered(answer: Answer) -> tuple[dict[str, Any], list[Tensor]]:
    """What an answer's document says beside its outputs, and these, wherever they are in it."""
    assert answer.status == 200, answer.text
    length = answer.headers.get("inference-header-content-length")
    assert answer.headers["content-type"] == ("application/json" if length is None else "application/octet-stream")
    end = len(answer.body) if length is None else int(length)
    document = json.loads(answer.body[:end])
    tensors, at = [], end
    for output in document.pop("outputs"):
        size = output.get("parameters", {}).get("binary_data_size")
        datatype = output["datatype"]
        if size is None:
            elements = [each.encode() if isinstance(each, str) else each for each in output["data"]]
            if datatype in ("FP16", "FP32"):  # digits enough to tell it from its neighbours, in its own type
                elements = _elements(datatype, struct.pack(f"<{len(elements)}{FORMATS[datatype]}", *elements))
        else:
            assert "data" not in output
            elements = _elements(datatype, answer.body[at : at + size])
            at += size
        tensors.append(Tensor(output["name"], datatype, tuple(output["shape"]), tuple(elements)))
    assert at == len(answer.body)
    return document, tensors


def _elements(datatype: str, octets: bytes) -> list[Any]:
    if datatype != "BYTES":
        size = struct.calcsize(FORMATS[datatype])
        return list(struct.unpack(f"<{len(octets) // size}{FORMATS[datatype]}", octets))
    elements, at = [], 0
    while at < len(octets):
        (length,) = struct.unpack_from("<I", octets, at)
        elements.append(octets[at + 4 : at + 4 + length])
        at += 4 + length
    return elements
