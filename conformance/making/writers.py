"""The two programs that write vectors: our own writer, and the official FlatBuffers Builder in the manners of 2018."""

from __future__ import annotations

import base64
from typing import Any

from conformance.adapters.python import write as ours
from conformance.making.values import TYPES
from graphpipe.wire import IOMetadata, MetadataResponse, Type
from tests.wire import official
from tests.wire.official import ORIGINAL_GO, ORIGINAL_PYTHON, PLAIN, Manner

__all__ = ["ORIGINAL_GO", "ORIGINAL_PYTHON", "PLAIN", "Manner", "builder", "ours"]

Value = dict[str, Any]


def builder(message: str, value: Value, manner: Manner = PLAIN) -> bytes:
    """The value as the official Builder writes it. It checks nothing: types may be numbers of none."""
    if message == "metadata_response":
        texts = [value[name] for name in ("name", "version", "server", "description")]
        sides = [tuple(map(_io, value[side])) for side in ("inputs", "outputs")]
        return official.write_metadata_response(MetadataResponse(*texts, *sides), manner)
    if message == "infer_response":
        errors = [(int(error["code"]), error["message"]) for error in value["errors"]]
        return official.write_infer_response([*map(_tensor, value["outputs"])], errors, manner)
    if value["type"] == "metadata":
        return official.write_metadata_request(manner)
    names = (value["input_names"], value["output_names"])
    return official.write_request([*map(_tensor, value["inputs"])], *names, value["config"], manner)


def _tensor(value: Value) -> official.Tensor:
    kind = value["type"]
    number = TYPES.index(kind) if isinstance(kind, str) else kind
    data: Any = base64.b64decode(value["data"]) if "data" in value else [*map(base64.b64decode, value["strings"])]
    return official.Tensor(number, tuple(map(int, value["shape"])), data)


def _io(value: Value) -> IOMetadata:
    kind: Any = Type[value["type"].upper()] if isinstance(value["type"], str) else value["type"]
    return IOMetadata(value["name"], value["description"], tuple(map(int, value["shape"])), kind)
