"""Graphs to fuse, written in ONNX's own text, with the versions that a test wants."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser

__all__ = ["graph", "saved"]


def graph(text: str, *, ir: int = 8, functions: str = "", **opsets: int) -> onnx.ModelProto:
    """The model of ``name (inputs) => (outputs) { nodes }``. Opsets by domain, dots as underscores; ``onnx`` is the default
    one.
    """
    versions = {"" if name == "onnx" else name.replace("_", "."): version for name, version in opsets.items()}
    versions.setdefault("", 17)
    imports = ", ".join(f'"{domain}" : {version}' for domain, version in versions.items())
    return onnx.parser.parse_model(f"<ir_version: {ir}, opset_import: [{imports}]>\n{text}\n{functions}")


def saved(path: Path, text: str, **options: object) -> Path:
    """The same as a file."""
    onnx.save(graph(text, **options), path)  # type: ignore[arg-type]
    return path
