"""What every peer runs: a model of the folder $MODELS, with one thread for a call, by ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

__all__ = ["CALLS_AT_ONCE", "SHAPES", "Model"]

CALLS_AT_ONCE = 2  # threads or processes, as the peer has them
# A row of each; requests of bytes say no shape, so that a server has to know it.
SHAPES = {"identity": (-1, 256), "squeezenet": (-1, 3, 224, 224)}


class Model:
    """``identity`` or ``squeezenet``: float32 in, float32 out, from several threads if need be."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = (folder or Path(os.environ["MODELS"])) / f"{name}.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # Squeezenet's weights are among the inputs of its graph: the first one is what it is asked with.
        self.input = self.session.get_inputs()[0].name
        self.shape = SHAPES[name]

    def __call__(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The answer to float32 rows."""
        answer: np.ndarray[Any, Any] = self.session.run(None, {self.input: array})[0]
        return answer

    def of_bytes(self, data: bytes) -> bytes:
        """The same for the bytes of the rows."""
        return self(np.frombuffer(data, np.float32).reshape(self.shape)).tobytes()
