"""Inputs and outputs as people write them down, read as specs, and specs written down again.

Two forms mean the same: a table from names to ``"float32[n, 4]"``, and a list of tables with a name, a dtype and a shape.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphpipe.arguments import came
from graphpipe.errors import ProblemError
from graphpipe.signature import Dim, TensorSpec
from graphpipe.wire.dtypes import ENTRIES_MAX, NAME_BYTES_MAX, NDIM_MAX, dtype_named
from graphpipe.words import nearest, quoted

__all__ = ["dtype_of", "encoded", "known_keys", "specs_of", "table_of"]

_TRAVELING = (
    "bool", "string", "any", "float16", "float32", "float64",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
# What C, and with it every framework, calls them.
_OF_C = {"half": "float16", "float": "float32", "double": "float64", "short": "int16", "long": "int64"}
_AMBIGUOUS = ("int", "uint")
_OBJECTS: dict[Any, str] = {str: "string", bytes: "string", float: "float64", int: "int64", bool: "bool"}
_KEYS = ("name", "type", "dtype", "shape", "description")
# Numbers beyond it fit into no array.
_DIM_MAX = 2**62


def specs_of(written: object, what: str) -> tuple[TensorSpec, ...]:
    """The specs of all inputs or outputs; ``what`` names the place in errors. Raises ProblemError."""
    if isinstance(written, Mapping):
        entries = [(f"{what}.{name}", name, value) for name, value in written.items()]
    elif isinstance(written, list | tuple):
        entries = [(f"{what}[{i}]", None, value) for i, value in enumerate(written)]
    else:
        raise ProblemError(
            f"{what}: expected a table of names and types, or a list of tables with name, dtype and shape; {came(written)}"
        )
    if len(entries) > ENTRIES_MAX:
        raise ProblemError(f"{what}: {len(entries):,} came; at most {ENTRIES_MAX:,} travel")
    return tuple([_spec(where, name, value) for where, name, value in entries])


def table_of(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """The specs as a table, which ``specs_of`` reads back."""
    return {
        spec.name: {"type": spec.text, "description": spec.description} if spec.description else spec.text
        for spec in specs
    }


def known_keys(table: Mapping[Any, Any], known: Collection[str], where: str) -> None:
    """Raise ProblemError for a key that is none of those known."""
    for key in table:
        if key not in known:
            near = nearest(key, known) if isinstance(key, str) else ""
            listed = ", ".join(known)
            key = quoted(key) if isinstance(key, str) else repr(key)[:100]
            raise ProblemError(f"{where}: there is no key {key}{near or f'; there are {listed}'}")


def _spec(where: str, name: object, value: object) -> TensorSpec:
    if isinstance(value, TensorSpec):
        name, words = _name(where, value.name), _description(where, value.description)
        return _sound(where, TensorSpec(name, dtype_of(where, value.dtype), value.shape, words, value.repeated))
    if isinstance(value, str) and name is not None:
        return _sound(where, _of_text(where, _name(where, name), value))
    if not isinstance(value, Mapping):
        raise ProblemError(
            f"{where}: expected {'' if name is None else 'a type like float32[n, 4], or '}"
            f"a table with {'name, ' * (name is None)}dtype and shape; {came(value)}"
        )
    known_keys(value, _KEYS if name is None else _KEYS[1:], where)
    if name is None and "name" not in value:
        raise ProblemError(f"{where}: it has no name")
    called = _name(where, value["name"] if name is None else name)
    words = _description(where, value.get("description", ""))
    if "type" in value:
        if "dtype" in value or "shape" in value:
            raise ProblemError(f"{where}: type says it all: leave out dtype and shape, or type")
        if not isinstance(value["type"], str):
            raise ProblemError(f"{where}: a type is a text like float32[n, 4]; {came(value['type'])}")
        spec = _of_text(where, called, value["type"])
        return _sound(where, TensorSpec(called, spec.dtype, spec.shape, words, spec.repeated))
    if "dtype" not in value:
        raise ProblemError(f"{where}: it has no dtype; where any will do, say so: dtype = any")
    return _sound(where, TensorSpec(called, dtype_of(where, value["dtype"]), value.get("shape"), words))


def _sound(where: str, spec: TensorSpec) -> TensorSpec:
    if spec.repeated:
        raise ProblemError(f"{where}: a problem names each of its tensors; {spec.text!r} stands for any number of them")
    return replace(spec, shape=_shape(where, spec.shape))


def _name(where: str, name: object) -> str:
    if not isinstance(name, str):
        raise ProblemError(f"{where}: a name is text; {came(name)}")
    size = len(encoded(where, name))
    if not 0 < size <= NAME_BYTES_MAX:
        raise ProblemError(f"{where}: a name has 1 to {NAME_BYTES_MAX:,} bytes; {size:,} came")
    return name


def _description(where: str, words: object) -> str:
    if not isinstance(words, str):
        raise ProblemError(f"{where}: a description is text; {came(words)}")
    encoded(where, words)
    return words


def encoded(where: str, text: str) -> bytes:
    """A text as a file has it. Raises ProblemError for one that has no UTF-8 form."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ProblemError(f"{where}: {quoted(text)} has no UTF-8 form") from None


