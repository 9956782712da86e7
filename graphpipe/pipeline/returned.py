"""Which names a function's outputs have, read from its code: ``return {"ids": ids, "mask": mask}`` says so.

Functions rarely declare what they give, and a pipeline wants to know beforehand what goes where. Only what is beyond doubt
is taken: a plain function, all of whose returns are dicts with the same names, written there. Of any other one nobody
knows before its first call.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["names_returned"]

_SOURCE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")
_CODE_BYTES_MAX = 4 << 20


def names_returned(model: Any, source: str = "") -> tuple[str, ...]:
    """The names of what a function's model gives, in order; nothing where its code does not say.

    ``source`` is where it was loaded from: of one in another process the file is read.
    """
    signature = model.signature
    if not signature.open_outputs or signature.outputs:
        return ()
    try:
        function = getattr(model, "function", None)
        body = _of_function(function) if function is not None else _of_file(source)
        return _names(body) if body is not None else ()
    except Exception:  # code may be anything, and a file may be gone
        return ()


def _of_function(function: Callable[..., Any]) -> ast.FunctionDef | None:
    called: Any = function if inspect.isfunction(function) or inspect.ismethod(function) else type(function).__call__
    called = getattr(called, "__graphpipe_called__", called)
    if hasattr(called, "__wrapped__") or not hasattr(called, "__code__"):
        return None  # what is around it may give something else
    tree = ast.parse(textwrap.dedent(inspect.getsource(called)))
    found = tree.body[0]
    return found if isinstance(found, ast.FunctionDef) else None


def _of_file(source: str) -> ast.FunctionDef | None:
    match = _SOURCE.fullmatch(source)
    if match is None:
        return None
    path = Path(match[1])
    if path.stat().st_size > _CODE_BYTES_MAX:
        return None
    module = ast.parse(path.read_bytes())
    if _is_assigned(module, match[2]):
        return None  # it is another thing by then
    found = _last(module.body, match[2])
    if isinstance(found, ast.ClassDef):
        found = _last(found.body, "__call__")
    if isinstance(found, ast.FunctionDef) and all(map(_is_stage, found.decorator_list)):
        return found
    return None


def _is_stage(decorator: ast.expr) -> bool:
    # The one decorator that is known to change nothing.
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called) == "graphpipe.stage"


def _is_assigned(module: ast.Module, name: str) -> bool:
    """Whether a name of the module means something else than what is defined by it: ``f = wrapped(f)``, an import."""
    for node in _own(module):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == name:
            return True
    return False


def _last(body: list[ast.stmt], name: str) -> ast.stmt | None:
    named = [each for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name]
    return named[-1] if named else None


def _names(function: ast.FunctionDef) -> tuple[str, ...]:
    found: list[tuple[str, ...]] = []
    for node in _own(function):
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return ()
        if isinstance(node, ast.Return):
            value = node.value
            if not isinstance(value, ast.Dict):
                return ()
            keys = tuple(
                key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            )
            if len(keys) != len(value.keys) or any(_is_none(each) for each in value.values):
                return ()
            found.append(keys)
    return found[0] if found and all(set(each) == set(found[0]) for each in found) else ()


def _is_none(value: ast.expr) -> bool:
    # What is None is left out of what a function gives.
    return isinstance(value, ast.IfExp) or (isinstance(value, ast.Constant) and value.value is None)


def _own(function: ast.FunctionDef | ast.Module) -> Iterator[ast.AST]:
    """What is in a function or a module, without the functions and classes in it."""
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            left += ast.iter_child_nodes(node)
