"""How our files run on a Python that is older than they are: on 3.9 and 3.10, as the child of an isolated model.

We write for Python 3.11. A child under an older interpreter reads the same files; what they say in newer forms is put
into older ones while they are compiled, and what the standard library lacks is kept here. Only modules of ours are
changed: a framework beside them sees the Python that it is on, and nothing of this.

This file itself, and `child.py` that runs it, are written for 3.9, and import nothing of ours.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import sys
import types
import typing
from datetime import timezone
from typing import Any

__all__ = ["OLDEST", "READS_AS_IT_IS", "install", "read_older", "standard_modules"]

OLDEST = (3, 9)
# From here on our files are compiled as they stand.
READS_AS_IT_IS = (3, 11)

# Under this name each module of ours has what its older forms need.
_SELF = "__older__"


def install(folder: str) -> None:
    """Have ``import graphpipe`` find the package in ``folder``, whose parent is on no path, and read it as this Python
    can.

    Raises ImportError on a Python before 3.9.
    """
    if sys.version_info < OLDEST:
        raise ImportError(f"a model runs on Python 3.9 or newer; this is {sys.version.split()[0]}")
    sys.meta_path.insert(0, _Finder(folder))


class _Finder(importlib.abc.MetaPathFinder):
    """Knows the package and what is in it, and nothing else."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Any, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "graphpipe":
            spec = importlib.util.spec_from_file_location(
                fullname, os.path.join(self._folder, "__init__.py"), submodule_search_locations=[self._folder]
            )
        elif fullname.startswith("graphpipe."):
            spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        else:
            return None
        if sys.version_info < READS_AS_IT_IS and spec is not None and spec.loader is not None and spec.origin:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Reads a module of ours in older forms."""

    def source_to_code(self, data: Any, path: Any, **options: Any) -> types.CodeType:  # type: ignore[override]
        code: types.CodeType = compile(
            read_older(data, path), path, "exec", __future__.annotations.compiler_flag, dont_inherit=True
        )
        return code

    def path_stats(self, path: Any) -> typing.Mapping[str, Any]:
        # What is compiled depends on this file too, so nothing that was compiled before is looked for, or kept.
        raise OSError

    def exec_module(self, module: types.ModuleType) -> None:
        setattr(module, _SELF, _TOOLS)
        super().exec_module(module)


def read_older(text: str | bytes, path: str) -> ast.Module:
    """The tree of a module of ours, in forms that this Python knows."""
    tree: ast.Module = ast.fix_missing_locations(_Older().visit(ast.parse(text, path)))
    return tree


class _Older(ast.NodeTransformer):
    """Puts what Python 3.11 reads into what 3.9 does."""

    def __init__(self) -> None:
        self._modules: dict[str, str] = {}  # what a name stands for that an import has made
        self._depth = 0  # of functions

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for each in node.names:
            if each.asname or "." not in each.name:
                self._modules[each.asname or each.name] = each.name
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """``from typing import Any, Unpack``: what is not there comes from here."""
        module = node.module or ""
        here = [each for each in node.names if (module, each.name) in _MISSING]
        for each in node.names:
            self._modules[each.asname or each.name] = f"{module}.{each.name}"
        if not here:
            return node
        node.names = [each for each in node.names if each not in here]
        # The names may be used in annotations alone, which nobody evaluates; so each is bound, whatever it is.
        bound: list[ast.AST] = [
            ast.Assign([ast.Name(each.asname or each.name, ast.Store())], _name_here(_MISSING[module, each.name]))
            for each in here
        ]
        return [ast.copy_location(each, node) for each in bound] + ([node] if node.names else [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """``hashlib.file_digest``."""
        if isinstance(node.value, ast.Name):
            here = _MISSING.get((self._modules.get(node.value.id, ""), node.attr))
            if here:
                return ast.copy_location(_name_here(here), node)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """``BaseExceptionGroup``."""
        here = _MISSING.get(("builtins", node.id)) if isinstance(node.ctx, ast.Load) else None
        return ast.copy_location(_name_here(here), node) if here else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "dataclass":
            node.keywords = [each for each in node.keywords if each.arg not in _OF_DATACLASSES]
        elif name == "zip" and any(each.arg == "strict" for each in node.keywords):
            node.func = _name_here("zipped")
        elif name in ("isinstance", "issubclass") and len(node.args) == 2:
            node.args[1] = _classes(node.args[1])
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """``class Row(NamedTuple, Generic[T])``: a tuple takes what is in brackets as it is."""
        if any(isinstance(each, ast.Name) and each.id == "NamedTuple" for each in node.bases):
            node.bases = [each for each in node.bases if not isinstance(each, ast.Subscript)]
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """A time-out of a socket was no TimeoutError yet."""
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(isinstance(each, ast.Name) and each.id == "TimeoutError" for each in kinds):
            node.type = ast.Call(_name_here("timeouts"), [each for each in kinds if each is not None], [])
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """``Dim = int | str``: a type outside of functions, where there is no haste; numbers are what they were."""
        if self._depth or not isinstance(node.op, ast.BitOr):
            return self.generic_visit(node)
        return ast.copy_location(
            ast.Call(_name_here("either"), [self.visit(node.left), self.visit(node.right)], []), node
        )

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._function(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node  # its annotation stays a text

    def _function(self, node: Any) -> Any:
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        self._depth += 1
        node.args = self.visit(node.args)
        node.body = [made for each in node.body for made in _several(self.visit(each))]
        self._depth -= 1
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node


def _several(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [] if node is None else [node]


def _name_here(name: str) -> ast.expr:
    return ast.Attribute(ast.Name(_SELF, ast.Load()), name, ast.Load())


def _classes(node: ast.expr) -> ast.expr:
    """``int | str`` as ``(int, str)``."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.BitOr):
        return node
    return ast.copy_location(ast.Tuple([_classes(node.left), _classes(node.right)], ast.Load()), node)


