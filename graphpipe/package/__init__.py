"""Packages: a model with its problem, its tests and all that it needs, in one folder or zip that can be taken anywhere.

    graphpipe.package.create("adder.zip", model="add.onnx", problem="addition.toml", test_data={"inputs": ...})
    graphpipe.load("adder.zip").infer({"x": x, "y": y})["out"]

What is here comes when it is first used (docs/packages.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpipe.package.contents import Package
    from graphpipe.package.creating import create
    from graphpipe.package.manifest import Manifest
    from graphpipe.package.trial import try_out as test

__all__ = ["Manifest", "Package", "create", "test"]

_HOMES = {
    "Manifest": ("manifest", "Manifest"),
    "Package": ("contents", "Package"),
    "create": ("creating", "create"),
    "test": ("trial", "try_out"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphpipe.package' has no attribute {name!r}")
    home, own = _HOMES[name]
    value = getattr(importlib.import_module(f"graphpipe.package.{home}"), own)
    globals()[name] = value
    return value
