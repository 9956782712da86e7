"""What may be said about loading a model."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LoadOptions"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What may be said about loading; a backend uses what concerns it.

    ``inputs`` and ``outputs`` choose and order the defaults. ``signature`` is the name of a SavedModel's signature,
    ``tags`` are those of its graph, where it has several (None: the one tagged ``serve`` and nothing else).
    ``value_inputs`` is the original's file of input names, types and shapes. ``pad`` holds ``NAME:AXIS:VALUE``:
    inputs that are short along an axis of fixed size are filled up. ``custom_ops`` are libraries of operators to load
    first.

    ``device`` is ``cpu`` or ``cuda:N``; ``providers`` are execution providers in order of preference.
    ``intra_threads`` is how many threads one call may use: 0 is one for ONNX Runtime, and for TensorFlow and PyTorch,
    whose threads belong to the whole process, whatever the process has. ``bfloat16`` and ``channels_last`` are how
    PyTorch keeps weights and images.

    ``model_sha256`` is what the model's file must have; a file of more than ``download_bytes_max`` is not downloaded.
    """

    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    signature: str = ""
    tags: tuple[str, ...] | None = None
    value_inputs: str = ""
    pad: tuple[str, ...] = ()
    custom_ops: tuple[str, ...] = ()
    device: str = ""
    providers: tuple[str, ...] = ()
    intra_threads: int = 0
    bfloat16: bool = False
    channels_last: bool = False
    model_sha256: str = ""
    download_bytes_max: int = 16 << 30
