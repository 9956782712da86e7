"""The addition problem as files, and packages of it to take apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphpipe
from graphpipe.package import Manifest, create
from tests import onnx_graphs

__all__ = ["ADDITION", "TEST", "changed", "edited", "onnx_adder", "python_adder"]

ADDITION = graphpipe.Problem.of(
    {"x": "float32[n]", "y": "float32[n]"}, {"out": "float32[n]"}, name="addition", description="Adds two vectors."
)
TEST = {"inputs": {"x": [1, 2], "y": [3, 4]}, "outputs": {"out": [4, 6]}}


def python_adder(path: Path, **more: Any) -> Path:
    """A package of a function that takes its neighbour's help; ``more`` is said to create()."""
    folder = path.parent / f"{path.name}.sources"
    folder.mkdir()
    (folder / "adder.py").write_text("from helper import plus\n\n\ndef add(x, y):\n    return {'out': plus(x, y)}\n")
    (folder / "helper.py").write_text("def plus(x, y):\n    return x + y\n")
    said = {"model": f"{folder}/adder.py:add", "code": folder, "problem": ADDITION, "test_data": TEST, **more}
    return create(path, **said)


def onnx_adder(path: Path, **more: Any) -> Path:
    """A package of an ONNX file, whose names are others than the problem's."""
    file = path.parent / f"{path.name}.onnx"
    onnx_graphs.save(
        file,
        [onnx_graphs.helper.make_node("Add", ["in/a", "in/b"], ["sum"])],
        [("in/a", onnx_graphs.FLOAT, ["n"]), ("in/b", onnx_graphs.FLOAT, ["n"])],
        [("sum", onnx_graphs.FLOAT, ["n"])],
    )
    names = {"x": "in/a", "y": "in/b", "out": "sum"}
    return create(path, **{"model": file, "name_map": names, "problem": ADDITION, "test_data": TEST, **more})


def edited(package: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The folder of a package, with something else in its manifest."""
    path = package / "graphpipe.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    return package


def changed(package: Path, name: str, content: bytes) -> Path:
    """The folder of a package, with another content of a file, which the manifest is told of."""
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_bytes(content)
    said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return edited(package, lambda manifest: manifest["files"].update({name: said}))


def manifest(package: Path) -> Manifest:
    """What a folder's manifest says."""
    return Manifest.read((package / "graphpipe.json").read_bytes(), str(package))