# --- what the standard library lacks ----------------------------------------------------------------------------------


def zipped(*several: Any, strict: bool = False) -> Any:
    """What ``zip`` is from 3.10 on: with ``strict`` it raises ValueError where one ends before the others."""
    if not strict:
        return zip(*several)  # noqa: B905
    return _strictly(several)


def _strictly(several: tuple[Any, ...]) -> Any:
    end = object()
    for row in itertools.zip_longest(*several, fillvalue=end):
        if any(each is end for each in row):
            short = next(place for place, each in enumerate(row) if each is end)
            raise ValueError(f"zip() argument {short + 1} is shorter than others")
        yield row


def pairwise(things: Any) -> Any:
    """Each with the one behind it, as ``itertools.pairwise`` gives them from 3.10 on."""
    ones, others = itertools.tee(things)
    next(others, None)
    return zip(ones, others)  # noqa: B905


def either(left: Any, right: Any) -> Any:
    """What ``left | right`` is: of types their union."""
    try:
        return left | right
    except TypeError:
        return typing.Union[left, right]


def timeouts(*kinds: Any) -> tuple[Any, ...]:
    """The classes that TimeoutError is one with in newer versions, and the others that were asked for."""
    others = (("socket", "timeout"), ("concurrent.futures", "TimeoutError"), ("asyncio", "TimeoutError"))
    known = [getattr(sys.modules[module], name, None) for module, name in others if module in sys.modules]
    return (*kinds, *(each for each in known if each is not None))


def file_digest(file: Any, digest: Any) -> Any:
    """What ``hashlib.file_digest`` gives."""
    import hashlib

    total = hashlib.new(digest) if isinstance(digest, str) else digest()
    piece = memoryview(bytearray(1 << 18))
    while size := file.readinto(piece):
        total.update(piece[:size])
    return total


def entry_points(*, group: str) -> Any:
    """Those of one group, as ``importlib.metadata.entry_points`` gives them from 3.10 on."""
    from importlib import metadata

    found: Any = metadata.entry_points()
    return found.get(group, ()) if hasattr(found, "get") else found.select(group=group)


def is_typeddict(kind: Any) -> bool:
    """Whether a class is a TypedDict."""
    return type(kind).__name__ == "_TypedDictMeta"


def standard_modules() -> frozenset[str]:
    """What ``sys.stdlib_module_names`` has, of what is here."""
    folder = os.path.dirname(os.__file__)
    files = os.listdir(folder) + (os.listdir(dynamic) if os.path.isdir(dynamic := f"{folder}/lib-dynload") else [])
    return frozenset(sys.builtin_module_names) | {name.partition(".")[0] for name in files} - {"site-packages"}


class NoGroup(BaseException):
    """Stands for BaseExceptionGroup, which nobody raises here."""

    @property
    def exceptions(self) -> tuple[BaseException, ...]:
        return ()


class NoUnion:
    """Stands for the class of ``int | str``, of which there is nothing here."""


# By the module that has it in 3.11, and its name there.
_IN_3_11 = {
    ("builtins", "BaseExceptionGroup"): "NoGroup",
    ("datetime", "UTC"): "UTC",
    ("hashlib", "file_digest"): "file_digest",
    ("importlib.metadata", "entry_points"): "entry_points",
    ("itertools", "pairwise"): "pairwise",
    ("sys", "stdlib_module_names"): "stdlib_module_names",
    ("types", "UnionType"): "NoUnion",
    ("typing", "is_typeddict"): "is_typeddict",
    **{("typing", name): "Any" for name in ("NotRequired", "Required", "Self", "TypeAlias", "TypeGuard", "Unpack")},
}


def _has(module: str, name: str) -> bool:
    if (module, name) == ("importlib.metadata", "entry_points"):
        return sys.version_info >= (3, 10)
    return hasattr(importlib.import_module(module), name)


_MISSING = {key: value for key, value in _IN_3_11.items() if not _has(*key)}
_OF_DATACLASSES = ("slots", "kw_only", "match_args") if sys.version_info < (3, 10) else ()
_TOOLS = types.SimpleNamespace(
    zipped=zipped, either=either, timeouts=timeouts, file_digest=file_digest, entry_points=entry_points,
    is_typeddict=is_typeddict, pairwise=pairwise, NoGroup=NoGroup, NoUnion=NoUnion, UTC=timezone.utc, Any=Any,
    stdlib_module_names=standard_modules() if ("sys", "stdlib_module_names") in _MISSING else frozenset(),
)  # fmt: skip
