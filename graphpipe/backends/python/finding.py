"""From ``module:function`` or ``file.py:function`` to what it names."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from graphpipe.backends.project import module_of_file
from graphpipe.errors import LoadError
from graphpipe.words import first_line

__all__ = ["found", "matches"]

_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")


def matches(source: str) -> bool:
    """Whether a source names a function: by its words alone, nothing is imported."""
    return bool(_FILE.fullmatch(source) or _MODULE.fullmatch(source))


def found(source: str) -> Any:
    """What a source names. Raises LoadError."""
    if match := _FILE.fullmatch(source):
        module = _module_of_file(source, Path(match[1]))
    elif match := _MODULE.fullmatch(source):
        module = _module(source, match[1])
    else:
        raise LoadError(f"{source}: expected module:function, module:Class or file.py:function")
    thing: Any = module
    for part in match[2].split("."):
        if not hasattr(thing, part):
            raise LoadError(f"{source}: {thing.__name__} has no {part!r}")
        thing = getattr(thing, part)
    return thing


def _module(source: str, name: str) -> ModuleType:
    with contextlib.suppress(OSError):  # a folder that is gone has no modules
        folder = str(Path.cwd())
        if folder not in sys.path and "" not in sys.path:
            sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"{source}: there is no module {name!r}, neither in the current folder nor in what is installed"
            ) from None
        raise LoadError(f"{source}: {name} {_reason(error, Path.cwd())}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise LoadError(f"{source}: {name} {_reason(error, Path.cwd())}") from error


def _module_of_file(source: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"{path}: no such file")
    try:
        return module_of_file(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, too: whoever wrote the file wanted it to be a program
        raise LoadError(f"{source}: {path.name} {_reason(error, path.resolve().parent)}") from error


def _reason(error: BaseException, folder: Path) -> str:
    """Why a module cannot be imported, and where in the files of its folder."""
    if isinstance(error, SyntaxError):
        return f"is not Python: {error.msg} ({error.filename}:{error.lineno})"
    near = [frame for frame in traceback.extract_tb(error.__traceback__) if folder in Path(frame.filename).parents]
    where = f" ({near[-1].filename}:{near[-1].lineno})" if near else ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"needs {error.name}, which is not installed{where}"
    return f"raised {type(error).__name__}: {first_line(error)}{where}"
