"""Folders that hold one model: beside its licence and its labels, or in a numbered version, as TensorFlow Serving and
Triton lay them out (NAME/1/model.onnx), or in a folder of its own, as KServe mounts what it has fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from graphpipe.backends.foreign import what_folder_holds
from graphpipe.errors import LoadError

__all__ = ["folder_name", "model_in"]

log = logging.getLogger("graphpipe.backends")

_SHOWN_MAX = 5


def model_in(folder: Path, is_model: Callable[[str], bool]) -> Path:
    """The one model in a folder, in the highest of its numbered versions, or in the only folder that is in it; ``is_model``
    knows models by their paths.

    Raises LoadError if there is none, or more than one.
    """
    found = _models(folder, is_model)
    versions = _versions(folder)
    for version in versions if not found else ():
        found = _models(version, is_model)
        if found:
            if len(versions) > 1:
                log.info("%s has %d versions; this is the highest with a model: %s", folder, len(versions), version)
            break
    inner = [path for path in _entries(folder) if path.is_dir()] if not found and not versions else []
    if len(inner) == 1 and any(_models(path, is_model) for path in (inner[0], *_versions(inner[0]))):
        return model_in(inner[0], is_model)
    if not found:
        held = what_folder_holds(folder, is_model)
        what = "there is no model in this folder, nor in a numbered version of it"
        raise LoadError(f"{folder}: {what}{f'; {held}' if held else ''}")
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
        raise LoadError(
            f"{folder}: there are {len(found)} models in this folder; name one of them: "
            f"{', '.join(map(str, found[:_SHOWN_MAX]))}{more}"
        )
    return found[0]


def folder_name(folder: Path) -> str:
    """What a model in this folder is called; a version goes by the name of what it is a version of."""
    folder = folder.absolute()
    return (folder.parent.name if folder.name.isdigit() else "") or folder.name or "model"


def _models(folder: Path, is_model: Callable[[str], bool]) -> list[Path]:
    return [
        path
        for path in _entries(folder)
        # Triton's description of a model looks like a graph as text.
        if path.name != "config.pbtxt" and not (path.is_dir() and path.name.isdigit()) and is_model(str(path))
    ]


def _versions(folder: Path) -> list[Path]:
    numbered = [path for path in _entries(folder) if path.name.isdigit() and path.is_dir()]
    return sorted(numbered, key=lambda path: int(path.name), reverse=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise LoadError(f"{folder}: {error.strerror}") from None