def _of_text(where: str, name: str, text: str) -> TensorSpec:
    word = re.match(r"\s*(\w+(?:\.\w+)*)", text)
    if word is None:
        raise ProblemError(f"{where}: expected a type and a shape like float32[n, 4]; {quoted(text)} came")
    dtype = dtype_of(where, word[1])
    try:
        spec = TensorSpec.of(name, "any" + text[word.end() :])
    except ValueError as error:
        raise ProblemError(f"{where}: {str(error).removeprefix(f'{name}: ')}") from None
    return TensorSpec(name, dtype, spec.shape, repeated=spec.repeated)


def dtype_of(where: str, value: object) -> np.dtype[Any] | None:
    """The element type that a text or a framework's own object names, None for any. Raises ProblemError."""
    if value is None:
        return None
    if isinstance(value, type) and value in _OBJECTS:
        value = _OBJECTS[value]
    name = value if isinstance(value, str) else _name_of(value)
    # torch.float32, tf.float32 and np.float32, written out or not.
    name = name.strip().rpartition(".")[2]
    if name in ("any", "unknown"):
        return None
    if name in _AMBIGUOUS:
        raise ProblemError(f"{where}: {name!r} has 32 bits to some and 64 to others; say {name}32 or {name}64")
    try:
        if not re.fullmatch(r"[<>=|]?\w+", name):  # numpy has a grammar, for tables
            raise ValueError(f"there is no tensor type {quoted(name)}")
        dtype = dtype_named(_OF_C.get(name, name))
    except ValueError as error:
        raise ProblemError(f"{where}: {error}{nearest(name, _TRAVELING)}") from None
    return np.dtype(object) if dtype.kind in "SU" else dtype.newbyteorder("=")


def _name_of(value: object) -> str:
    """What a framework's dtype is called: np.float32, np.dtype("float32"), torch.float32, tf.float32."""
    if isinstance(value, np.dtype):
        return str(value.newbyteorder("=").str if value.kind not in "OSU" else "string")
    if isinstance(value, type) and issubclass(value, np.generic):
        return _name_of(np.dtype(value))
    own = getattr(value, "name", None)  # TensorFlow's
    return own if isinstance(own, str) else str(value)[:100]


def _shape(where: str, value: object) -> tuple[Dim, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) and type(value).__name__ not in ("TensorShape", "Size"):
        raise ProblemError(f'{where}: a shape is a list of numbers, symbols and None, as in ("n", 4); {came(value)}')
    dims = tuple([_dim(where, dim) for dim in value])  # type: ignore[attr-defined]
    if len(dims) > NDIM_MAX:
        raise ProblemError(f"{where}: it has {len(dims)} dimensions; at most {NDIM_MAX} travel")
    return dims


def _dim(where: str, dim: object) -> Dim:
    if dim is None or dim in ("?", "-1"):
        return None
    if isinstance(dim, str):
        if not 0 < len(encoded(where, dim)) <= NAME_BYTES_MAX:
            raise ProblemError(f"{where}: a symbol has 1 to {NAME_BYTES_MAX:,} bytes; {quoted(dim)} came")
        return dim
    if not isinstance(dim, bool) and hasattr(dim, "__index__"):
        number = int(dim.__index__())
        if number == -1:
            return None
        if 0 <= number < _DIM_MAX:
            return number
        raise ProblemError(f"{where}: a dimension is not negative (-1: any) and below 2**62; {came(number)}")
    raise ProblemError(f"{where}: a dimension is a number, a symbol or None; {came(dim)}")
