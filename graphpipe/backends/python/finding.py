"""From ``module:function`` or ``file.py:function`` to what it names."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from graphpipe.backends.failure import place_of
from graphpipe.backends.foreign import no_such_file
from graphpipe.backends.project import module_of_file
from graphpipe.errors import LoadError
from graphpipe.words import first_line, listed, nearest

__all__ = ["found", "matches"]

_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")

# What brings a module. Of any other name nobody knows whether it is a package's, or that of a file that is not here.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "sentence_transformers": "sentence-transformers",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    **{
        name: name
        for name in (
            "catboost", "jax", "joblib", "keras", "lightgbm", "nltk", "numpy", "onnx", "onnxruntime", "pandas", "polars",
            "pyarrow", "scipy", "spacy", "tensorflow", "timm", "tokenizers", "torch", "torchvision", "transformers",
            "xgboost",
        )
    },
}  # fmt: skip


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
            raise LoadError(f"{source}: {_lacks(thing, part)}")
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
        raise LoadError(f"{source}: {_reason(error, name)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise LoadError(f"{source}: {_reason(error, name)}") from error


def _module_of_file(source: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"{path}: {no_such_file(path)}")
    try:
        return module_of_file(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, too: whoever wrote the file wanted it to be a program
        raise LoadError(f"{source}: {_reason(error, path.name)}") from error


def _lacks(thing: Any, part: str) -> str:
    """That a module or class has no such name, and which ones it has."""
    own = [
        name
        for name, each in vars(thing).items()
        if not name.startswith("_") and callable(each) and getattr(each, "__module__", "") in (thing.__name__, None)
    ]
    has = f"; it has {listed(own)}" if own else ""
    return f"{thing.__name__} has no {part!r}{nearest(part, own) or has}"


def _reason(error: BaseException, what: str) -> str:
    """Why a module cannot be imported, and where in the user's files, in a line."""
    if isinstance(error, SyntaxError):
        where = f"{Path(error.filename).name}, line {error.lineno}" if error.filename and error.lineno else what
        return f"{where}: {type(error).__name__}: {error.msg}"
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name in _DISTRIBUTIONS:
        hint = f"; pip install {_DISTRIBUTIONS[error.name]}"
    return f"{place_of(error) or what}: {type(error).__name__}: {first_line(error)}{hint}"
