"""What a saved module says of itself in ``model.spec.json``: its inputs by name, and as which kind of value the scripted
function takes each.

The file is JSON in which each value stands beside its type, ``{"t": "List", "v": [...]}``, and a dictionary is a list of
keys and values in turn. Inputs are the outputs of operators of class VariableOp. What type a function takes is a number,
and only of texts, whole and other numbers and lists it tells anything: an array and what may be anything are one number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from graphpipe.errors import LoadError
from graphpipe.signature import TensorSpec

__all__ = ["Takes", "inputs_of"]

_SPEC_BYTES_MAX = 256 << 20


class Takes(Enum):
    """The kind of value that an input is handed over as, as far as the module says."""

    BYTES = "bytes"
    STR = "str"
    INTEGER = "int"
    FLOAT = "float"
    LIST = "list"
    ANYTHING = "any"

    def spec(self, name: str) -> TensorSpec:
        """How such an input is described."""
        kind = {Takes.BYTES: object, Takes.STR: object, Takes.INTEGER: np.int64, Takes.FLOAT: np.float64}.get(self)
        return TensorSpec(name) if kind is None else TensorSpec(name, np.dtype(kind), ())


# MATXScript's numbers for types, where they tell something.
_CODES = {-11: Takes.BYTES, -12: Takes.STR, -3: Takes.INTEGER, -4: Takes.FLOAT, 7: Takes.LIST, 24: Takes.LIST}
_NO_TENSORS = {8: "Dict", 25: "Dict", 9: "Set", 26: "Set", 17: "File", 18: "Trie", 19: "Regex"}


def inputs_of(file: Path) -> dict[str, Takes]:
    """The inputs that a saved module has. Raises LoadError where this is no such module, or loads what is outside of its
    folder.
    """
    try:
        if file.stat().st_size > _SPEC_BYTES_MAX:
            raise LoadError(f"has more than {_SPEC_BYTES_MAX >> 20} MiB, so it is no module of MATXScript")
        said = _plain(json.loads(file.read_bytes()))
        operators = [_Operator(each["op"], each["name"], each.get("attrs") or {}) for each in said["ops"]]
        _refuse_outside(file, operators)
        return dict(_inputs(said["graph"], {each.name: each for each in operators}))
    except LoadError as error:
        raise LoadError(f"{file}: {error}") from None
    except OSError as error:
        raise LoadError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise LoadError(f"{file}: is no module that MATXScript has saved ({type(error).__name__}: {error})") from None


@dataclass(frozen=True, slots=True)
class _Operator:
    kind: str
    name: str
    attributes: Mapping[str, Any]

    def arguments(self, operators: Mapping[str, _Operator]) -> list[int]:
        """The types that its function takes, in order; empty where it does not say, as operators in C++ do not."""
        if self.kind != "JitOp":
            return []
        main = self.attributes["main_func_name"]
        scripted = operators[self.attributes["jit_object_name"]].attributes
        functions = [
            *scripted.get("class_info", {}).get("member_funcs", []),
            *filter(None, [scripted.get("func_info")]),
        ]
        for function in functions:
            if function["name"] == main:
                arguments = function["args"][1:] if function["bound_self"] else function["args"]
                return [each["type_code"] for each in arguments]
        return []


def _inputs(graph: list[Any], operators: Mapping[str, _Operator]) -> Iterator[tuple[str, Takes]]:
    codes: dict[str, set[int]] = {}
    for node in graph:
        known = operators[node["op_name"]].arguments(operators)
        for place, name in enumerate(node["inputs"]):
            codes.setdefault(name, set()).update(known[place : place + 1])
    for node in graph:
        if node["op_cls"] == "VariableOp":
            [name] = node["outputs"]
            if not isinstance(name, str):
                raise TypeError("an input whose name is no text")
            told = codes.get(name, set())
            if strange := told & set(_NO_TENSORS):
                raise LoadError(
                    f"it takes {name!r}, a {_NO_TENSORS[min(strange)]}; only tensors travel: give the function texts, "
                    "numbers, arrays or lists of them, and make the rest of it there"
                )
            takes = {_CODES[code] for code in told if code in _CODES}
            yield name, takes.pop() if len(takes) == 1 else Takes.ANYTHING


def _refuse_outside(file: Path, operators: list[_Operator]) -> None:
    folder = file.parent.resolve()
    for operator in operators:
        for key in ("dso_path", "dso_path_cxx11") if operator.kind == "JitObject" else ():
            named = operator.attributes.get(key) or ""
            if not (folder / named).resolve().is_relative_to(folder):
                raise LoadError(f"{operator.name[:100]!r} loads a library outside of this folder: {named[:200]!r}")


def _plain(value: Any) -> Any:
    kind, held = value["t"], value.get("v")
    if kind == "Dict":
        return {_plain(held[i]): _plain(held[i + 1]) for i in range(0, len(held), 2)}
    return [_plain(each) for each in held] if kind in ("List", "Tuple") else held
