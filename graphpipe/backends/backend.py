"""What a backend is: how sources of one kind become models."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields

from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions

__all__ = ["Backend"]

_EVERY_OPTION = frozenset(field.name for field in fields(LoadOptions))


@dataclass(frozen=True, slots=True)
class Backend:
    """How sources of one kind become models.

    ``matches`` looks at a source's name, or at the file, without importing the framework; ``open`` loads it, and raises
    LoadError with one clear line if it cannot. ``adopt`` makes a model of a Python object that is this backend's, and
    gives None for any other. ``uses`` names the options that can make a difference to a source's model, by the fields of
    LoadOptions: asked for any other, it is refused (``pad``, ``problem`` and those about files are everybody's). A backend
    whose sources name objects of Python finds them by ``named``, and whichever backend adopts one has the model.
    ``fetched`` looks at what came from a URL before it is opened, and raises LoadError for what nobody allowed a stranger.
    One that ``isolates`` says itself what of a source's model is to be in processes of its own.
    """

    name: str
    matches: Callable[[str], bool]
    open: Callable[[str, LoadOptions], Model]
    adopt: Callable[[object, str, LoadOptions], Model | None] = lambda thing, name, options: None
    uses: Callable[[str], Collection[str]] = lambda source: _EVERY_OPTION
    named: Callable[[str], object] | None = None
    fetched: Callable[[str, LoadOptions], None] = lambda source, options: None
    isolates: bool = False
