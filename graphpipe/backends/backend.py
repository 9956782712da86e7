"""What a backend is: how sources of one kind become models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions

__all__ = ["Backend"]


@dataclass(frozen=True, slots=True)
class Backend:
    """How sources of one kind become models.

    ``matches`` looks at a source's name, or at the file, without importing the framework; ``open`` loads it, and raises
    LoadError with one clear line if it cannot. ``adopt`` makes a model of a Python object that is this backend's, and
    gives None for any other.
    """

    name: str
    matches: Callable[[str], bool]
    open: Callable[[str, LoadOptions], Model]
    adopt: Callable[[object, str, LoadOptions], Model | None] = lambda thing, name, options: None
