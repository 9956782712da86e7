"""The backends that are known here: those of this package, and those that other distributions bring along."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphpipe.backends.backend import Backend

__all__ = ["backends", "ours"]

# Asked in this order. A backend of this package needs no installed metadata to be found.
_OURS = ("echo", "remote", "placeholder", "package", "pipeline", "onnx", "caffe2", "tensorflow", "torch", "python")


def ours() -> Iterator[Backend]:
    """Those of this package."""
    for name in _OURS:
        yield importlib.import_module(f"graphpipe.backends.{name}").BACKEND


def backends() -> Iterator[Backend]:
    """All of them, in the order in which they are asked."""
    yield from ours()
    from importlib import metadata  # slow to import, and rarely is anybody asked behind ours

    for entry in metadata.entry_points(group="graphpipe.backends"):
        if entry.name not in _OURS:
            yield entry.load()
