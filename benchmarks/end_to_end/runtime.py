"""The models as whoever has no server of ours calls them: the framework's own call, from an array to an array.

Needs the framework and nothing of this repository, since servers of other environments use it. One thread a call, as the
servers that it is measured beside are told: what runs at once are calls.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["THREADS", "Model", "end_with_stdin", "load", "named"]

THREADS = 2  # calls that run at once, behind every server and without one

Model = Callable[[Any], Any]


def load(path: str) -> Model:
    """A model with one input ``x`` and one output ``y``: an ONNX file, or the folder of a SavedModel."""
    return _onnx(path) if path.endswith(".onnx") else _savedmodel(path)


def named(arguments: Sequence[str]) -> dict[str, Model]:
    """The models of a command line: NAME=PATH."""
    return {name: load(path) for name, _, path in (argument.partition("=") for argument in arguments)}


def end_with_stdin() -> None:
    """From now on the process ends where whoever started it does, however he ends."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _onnx(path: str) -> Model:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    given, wanted = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda array: session.run([wanted], {given: array})[0]


def _savedmodel(path: str) -> Model:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    versions = sorted(Path(path).glob("[0-9]*"))
    loaded = tf.saved_model.load(str(versions[-1] if versions else path))
    function = loaded.signatures["serving_default"]
    # A loaded model's functions do not keep its variables: the default argument does.
    return lambda array, keep=loaded: function(x=tf.constant(array))["y"].numpy()
