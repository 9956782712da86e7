"""From a source to a model: the first backend that knows the source opens it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from graphpipe.backends.model import Backend, LoadedModel, Model
from graphpipe.errors import LoadError

__all__ = ["LoadOptions", "default_name", "load", "open_model"]

# Asked in this order. A backend of this package needs no installed metadata to be found.
_OURS = ("echo", "onnx")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What may be said about loading; a backend uses what concerns it.

    ``inputs`` and ``outputs`` choose and order the defaults. ``intra_threads`` is how many threads one call may use.
    ``providers`` are execution providers in order of preference. ``value_inputs`` is the original's file of input names,
    types and shapes.
    """

    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    intra_threads: int = 1
    providers: tuple[str, ...] = ()
    value_inputs: str = ""


def load(source: str | Path, *, backend: str = "", name: str = "", **options: Any) -> LoadedModel:
    """Load a model into this process.

    ``source`` is what ``graphpipe-serve --model`` takes, and its kind is found by what it is: ``model.onnx``, ``echo``.
    ``backend`` forces a kind. ``options`` are those of LoadOptions, by name.

    Raises LoadError, with one line that says why.
    """
    known = {field.name for field in fields(LoadOptions)}
    for option in options:
        if option not in known:
            raise TypeError(f"load() has no option {option!r}; it has {', '.join(sorted(known))}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return LoadedModel(open_model(str(source), LoadOptions(**values), backend), name or default_name(str(source)))


def open_model(source: str, options: LoadOptions, backend: str = "") -> Model:
    """The bare model of a source. Raises LoadError."""
    tried = []
    for candidate in _backends():
        tried.append(candidate.name)
        if candidate.name == backend or (not backend and candidate.matches(source)):
            return candidate.open(source, options)
    if backend:
        raise LoadError(f"there is no backend {backend!r}; there are {', '.join(tried)}")
    if _looks_like_a_path(source) and not Path(source).exists():
        raise LoadError(f"{source}: no such file")
    raise LoadError(f"{source}: not a kind of model that is known here; known kinds: {', '.join(tried)}")


def default_name(source: str) -> str:
    """What a model is called when nobody says: its file's stem."""
    return Path(source.rstrip("/")).stem or "model"


def _looks_like_a_path(source: str) -> bool:
    return "/" in source or "." in source


def _backends() -> Iterator[Backend]:
    for name in _OURS:
        yield importlib.import_module(f"graphpipe.backends.{name}").BACKEND
    for entry in metadata.entry_points(group="graphpipe.backends"):
        if entry.name not in _OURS:
            yield entry.load()
