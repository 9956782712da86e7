"""Models, and how one is found for a source.

A *backend* turns sources of its kind into models: one file (or folder) for each framework. Those of this package are
named here, others join by an entry point in the group ``graphpipe.backends`` (docs/backends.md). Only a backend's own
file imports its framework, and only when a model of its kind is loaded.
"""

from graphpipe.backends.backend import Backend
from graphpipe.backends.find import load, open_model
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions

__all__ = ["Backend", "LoadOptions", "LoadedModel", "Model", "load", "open_model"]
