"""Where a Python object comes from, and what it was made with: what tells two models apart that have no digest.

A function of a file is known by the file and its name; what the file says is the user's to count (--cache-version). One that
has no such place, in a notebook or within another function, is known by its code, too. With either go the values that it
holds: defaults, what it closes over, the attributes of an object, weights. What cannot be looked into counts by its type.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

__all__ = ["origin"]

_DEPTH_MAX = 100
_PLAIN = (str, bytes, int, float, complex, np.generic, type(None))


def origin(thing: Any) -> Any:
    """A description that JSON can hold, the same in every process. Raises nothing."""
    try:
        return _described(thing, [])
    except Exception as error:  # attributes may be anything
        return [type(thing).__module__, type(thing).__qualname__, type(error).__name__]


def _described(thing: Any, around: list[int]) -> Any:
    if isinstance(thing, _PLAIN):
        return repr(thing)
    if id(thing) in around or len(around) > _DEPTH_MAX:
        return "itself"
    around = [*around, id(thing)]
    if isinstance(thing, Mapping):
        return ["mapping", *([_described(key, around), _described(value, around)] for key, value in thing.items())]
    if isinstance(thing, list | tuple | deque):
        return [type(thing).__name__, *(_described(each, around) for each in thing)]
    if isinstance(thing, set | frozenset):
        return ["set", *sorted(str(_described(each, around)) for each in thing)]
    if isinstance(thing, partial):
        return ["partial", *(_described(each, around) for each in (thing.func, thing.args, thing.keywords))]
    if isinstance(thing, MethodType):
        return ["method", thing.__name__, _described(thing.__self__, around)]
    if isinstance(thing, FunctionType):
        return _function(thing, around)
    if isinstance(thing, BuiltinFunctionType | ModuleType):
        return [thing.__name__, type(thing).__name__]
    if isinstance(thing, type):
        return _class(thing, around)
    return _array(thing, around) or _object(thing, around)


def _function(function: FunctionType, around: list[int]) -> list[Any]:
    told = [*_place(function), _described([function.__defaults__, function.__kwdefaults__], around)]
    if not _has_place(function):
        told.append(_code(function.__code__, function.__globals__, around))
    for cell in function.__closure__ or ():
        try:
            told.append(_described(cell.cell_contents, around))
        except ValueError:  # not filled yet
            told.append(None)
    return told


def _code(code: CodeType, names: Mapping[str, Any], around: list[int]) -> list[Any]:
    constants = [
        _code(each, names, around) if isinstance(each, CodeType) else _described(each, around)
        for each in code.co_consts
    ]
    used = [[name, _described(names[name], around) if name in names else None] for name in code.co_names]
    return [code.co_code.hex(), constants, used, *code.co_varnames, *code.co_freevars]


def _class(kind: type, around: list[int]) -> list[Any]:
    if _has_place(kind):
        return _place(kind)
    functions = {name: value for name, value in vars(kind).items() if isinstance(value, FunctionType)}
    return [*_place(kind), _described(functions, around)]


def _array(thing: Any, around: list[int]) -> list[Any] | None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(thing, torch.Tensor):
        plain = thing.detach().cpu().contiguous()
        data = plain.reshape(-1).view(torch.uint8).numpy()
        return [str(plain.dtype), list(plain.shape), hashlib.sha256(data.data).hexdigest()]
    if not isinstance(thing, np.ndarray):
        return None
    if thing.dtype.hasobject:
        return ["array", list(thing.shape), _described(thing.reshape(-1).tolist(), around)]
    data = np.ascontiguousarray(thing).reshape(-1).view(np.uint8)
    return [str(thing.dtype), list(thing.shape), hashlib.sha256(data.data).hexdigest()]


def _object(thing: Any, around: list[int]) -> list[Any]:
    kind = type(thing)
    told = [_described(kind, around)]
    # The standard library's objects are pools, locks, loggers: what they hold is no model's.
    if kind.__module__.partition(".")[0] not in sys.stdlib_module_names:
        told.append(_described(getattr(thing, "__dict__", {}), around))
        slots = [name for each in kind.__mro__ for name in _slots(each) if hasattr(thing, name)]
        told.append([[name, _described(getattr(thing, name), around)] for name in slots])
    if not hasattr(thing, "__dict__"):
        words = repr(thing)
        told.append(words if " at 0x" not in words else "")
    return told


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(name for name in slots if not name.startswith("__"))


def _place(written: Any) -> list[Any]:
    file = _file(written)
    return [str(Path(file).resolve()) if file else getattr(written, "__module__", ""), written.__qualname__]


def _has_place(written: Any) -> bool:
    """Whether its file and name find it, and nothing else."""
    return "<" not in written.__qualname__ and bool(_file(written))


def _file(written: Any) -> str:
    return getattr(inspect.getmodule(written), "__file__", None) or ""
