"""TensorFlow models: SavedModel folders, frozen GraphDef files, Keras files. TensorFlow is imported when the first is
loaded.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection
from pathlib import Path

from graphpipe.backends.backend import Backend
from graphpipe.backends.foreign import damage, no_such_file
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.tensorflow.reason import reason
from graphpipe.errors import LoadError

__all__ = ["BACKEND"]

_KERAS = (".keras", ".h5", ".hdf5")


def _matches(source: str) -> bool:
    path = Path(source)
    if path.name == "config.pbtxt":  # Triton's description of a model looks like a graph as text
        return False
    return path.suffix.lower() in (".pb", ".pbtxt", *_KERAS) or (path.is_dir() and saved_model(path) is not None)


def saved_model(folder: Path) -> Path | None:
    """The SavedModel in a folder: the folder itself, or the highest of its numbered versions, as TF-Serving keeps
    them.
    """
    if any(os.path.isfile(folder / name) for name in ("saved_model.pb", "saved_model.pbtxt")):
        return folder
    try:
        numbered = [path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()]
    except OSError:  # one that is closed is nobody's
        return None
    for path in sorted(numbered, key=lambda path: int(path.name), reverse=True):
        if os.path.isfile(path / "saved_model.pb"):
            return path
    return None


def _open(source: str, options: LoadOptions) -> Model:
    path = Path(source)
    if path.name.startswith("saved_model.pb") and path.is_file():
        path = path.parent
    if not path.exists():
        raise LoadError(f"{source}: {no_such_file(source)}")
    if path.is_dir():
        folder = saved_model(path)
        if folder is None:
            raise LoadError(f"{source}: there is no saved_model.pb in this folder")
        kind, path = "savedmodel", folder
    else:
        if path.stat().st_size and (words := damage(path)):
            raise LoadError(f"{path}: {words}")
        kind = "keras" if path.suffix.lower() in _KERAS else "graphdef"
    try:
        model: Model = importlib.import_module(f"graphpipe.backends.tensorflow.{kind}").open_file(path, options)
    except LoadError:
        raise
    except Exception as error:
        # A file can be wrong in more ways than anybody could list, and each is the file's fault.
        who = "Keras" if kind == "keras" else "TensorFlow"
        raise LoadError(f"{path}: {who} cannot load it: {reason(error)}") from error
    return model


def _uses(source: str) -> Collection[str]:
    used = ("inputs", "outputs", "custom_ops", "device", "intra_threads", "trust_model")
    is_saved_model = Path(source).is_dir() or Path(source).name.startswith("saved_model.pb")
    return (*used, "signature", "tags") if is_saved_model else used


BACKEND = Backend("tensorflow", _matches, _open, uses=_uses)
