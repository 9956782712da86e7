"""Modules that PyTorch pickled (``torch.save(module)``), for those who trust the file: unpickling runs what it says."""

from __future__ import annotations

from pathlib import Path

from graphpipe.backends.failure import in_words
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.torch.eager import open_module
from graphpipe.backends.torch.runtime import runtime
from graphpipe.errors import LoadError

__all__ = ["open_file"]


def open_file(path: Path, options: LoadOptions) -> Model:
    """The module in a pickle, run eagerly. Raises LoadError."""
    torch = runtime(path, options)
    try:
        # Its classes are looked for where Python looks for modules.
        module = torch.load(str(path), map_location="cpu", weights_only=False)
    except Exception as error:
        raise LoadError(f"{path}: unpickling it raised {in_words(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(
            f"{path}: it holds a {type(module).__name__}, not a module: weights alone are no model; serve module:Class, "
            "which loads them"
        )
    return open_module(module, path.stem, options)
