"""What a model takes and gives, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphpipe.cli.callee import Callee
from graphpipe.signature import TensorSpec
from graphpipe.wire.dtypes import dtype_name
from graphpipe.words import visible

__all__ = ["as_json", "as_text"]


def as_text(callee: Callee) -> str:
    """A table of the inputs and outputs, under the model's name."""
    words = [callee.name or "(no name)"]
    words += [f"version {callee.version[:12]}"] if callee.version else []
    words += [f"at {callee.server}"] if callee.server else []
    # A server's words are a stranger's.
    lines = [visible("  ".join(words))]
    lines += [visible(callee.description, "\n")] if callee.description else []
    rows = [
        (what, visible(spec.name), dtype_name(spec.dtype), visible(_shape(spec)), visible(spec.description))
        for what, specs in (("input", callee.inputs), ("output", callee.signature.outputs))
        for spec in specs
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        lines.append("  ".join(["", *cells, row[4]]).rstrip())
    return "\n".join(lines)


def as_json(callee: Callee) -> dict[str, Any]:
    """The same as JSON has it: a dimension that varies is null, an unknown shape too."""
    return {
        "name": callee.name,
        "version": callee.version,
        "server": callee.server,
        "description": callee.description,
        "inputs": _specs(callee.inputs),
        "outputs": _specs(callee.signature.outputs),
    }


def _specs(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "type": dtype_name(spec.dtype),
            "shape": None if spec.shape is None else [d if isinstance(d, int) else None for d in spec.shape],
            "description": spec.description,
        }
        for spec in specs
    ]


def _shape(spec: TensorSpec) -> str:
    if spec.shape is None:
        return "any shape"
    return f"[{', '.join('?' if d is None else str(d) for d in spec.shape)}]"
