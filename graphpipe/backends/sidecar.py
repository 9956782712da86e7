"""A signature as JSON: for model files that do not hold their own.

    {"inputs": [{"name": "ids", "dtype": "int64", "shape": ["n", 128]}], "outputs": [...], "description": "..."}

It stands beside the file (``model.pt`` has ``model.graphpipe.json``) or inside it (``graphpipe.json``). In a shape a
number is fixed, a word is any size but the same wherever it stands, null is any size; no shape is any shape, no dtype
any type.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpipe.errors import LoadError
from graphpipe.signature import TensorSpec
from graphpipe.wire.dtypes import dtype_name, dtype_named

__all__ = ["INSIDE", "Sidecar", "beside", "by_order"]

INSIDE = "graphpipe.json"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What such a file says; None where it says nothing.

    ``bfloat16`` has the names of tensors that the model has in bfloat16. On the wire these are float32.
    """

    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    description: str = ""
    bfloat16: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str | bytes, place: object) -> Sidecar:
        """What the JSON says. Raises LoadError, which names ``place``."""
        try:
            content = json.loads(text)
            inputs, outputs = content.get("inputs"), content.get("outputs")
            return cls(
                None if inputs is None else tuple(map(_spec, inputs)),
                None if outputs is None else tuple(map(_spec, outputs)),
                str(content.get("description", "")),
                frozenset(e["name"] for e in [*(inputs or ()), *(outputs or ())] if e.get("dtype") == "bfloat16"),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            example = '{"inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 4]}], "outputs": [...]}'
            raise LoadError(f"{place}: expected {example}; {type(error).__name__}: {error}") from None

    def __str__(self) -> str:
        content: dict[str, Any] = {}
        for side, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            if specs is not None:
                content[side] = [self._entry(spec) for spec in specs]
        if self.description:
            content["description"] = self.description
        return json.dumps(content, indent=2) + "\n"

    def _entry(self, spec: TensorSpec) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": spec.name}
        if spec.dtype is not None:
            entry["dtype"] = "bfloat16" if spec.name in self.bfloat16 else dtype_name(spec.dtype)
        if spec.shape is not None:
            entry["shape"] = list(spec.shape)
        if spec.description:
            entry["description"] = spec.description
        return entry


def beside(path: Path) -> Path:
    """Where the sidecar of a model file would stand."""
    return path.with_name(f"{path.stem}.graphpipe.json")


def _spec(entry: dict[str, Any]) -> TensorSpec:
    dtype, shape = entry.get("dtype"), entry.get("shape")
    return TensorSpec(
        str(entry["name"]),
        None if dtype is None else dtype_named("float32" if dtype == "bfloat16" else dtype),
        None if shape is None else tuple(_dim(dim) for dim in shape),
        str(entry.get("description", "")),
    )


def _dim(dim: Any) -> int | str | None:
    if isinstance(dim, bool) or not (dim is None or isinstance(dim, int | str)):
        raise ValueError(f"a dimension is a number, a word or null, not {dim!r}")
    return dim if not isinstance(dim, int) or dim >= 0 else None


def by_order(names: Sequence[str], declared: Sequence[TensorSpec] | None) -> tuple[TensorSpec, ...]:
    """A spec for each name: the declared one of that name, else one of which only the name is known."""
    known = {spec.name: spec for spec in declared or ()}
    return tuple(known.get(name, TensorSpec(name)) for name in names)
