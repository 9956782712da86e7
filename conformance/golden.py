"""Bytes captured from the original programs, where they lie beside this clone or in the folder GRAPHPIPE_GOLDEN."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["samples"]

_FOLDER = Path(os.environ.get("GRAPHPIPE_GOLDEN", Path(__file__).resolve().parents[2] / "shared" / "golden"))
Value = dict[str, Any]


def samples() -> Iterator[tuple[str, str, bytes, Value]]:
    """Name, kind of message, bytes, and what they say."""
    for path in sorted(_FOLDER.glob("*.json")):
        meant = json.loads(path.read_text())
        if meant["kind"] in ("request", "infer_response", "metadata_response"):
            raw = path.with_suffix(".bin").read_bytes()
            yield path.stem, meant["kind"], raw, _value(meant["kind"], meant["content"])


def _value(kind: str, content: Value) -> Value:
    if kind == "metadata_response":
        texts = {name: content[name] for name in ("name", "version", "server", "description")}
        return {**texts, **{side: [_io(io) for io in content[side]] for side in ("inputs", "outputs")}}
    if kind == "infer_response":
        errors = [{"code": str(error["code"]), "message": error["message"]} for error in content["errors"]]
        return {"outputs": [*map(_tensor, content["output_tensors"])], "errors": errors}
    if content["req_type"] == 2:
        return {"type": "metadata"}
    names = {name: content[name] for name in ("input_names", "output_names")}
    return {"type": "infer", "config": content["config"], "inputs": [*map(_tensor, content["input_tensors"])], **names}


def _tensor(tensor: Value) -> Value:
    head = {"type": tensor["type"], "shape": [*map(str, tensor["shape"])]}
    if "strings_base64" in tensor:
        return {**head, "strings": tensor["strings_base64"]}
    return {**head, "data": base64.b64encode(bytes.fromhex(tensor["data_hex"])).decode()}


def _io(io: Value) -> Value:
    return {**{key: io[key] for key in ("name", "description", "type")}, "shape": [*map(str, io["shape"])]}
