"""What of a .pt2 file's program PyTorch would evaluate as Python: the formulas of its sizes, its guards, the names of
what its nodes call, and how its arguments are nested (trees.py). They are text in the file, and anybody can write other
text there.

Here they are read as Python, and not run: formulas have numbers, symbols and functions of them, guards compare the sizes
of inputs, nodes call operators. Anything else is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from graphpipe.backends.torch.trees import is_plain_tree

__all__ = ["what_is_no_program"]

# SymPy's functions and PyTorch's, Add and FloorDiv: of numbers and symbols they make formulas, and nothing else.
_FUNCTION = re.compile(r"[A-Z]\w*|floor|ceiling|log|sqrt|exp|sin|cos|tan|asin|acos|atan|sinh|cosh|tanh")
_NAMED_BY_TEXT = {"Symbol", "Dummy", "Float", "Integer", "Rational"}
_WORD = re.compile(r"[\w.+-]{1,200}")
_FORMULA = (
    ast.Expression,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
)
_FORMULA_PARTS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.Tuple)
_GUARD = (*_FORMULA, *_FORMULA_PARTS, ast.Attribute, ast.Subscript, ast.Slice, ast.List)
_GUARDS_CALL = {"size", "stride", "storage_offset", "dim", "isnan", "len", "abs", "max", "min", "int", "float", "round"}
_TARGET = re.compile(
    r"torch\.ops\.\w+\.\w+(?:\.\w+)?|torch\._?sym_\w+|torch\._functorch\.predispatch\.\w+|math\.\w+"
    r"|_operator\.(?!call$|methodcaller$|attrgetter$|itemgetter$)\w+"
)
# Operators whose own names have underscores: x & y is torch.ops.aten.__and__. No other may, as __import__ has them too.
_BITS = re.compile(r"torch\.ops\.aten\.__i?(?:and|or|xor|lshift|rshift)__\.\w+")
# Operators that read or write a file by its name.
_FILES = re.compile(r"\.(?:from_file|save|load_tensor|load_library)(?:\.|$)")


def what_is_no_program(text: str | bytes) -> str:
    """What in the JSON of a program is more than that, in words; empty if nothing is."""
    for key, value in _strings(json.loads(text), ""):
        if key == "expr_str" and not _is_formula(value):
            return f"a size that is no formula, {value[:80]!r}"
        if key == "guards_code" and not _is_guard(value):
            return f"a guard that compares no sizes, {value[:80]!r}"
        if key in ("in_spec", "out_spec") and value and not is_plain_tree(value):
            return f"arguments or outputs that name objects of Python, {value[:80]!r}"
        if key == "target" and _FILES.search(value):
            return f"an operator that touches files, {value[:80]!r}"
        is_named = key == "target" and ("." in value or ":" in value) and not _BITS.fullmatch(value)
        if is_named and ("__" in value or not _TARGET.fullmatch(value)):
            return f"a node that calls no operator, {value[:80]!r}"
    return ""


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in JSON, each with the name that it, or the list that it is in, goes by."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif isinstance(value, str):
        yield key, value


def _is_formula(text: str) -> bool:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    spoken: set[int] = set()  # texts that only name a symbol or write a number
    for node in ast.walk(tree):
        if not isinstance(node, (*_FORMULA, *_FORMULA_PARTS)):
            return False
        if isinstance(node, ast.Name) and "__" in node.id:
            return False
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or not _FUNCTION.fullmatch(node.func.id):
                return False
            if node.func.id in _NAMED_BY_TEXT:
                spoken.update(map(id, node.args))
        text_of = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text_of, bytes):
            return False
        if isinstance(text_of, str) and not (id(node) in spoken and _WORD.fullmatch(text_of)):
            return False
    return True


def _is_guard(text: str) -> bool:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _GUARD):
            return False
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name.startswith("__"):
            return False
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in _GUARDS_CALL and not re.fullmatch(r"[A-Z]\w*", called):
                return False
    return True
