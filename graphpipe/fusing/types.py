"""Types of values: what one part gives against what another takes, and symbols that turn out to be the same size."""

from __future__ import annotations

import onnx

from graphpipe.fusing.part import Part

__all__ = ["Symbols", "misfit", "text"]

_Dim = onnx.TensorShapeProto.Dimension
_NAMES = {"float": "float32", "double": "float64"}


def text(info: onnx.ValueInfoProto) -> str:
    """Type and shape for a message: ``float32 [n, 4]``."""
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return (kind or "any type").removesuffix("_type")
    tensor = info.type.tensor_type
    known = onnx.TensorProto.DataType
    name = known.Name(tensor.elem_type).lower() if tensor.elem_type in known.values() else f"type {tensor.elem_type}"
    if not tensor.HasField("shape"):
        return f"{_NAMES.get(name, name)}, any shape"
    return f"{_NAMES.get(name, name)} [{', '.join(map(_dim_text, tensor.shape.dim))}]"


def _dim_text(dim: _Dim) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"


def misfit(given: onnx.ValueInfoProto, taken: onnx.ValueInfoProto) -> bool:
    """Whether one value can never be the other: of another type, rank or fixed size. What is not said fits."""
    kinds = [info.type.WhichOneof("value") for info in (given, taken)]
    if None in kinds:
        return False
    if kinds != ["tensor_type", "tensor_type"]:
        return bool(kinds[0] != kinds[1])
    one, other = given.type.tensor_type, taken.type.tensor_type
    if one.elem_type and other.elem_type and one.elem_type != other.elem_type:
        return True
    if not (one.HasField("shape") and other.HasField("shape")):
        return False
    if len(one.shape.dim) != len(other.shape.dim):
        return True
    pairs = zip(one.shape.dim, other.shape.dim, strict=True)
    sizes = [(a.dim_value, b.dim_value) for a, b in pairs if a.HasField("dim_value") and b.HasField("dim_value")]
    return any(a != b for a, b in sizes)


class Symbols:
    """The symbols of all parts. The same name in two parts is two symbols, until a value that one gives and another takes
    says that they are one.
    """

    def __init__(self) -> None:
        self._above: dict[tuple[str, str], tuple[str, str]] = {}
        self._sizes: dict[tuple[str, str], set[int]] = {}
        self._names: dict[tuple[str, str], str] = {}

    def join(self, part: Part, given: onnx.ValueInfoProto, other: Part, taken: onnx.ValueInfoProto) -> None:
        """The two values are one, so their sizes are."""
        for one, two in zip(_dims(given), _dims(taken), strict=False):
            if one.dim_param and two.dim_param:
                top, below = self._top(part.name, one.dim_param), self._top(other.name, two.dim_param)
                if top != below:
                    self._above[below] = top
                    self._sizes.setdefault(top, set()).update(self._sizes.pop(below, ()))
            elif one.dim_param and two.HasField("dim_value"):
                self._sizes.setdefault(self._top(part.name, one.dim_param), set()).add(two.dim_value)
            elif two.dim_param and one.HasField("dim_value"):
                self._sizes.setdefault(self._top(other.name, two.dim_param), set()).add(one.dim_value)

    def write(self, part: Part, info: onnx.ValueInfoProto) -> None:
        """Give its dimensions the sizes and symbols that the whole has for them, in place."""
        for dim in _dims(info):
            if not dim.dim_param:
                continue
            top = self._top(part.name, dim.dim_param)
            sizes = self._sizes.get(top, set())
            if len(sizes) == 1:
                dim.dim_value = next(iter(sizes))
            else:
                dim.dim_param = self._name(top)

    def _top(self, part: str, symbol: str) -> tuple[str, str]:
        key = (part, symbol)
        while key in self._above:
            key = self._above[key]
        return key

    def _name(self, top: tuple[str, str]) -> str:
        if top not in self._names:
            taken, name, number = set(self._names.values()), top[1], 1
            while name in taken:
                number += 1
                name = f"{top[1]}_{number}"
            self._names[top] = name
        return self._names[top]


def _dims(info: onnx.ValueInfoProto) -> list[_Dim]:
    return list(info.type.tensor_type.shape.dim) if info.type.WhichOneof("value") == "tensor_type" else []
