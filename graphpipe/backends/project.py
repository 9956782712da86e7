"""A Python file and its neighbours, as ``python path/file.py`` would see them, for several projects in one process.

Every project has a ``model.py`` and a ``helper.py``. ``sys.modules`` has room for one of each name, so a file gets its
own name there if nobody else has it, neither the standard library nor what is installed nor another project, and a
name of its own otherwise. The ``import`` statements of a project's files go through the project (each module looks
``__import__`` up among its builtins): the names of neighbours mean the neighbours. What is in nobody's way is an
ordinary module, whose pickles other processes read too.

A file is run once in a process, and again if it is asked for after it, or a neighbour that it imported, has changed.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from threading import RLock
from types import CodeType, ModuleType
from typing import Any

__all__ = ["module_of_file"]


def module_of_file(path: Path) -> ModuleType:
    """The module that a file is, run if need be. Raises whatever the file raises."""
    path = path.resolve()
    folder, parts = path.parent, [path.stem]
    if "." not in path.stem:
        # Relative imports need the whole package.
        while (folder / "__init__.py").is_file() and folder.name.isidentifier():
            parts.insert(0, folder.name)
            folder = folder.parent
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    with _lock:
        project = _projects.get(folder) or _projects.setdefault(folder, _Project())
        project.look_in(folder, path.parent)
        replaced = project.forget_if_changed()
        if folder == path.parent:
            name = project.register(parts[0], str(path), None)
        else:
            package = folder / parts[0]
            name = project.register(parts[0], str(package / "__init__.py"), [str(package)])
    try:
        return importlib.import_module(".".join([name, *parts[1:]]))
    except BaseException:
        project.restore(replaced)
        raise


_lock = RLock()
_projects: dict[Path, _Project] = {}
# Of each top-level name that a project has: whose it is, where its file is (none: a folder without __init__.py), and
# where its submodules are.
_known: dict[str, tuple[_Project, str | None, Sequence[str] | None]] = {}


class _Project:
    """What the files of one folder mean by the names that they import."""

    def __init__(self) -> None:
        self._folders: list[str] = []
        self._names: dict[str, str] = {}
        self._stamps: dict[str, tuple[str, tuple[int, int]]] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}

    def look_in(self, *folders: Path) -> None:
        """Have neighbours in these folders."""
        for folder in map(str, folders):
            if folder not in self._folders:
                self._folders.append(folder)
            if folder not in sys.path:
                # At the end it is in nobody's way. Unpickling looks there, and so do processes started from here.
                sys.path.append(folder)

    def forget_if_changed(self) -> dict[str, ModuleType]:
        """Where a file that was run has changed since, forget all modules of the project; gives them."""
        importlib.invalidate_caches()
        self._names = {top: name for top, name in self._names.items() if name in _known}  # neighbours may be new
        if all(_stamp(file) == stamp for file, stamp in self._stamps.values()):
            return {}
        forgotten = {name: sys.modules.pop(name) for name in self._stamps if name in sys.modules}
        self._stamps.clear()
        return forgotten

    def restore(self, modules: Mapping[str, ModuleType]) -> None:
        """Put forgotten modules back: what took their place cannot be loaded, and they may be in use."""
        sys.modules.update(modules)
        # They are as old as they were.
        self._stamps.update({name: (str(module.__file__), (0, 0)) for name, module in modules.items()})

    def register(self, top: str, file: str | None, locations: Sequence[str] | None) -> str:
        """The name in ``sys.modules`` of a neighbour; ``top`` if nobody else has that."""
        with _lock:
            known = self._names.get(top)
            if known in _known and _known[known][1] == file:
                return known
            where = file or str(list(locations or ()))
            name = top
            if not _is_free(top, file):
                name = re.sub(r"\W", "_", top) + "_" + hashlib.sha256(where.encode()).hexdigest()[:8]
            _known[name] = (self, file, locations)
            if top not in sys.stdlib_module_names:
                self._names[top] = name
            return name

    def note(self, name: str, file: str) -> None:
        """Remember how a file was when it was run."""
        self._stamps[name] = (file, _stamp(file))

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0:
            top, dot, rest = name.partition(".")
            name = (self._names.get(top) or self._named(top)) + dot + rest
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _named(self, top: str) -> str:
        """The name in ``sys.modules`` of what a file of the project calls ``top``."""
        if top not in sys.stdlib_module_names:
            found = PathFinder.find_spec(top, self._folders)
            if found is not None and isinstance(found.loader, SourceFileLoader):
                return self.register(top, found.origin, found.submodule_search_locations)
            if found is not None and found.origin is None and (top in _known or _is_free(top, None)):
                return self.register(top, None, list(found.submodule_search_locations or ()))
        self._names[top] = top
        return top


class _Finder:
    """Finds the projects' modules for the import system."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        top, dot, _ = name.partition(".")
        if top not in _known:
            return None
        project, file, locations = _known[top]
        if dot:
            found = PathFinder.find_spec(name, path)
            if found is None or not isinstance(found.loader, SourceFileLoader):
                return found
            file, locations = found.origin, found.submodule_search_locations
        if file is None:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = list(locations or ())
            return spec
        loader = _Loader(project, name, file)
        given = None if locations is None else list(locations)
        return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=given)


class _Loader(SourceFileLoader):
    """Runs a file of a project."""

    def __init__(self, project: _Project, name: str, file: str) -> None:
        super().__init__(name, file)
        self._project = project

    def get_code(self, fullname: str) -> CodeType:
        # Compiled files know the second of their source, and a notebook is quicker than that.
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        self._project.note(module.__name__, self.path)
        vars(module)["__builtins__"] = self._project.builtins
        super().exec_module(module)


sys.meta_path.insert(0, _Finder)


def _is_free(top: str, file: str | None) -> bool:
    """Whether a file (None: a folder) may have this name in ``sys.modules``."""
    if not top.isidentifier() or top in sys.stdlib_module_names:
        return False
    if top in _known:
        return file is not None and _known[top][1] == file
    if top in sys.modules:
        return _is_file(getattr(sys.modules[top], "__file__", None), file)
    spec = importlib.util.find_spec(top)
    return spec is None or (spec.origin is None if file is None else _is_file(spec.origin, file))


def _is_file(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and Path(one).resolve() == Path(other).resolve()


def _stamp(file: str) -> tuple[int, int]:
    try:
        status: Any = Path(file).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
