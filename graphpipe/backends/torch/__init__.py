"""PyTorch models: TorchScript (.pt), exported programs (.pt2), and modules as they are. PyTorch is imported with the
first.

``save(module, path, example_inputs)`` writes a file that knows its own inputs and outputs.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphpipe.backends.backend import Backend
from graphpipe.backends.foreign import damage, no_such_file, what_pickle_holds
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError

if TYPE_CHECKING:
    from graphpipe.backends.torch.save import save

__all__ = ["BACKEND", "save"]

_SUFFIXES = (".pt", ".pth", ".pt2", ".torchscript", ".ts")


def _open(source: str, options: LoadOptions) -> Model:
    path = Path(source)
    if not path.is_file():
        raise LoadError(f"{source}: {'is a folder, not a file' if path.is_dir() else no_such_file(source)}")
    kind = _kind(path, options.trust_model)
    model: Model = importlib.import_module(f"graphpipe.backends.torch.{kind}").open_file(path, options)
    return model


def _kind(path: Path, trusted: bool) -> str:
    """Which of the two formats a file has: both are zip files, and both are called .pt at times. A trusted one may be a
    pickle too.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        names = []
    if any("/code/" in f"/{name}" for name in names):
        return "script"
    if any(name.endswith((".pt2", "archive_format")) or "/models/" in name for name in names):
        return "exported"
    if words := damage(path):
        raise LoadError(f"{path}: {words}")
    if path.suffix == ".pt2":
        raise LoadError(f"{path}: not a program that torch.export.save wrote")
    if trusted:
        return "pickled"
    pickled = what_pickle_holds(path)
    what = f"a pickled module, {pickled}, cannot" if pickled else "weights (a state dict) or a pickled module cannot"
    raise LoadError(
        f"{path}: not TorchScript: {what} be served without its Python code. Write a program with "
        "graphpipe.backends.torch.save(module, path, example_inputs), or serve module:Class, which loads it; a "
        "pickled module of your own: --trust-model"
    )


def _adopt(thing: object, name: str, options: LoadOptions) -> Model | None:
    """The model that a PyTorch module is, run eagerly; None for anything else. Raises LoadError."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(thing, torch.nn.Module) or hasattr(thing, "__graphpipe_signature__"):
        return None
    from graphpipe.backends.torch.eager import open_module

    return open_module(thing, name, options)


def __getattr__(name: str) -> Any:
    if name == "save":
        from graphpipe.backends.torch.save import save

        globals()["save"] = save
        return save
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_USES = ("inputs", "outputs", "custom_ops", "device", "intra_threads", "bfloat16", "channels_last", "trust_model")

BACKEND = Backend("torch", lambda source: source.lower().endswith(_SUFFIXES), _open, _adopt, uses=lambda source: _USES)
