"""The decoder: what a message says is the same however often it came, beside what, and after it was written again.

An input is four bytes and a message: which kind it is of, and which byte of it is changed (a place of two bytes, and a
mask) for the message that comes after it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.cases import expand_bytes, groups
from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge, Unsupported
from graphpipe.wire import (
    InferRequest,
    InferResponse,
    MetadataRequest,
    MetadataResponse,
    decode_infer_response,
    decode_metadata_response,
    decode_request,
    encode_infer_response,
    encode_metadata_response,
    encode_request,
)
from graphpipe.wire.memory import LayoutMemory
from graphpipe.wire.messages import encode_metadata_request

__all__ = ["KINDS", "check", "seeds"]

KINDS = ("request", "infer_response", "metadata_response")
_PREFIX = 4
_SEED_BYTES_MAX = 1500


def seeds() -> list[bytes]:
    """The conformance vectors that are short."""
    found = [
        bytes((KINDS.index(vector["message"]), 40, 0, 1)) + expand_bytes(vector["bytes"])
        for name in ("valid", "invalid", "attacks")
        for vector in groups()[name]
        if isinstance(vector["bytes"], str)
    ]
    return [each for each in found if len(each) <= _SEED_BYTES_MAX]


def check(data: bytes) -> None:
    """Raise whatever else than a refusal the decoder raises, and AssertionError where it contradicts itself."""
    if len(data) <= _PREFIX:
        return
    kind, message = KINDS[data[0] % 3], bytearray(data[_PREFIX:])
    if kind == "metadata_response":
        meta = _read(kind, bytes(message), None)
        if isinstance(meta, MetadataResponse):
            _written_again(kind, meta, bytes(message))
        return
    warm: LayoutMemory[Any] = LayoutMemory()
    first = bytes(message)
    read = _read(kind, first, warm)
    strict = _said(read)
    _same(kind, first, strict, warm)
    if isinstance(read, str):
        return
    _written_again(kind, read, first)
    # Another message, of which one byte differs, wherever it stands; and one of which all bytes of the tensors do.
    changed = bytearray(message)
    changed[int.from_bytes(data[1:3], "little") % len(message)] ^= data[3]
    _same(kind, bytes(changed), _said(_read(kind, bytes(changed), LayoutMemory())), warm)
    if _tensors_changed(kind, message):
        _same(kind, bytes(message), _said(_read(kind, bytes(message), LayoutMemory())), warm)
    _same(kind, first, strict, warm)


def _read(kind: str, message: bytes | bytearray, memory: LayoutMemory[Any] | None) -> Any:
    """The message, or why it is refused."""
    try:
        if kind == "request":
            return decode_request(message, memory)
        if kind == "infer_response":
            return decode_infer_response(message, memory)
        return decode_metadata_response(message)
    except (MalformedMessage, Unsupported) as refused:
        return str(refused)


def _said(read: Any) -> Any:
    """All that a caller can see of a message, in plain values."""
    if isinstance(read, InferRequest):
        head = read.head
        rest = (head.config, head.input_names, head.output_names, head.types, head.shapes, head.bools)
        return rest, [*map(_tensor, read.inputs)]
    if isinstance(read, InferResponse):
        return read.errors, [*map(_tensor, read.outputs)]
    return read


def _tensor(array: Any) -> Any:
    content = array.reshape(-1).tolist() if array.dtype == object else array.tobytes()
    return array.dtype.str, array.shape, content


def _same(kind: str, message: bytes, strict: Any, warm: LayoutMemory[Any]) -> None:
    remembered = _said(_read(kind, message, warm))
    assert remembered == strict, f"read as {remembered!r} by a layout that is known, but as {strict!r} without"


def _tensors_changed(kind: str, message: bytearray) -> bool:
    """Change all bytes of its tensors in place; gives whether there were any."""
    read = _read(kind, message, LayoutMemory())
    arrays = read.inputs if isinstance(read, InferRequest) else getattr(read, "outputs", [])
    numbers = [array for array in arrays if array.dtype != object and array.size]
    for array in numbers:
        octets = array.reshape(-1).view(np.uint8)
        octets ^= 0xFF
    return bool(numbers)


def _written_again(kind: str, read: Any, message: bytes) -> None:
    """What was read is written by our own writer, and read as the same."""
    try:
        again = _written(read)
    except (InvalidRequest, TooLarge) as refused:
        raise AssertionError(f"what was read cannot be written: {refused}") from None
    back = _read(kind, again, LayoutMemory())
    if isinstance(read, MetadataResponse):
        # The number of a type that nobody knows is not sent.
        assert _without_numbers(back) == _without_numbers(read), f"{read} came back as {back}"
        return
    said, came = _said(read), _said(back)
    if isinstance(read, InferRequest):
        said, came = _without_bools(said), _without_bools(came)
    assert came == said, f"{said!r} came back as {came!r}"


def _written(read: Any) -> bytes:
    if isinstance(read, MetadataRequest):
        return encode_metadata_request()
    if isinstance(read, InferRequest):
        head = read.head
        return b"".join(encode_request(read.inputs, head.input_names, head.output_names, head.config))
    if isinstance(read, InferResponse):
        return b"".join(encode_infer_response(read.outputs, read.errors))
    return encode_metadata_response(read)


def _without_bools(said: Any) -> Any:
    """An array of a Uint8 that is marked as bool is one of numbers here: whoever asked makes bools of it."""
    return said[0][:-1], said[1]


def _without_numbers(meta: MetadataResponse) -> Any:
    sides = [[(io.name, io.description, io.shape, io.type) for io in side] for side in (meta.inputs, meta.outputs)]
    return meta.name, meta.version, meta.server, meta.description, sides
