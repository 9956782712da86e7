"""TorchServe: a Java front, and the model in Python processes that are handed each request over a socket.

A handler without torch: the model is run by ONNX Runtime as everywhere here. torch-model-archiver packs it with models.py.
"""

from __future__ import annotations

from typing import Any

from models import Model

MODEL: Model | None = None


def handle(data: list[dict[str, bytearray]] | None, context: Any) -> list[bytes] | None:
    """What TorchServe calls: once with nothing, to load the model, then with the requests of a batch (here one)."""
    global MODEL
    if MODEL is None:
        MODEL = Model(context.manifest["model"]["modelName"])
    if not data:
        return None
    return [MODEL.of_bytes(bytes(request.get("body") or request["data"])) for request in data]
