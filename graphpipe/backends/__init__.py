"""Models, and how one is found for a source.

A *backend* turns sources of its kind into models: one file (or folder) for each framework. Those of this package are
named here, others join by an entry point in the group ``graphpipe.backends`` (docs/backends.md). Only a backend's own
file imports its framework, and only when a model of its kind is loaded.

What is here comes when it is first used: whoever wants to know only what may be said about loading (a command that shows
its help, or completes a word) need not wait for numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpipe.backends.backend import Backend
    from graphpipe.backends.find import load, open_model
    from graphpipe.backends.loaded import LoadedModel
    from graphpipe.backends.model import Model
    from graphpipe.backends.options import LoadOptions

__all__ = ["Backend", "LoadOptions", "LoadedModel", "Model", "load", "open_model"]

_HOMES = {
    "Backend": "backend",
    "LoadOptions": "options",
    "LoadedModel": "loaded",
    "Model": "model",
    "load": "find",
    "open_model": "find",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'graphpipe.backends' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"graphpipe.backends.{home}"), name)
    globals()[name] = value
    return value
