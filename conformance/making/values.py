"""Messages as the JSON values of vectors and adapters, and vectors themselves."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from conformance.cases import compact

__all__ = ["TYPES", "infer", "io", "metadata", "response", "tensor", "text", "vector"]

Value = dict[str, Any]
Content = bytes | Sequence[bytes]

# By wire number.
TYPES = (
    "null", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
    "string",
)  # fmt: skip


def text(raw: bytes) -> str:
    """Bytes as JSON has them: base64."""
    return base64.b64encode(raw).decode()


def tensor(kind: str, shape: Sequence[int], content: Content) -> Value:
    """A tensor: ``content`` is its little-endian bytes or its strings."""
    head: Value = {"type": kind, "shape": [*map(str, shape)]}
    return {**head, "data": text(content)} if isinstance(content, bytes) else {**head, "strings": [*map(text, content)]}


def infer(
    inputs: Sequence[Value] = (),
    input_names: Sequence[str] | Value = (),
    output_names: Sequence[str] | Value = (),
    config: str | Value = "",
) -> Value:
    """An InferRequest."""
    names = {"input_names": _listed(input_names), "output_names": _listed(output_names)}
    return {"type": "infer", "config": config, "inputs": list(inputs), **names}


def _listed(names: Sequence[str] | Value) -> list[str] | Value:
    return names if isinstance(names, dict) else list(names)


def response(outputs: Sequence[Value] | Value = (), errors: Sequence[tuple[int, str]] = ()) -> Value:
    """An InferResponse."""
    failures = [{"code": str(code), "message": message} for code, message in errors]
    return {"outputs": outputs if isinstance(outputs, dict) else list(outputs), "errors": failures}


def io(name: str = "", description: str = "", shape: Sequence[int] = (), kind: str = "null") -> Value:
    """One input or output of a MetadataResponse."""
    return {"name": name, "description": description, "shape": [*map(str, shape)], "type": kind}


def metadata(
    name: str = "",
    version: str = "",
    server: str = "",
    description: str = "",
    inputs: Sequence[Value] = (),
    outputs: Sequence[Value] = (),
) -> Value:
    """A MetadataResponse."""
    texts = {"name": name, "version": version, "server": server, "description": description}
    return {**texts, "inputs": list(inputs), "outputs": list(outputs)}


def vector(
    name: str, comment: str, flags: Sequence[str], message: str, content: bytes | bytearray | None, result: Value | str
) -> Value:
    """A vector: what is in the message, or the name of the error that it is refused with.

    Without content it is a value that no writer may write.
    """
    made: Value = {"id": name, "comment": comment, "flags": sorted(flags), "message": message}
    if content is None:
        return {**made, "value": result, "error": "invalid"}
    made["bytes"] = compact(bytes(content))
    return {**made, "error": result} if isinstance(result, str) else {**made, "value": result}
