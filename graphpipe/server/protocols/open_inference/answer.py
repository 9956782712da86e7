"""A good answer: a document of JSON, and behind it, one after another, the outputs that were asked for as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from graphpipe.server.protocols.effort import OUTPUT_BYTES, text_bytes
from graphpipe.server.protocols.jsons import ASIDE_FROM, JSON, numbers, write
from graphpipe.server.protocols.lists import sayable, texts_of
from graphpipe.server.protocols.open_inference.datatypes import datatype_of
from graphpipe.server.protocols.open_inference.request import Asked
from graphpipe.server.protocols.open_inference.texts import joined
from graphpipe.wire import Segment
from graphpipe.wire.dtypes import to_sendable
from graphpipe.words import quoted

__all__ = ["LENGTH_FIELD", "Named", "encoded", "is_work"]

Array = NDArray[Any]
Named = tuple[str, Array]

LENGTH_FIELD = "Inference-Header-Content-Length"

_OCTETS = ("Content-Type", "application/octet-stream")
# Copying this much on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024
_AS_BYTES = "ask for it as bytes (binary_data)"


def is_work(asked: Asked, outputs: Sequence[Named]) -> bool:
    """Whether an answer is for a thread to make: many strings, much JSON, or a large copy."""
    written = copied = 0
    for name, array in outputs:
        written += OUTPUT_BYTES
        if array.dtype.kind in "OSU":
            written += text_bytes(array)
        elif not asked.is_as_bytes(name):
            written += array.nbytes
        elif not array.flags.c_contiguous:
            copied += array.nbytes
    return written >= ASIDE_FROM or copied >= _OFF_LOOP_FROM


def encoded(
    asked: Asked, model: str, version: str, outputs: Sequence[Named]
) -> tuple[list[Segment], tuple[tuple[str, str], ...]]:
    """The segments of an answer and the fields of its head; the tensors' bytes are the arrays' own.

    Raises ServiceError for what cannot travel, or not in JSON.
    """
    behind: list[Segment] = []
    said = [_output(name, array, asked.is_as_bytes(name), behind) for name, array in outputs]
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if asked.id is not None:
        document["id"] = asked.id
    document["outputs"] = said
    text = write(document)
    if not any("parameters" in output for output in said):
        return [text], JSON
    return [text, *behind], (_OCTETS, (LENGTH_FIELD, str(len(text))))


def _output(name: str, value: Array, as_bytes: bool, behind: list[Segment]) -> dict[str, Any]:
    """What the document says of an output; its bytes, if it is to come as such, go ``behind``."""
    what = f"output {quoted(name)}"
    _, array = to_sendable(value, what)
    output: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape}
    if as_bytes:
        segment = _bytes_of(array, what)
        output["parameters"] = {"binary_data_size": len(segment)}
        if len(segment):
            behind.append(segment)
    elif array.dtype.kind == "O":
        output["data"] = texts_of(array, what, _AS_BYTES)
    else:
        output["data"] = numbers(sayable(array, what, _AS_BYTES).reshape(-1))
    return output


def _bytes_of(array: Array, what: str) -> Segment:
    if array.dtype.kind == "O":
        return joined(array, what)
    # A memoryview of nothing cannot be cast.
    return array.data.cast("B") if array.size else b""
