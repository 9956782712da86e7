"""Caffe2 nets, which the original served: refused, with the reason and the way out."""

from __future__ import annotations

import os
from pathlib import Path

from graphpipe.backends.backend import Backend
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError

__all__ = ["BACKEND", "REFUSAL"]

REFUSAL = (
    "Caffe2 nets are not served: Caffe2 ended with PyTorch 1, and no current runtime takes its nets; convert this one "
    "to ONNX with the command convert-caffe2-to-onnx, which came with PyTorch 1, and serve that file"
)


def _matches(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return any(os.path.isfile(path / name) for name in ("predict_net.pb", "init_net.pb"))
    return path.suffix in (".pb", ".pbtxt") and any(word in path.name for word in ("init_net", "predict_net"))


def _open(source: str, options: LoadOptions) -> Model:
    raise LoadError(f"{source}: {REFUSAL}")


BACKEND = Backend("caffe2", _matches, _open)
