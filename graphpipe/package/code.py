"""The Python code of a package: it is copied into ``code/``, from where it imports itself as it did where it came from.

A file goes there as it is, a folder with an ``__init__.py`` as the package of Python that it is, and of any other folder
what is in it. What Python compiled, and what is hidden, stays behind.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graphpipe.errors import PackageError
from graphpipe.words import quoted

__all__ = ["CODE", "Code"]

CODE = "code"
_FUNCTION = re.compile(r"(.+\.py):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")
_OF_MODULE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")
_NO_STATE = (
    "and another process would not have what is in it: give a class, which is made there without arguments, or a function "
    "at the top of a file"
)
_HINT = "give its file, or the folder that it is imported from: code=[...]"


class Code:
    """The code that goes into a package in the making, which ``folder`` is of."""

    def __init__(self, folder: Path, given: Iterable[str | Path]) -> None:
        self.folder = folder
        # Where each file of code/ came from.
        self._places: dict[Path, str] = {}
        for each in given:
            self.add(Path(each))

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, given: Path) -> None:
        """Copy a file or a folder. Raises PackageError."""
        if given.is_file():
            self._copy(given, given.name)
        elif given.is_dir():
            top = f"{given.resolve().name}/" if (given / "__init__.py").is_file() else ""
            before = len(self._places)
            for name in _files(given):
                self._copy(given / name, f"{top}{name}")
            if len(self._places) == before:
                raise PackageError(f"{given} has no files for the package's code")
        else:
            raise PackageError(f"there is no file or folder {given} for the package's code")

    def source(self, model: str) -> str:
        """Where the package has what ``FILE.py:NAME`` or ``MODULE:NAME`` names. Raises PackageError."""
        if match := _FUNCTION.fullmatch(model):
            return f"{self._of_file(Path(match[1]), model)}:{match[2]}"
        if match := _OF_MODULE.fullmatch(model):
            stem = f"{CODE}/{match[1].replace('.', '/')}"
            for name in (f"{stem}.py", f"{stem}/__init__.py"):
                if name in self._places.values():
                    return f"{name}:{match[2]}"
            return f"{self._of_file(_file_of_module(match[1], model), model)}:{match[2]}"
        raise PackageError(f"{quoted(model)} names no function: expected FILE.py:NAME or MODULE:NAME")

    def source_of(self, thing: Any) -> str:
        """Where the package has a function or a class that is here. Raises PackageError."""
        if inspect.ismethod(thing) and not isinstance(thing.__self__, type):
            kind = type(thing.__self__).__name__
            raise PackageError(f"{thing.__name__} is a method of one {kind}, {_NO_STATE}")
        if not hasattr(thing, "__qualname__") and not hasattr(thing, "__wrapped__"):
            raise PackageError(f"it is one {type(thing).__name__}, {_NO_STATE}")
        name = getattr(thing, "__qualname__", "")
        if not name or not all(part.isidentifier() for part in name.split(".")):
            raise PackageError(
                f"{name or thing!r} has no name in its file that another process could find it by: put it at the top of a "
                "file"
            )
        try:
            file = inspect.getsourcefile(thing)
        except TypeError:
            file = None
        if not file or not os.path.isfile(file):
            raise PackageError(f"{name} is in no file that could be packed: write it into one, and {_HINT}")
        return f"{self._of_file(Path(file), name)}:{name}"

    def _of_file(self, file: Path, what: str) -> str:
        if not file.is_file():
            raise PackageError(f"{what}: there is no file {file}")
        if not self._places:
            self.add(file)
        found = self._places.get(file.resolve())
        if found is None:
            raise PackageError(f"{what} is in {file}, which is not among the package's code; {_HINT}")
        return found

    def _copy(self, file: Path, name: str) -> None:
        target = self.folder / CODE / name
        if target.exists():
            if self._places.get(file.resolve()) == f"{CODE}/{name}":
                return
            raise PackageError(f"two files of the package's code would be {CODE}/{name}: {file} is the second")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        self._places[file.resolve()] = f"{CODE}/{name}"


def _file_of_module(module: str, model: str) -> Path:
    """The file of a module that is no library's. Raises PackageError."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        beside = Path(*module.split("."))
        for file in (beside.with_suffix(".py"), beside / "__init__.py"):
            if file.is_file():
                return file
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise PackageError(f"{model}: there is no module {module}; {_HINT}")
    if "site-packages" in Path(spec.origin).parts:
        raise PackageError(
            f"{model}: {module} is an installed library, and a package brings its own code: write a file with a function "
            "that calls it, name the library in requirements, and give the file: code=[...]"
        )
    return Path(spec.origin)


def _files(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if each != "__pycache__" and not each.startswith("."))
        for each in folders:
            if (Path(root) / each).is_symlink():
                raise PackageError(f"{Path(root) / each} is a link to a folder; give the folder itself")
        for each in sorted(files):
            if not each.startswith(".") and not each.endswith((".pyc", ".pyo")):
                yield (Path(root) / each).relative_to(folder).as_posix()
