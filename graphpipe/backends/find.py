"""From a source to a model: the first backend that knows the source opens it."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

from graphpipe.arguments import came, flag, names, whole
from graphpipe.backends.backend import Backend
from graphpipe.backends.failure import ends_the_program, in_words
from graphpipe.backends.folder import folder_name, model_in
from graphpipe.backends.foreign import no_model
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.pad import padded
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature
from graphpipe.sources.web import check_sha256, fetch, file_name, is_model_url

__all__ = ["adopted", "default_name", "load", "loading", "open_model"]

# Asked in this order. A backend of this package needs no installed metadata to be found.
_OURS = ("echo", "remote", "onnx", "caffe2", "tensorflow", "torch", "python")


def load(source: str | Path | Callable[..., Any], *, backend: str = "", name: str = "", **options: Any) -> LoadedModel:
    """Load a model into this process.

    ``source`` is what ``graphpipe-serve --model`` takes, and its kind is found by what it is: a file
    (``model.onnx``), the URL of one, a SavedModel's folder, one that holds one model, ``module:function``, a server's
    URL, ``echo``. A function of arrays, or a PyTorch module, is taken as it is. ``backend`` forces a kind.
    ``options`` are those of LoadOptions, by name.

    Raises LoadError, with one line that says why.
    """
    known = {field.name: str(field.type) for field in fields(LoadOptions)}
    for option in options:
        if option not in known:
            raise TypeError(f"load() has no option {option!r}; it has {', '.join(sorted(known))}")
    chosen = LoadOptions(**{name: _option(name, known[name], value) for name, value in options.items()})
    if isinstance(source, str | Path):
        source = str(source)
        called = name or default_name(source)
        opened = open_model(source, chosen, backend)
    else:
        called = name or re.sub(r"\W", "", getattr(source, "__name__", "") or type(source).__name__)  # not <lambda>
        with loading(called):
            opened = padded(adopted(source, called, chosen), chosen.pad)
    with loading(called):
        return LoadedModel(opened, called, source if isinstance(source, str) else "", chosen, backend)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turns whatever a model raises in here, `sys.exit` and panics included, into a LoadError. A signal ends it."""
    try:
        yield
    except LoadError:
        raise
    except BaseException as error:
        if ends_the_program(error):
            raise
        raise LoadError(f"{what}: loading it raised {in_words(error)}") from error


def _option(name: str, kind: str, value: Any) -> Any:
    """One of LoadOptions, as its field has it. Raises TypeError for a value of another kind."""
    if value is None and "None" in kind:
        return None
    try:
        if kind.startswith("tuple"):
            paths = isinstance(value, list | tuple)
            return names(
                [os.fspath(v) if isinstance(v, Path) else v for v in value] if paths else value, name, gaps=False
            )
        if kind == "bool":
            return flag(value, name)
        if kind == "int":
            return whole(value, name, 0)
        if isinstance(value, str | Path):
            return os.fspath(value)
    except (InvalidRequest, ValueError) as error:
        raise TypeError(f"load(): {error}") from None
    raise TypeError(f"load(): {name} is a text; {came(value)}")


def open_model(source: str, options: LoadOptions, backend: str = "") -> Model:
    """The bare model of a source. Raises LoadError."""
    if backend != "remote" and is_model_url(source):
        source = _one_model(str(fetch(source, options.model_sha256, options.download_bytes_max)), backend)
    else:
        source = _one_model(source, backend)
        if options.model_sha256:
            check_sha256(source, options.model_sha256)
    tried = []
    with loading(source):
        for candidate in _backends():
            tried.append(candidate.name)
            if candidate.name == backend or (not backend and candidate.matches(source)):
                return padded(candidate.open(source, options), options.pad)
    if backend:
        raise LoadError(f"there is no backend {backend!r}; there are {', '.join(tried)}")
    raise LoadError(no_model(source, tried))


def adopted(thing: object, name: str, options: LoadOptions) -> Model:
    """The model that a Python object is: a Model as it is, a class's instance, or what a backend makes of it that calls it
    its own. Raises LoadError for what nobody does.
    """
    if isinstance(thing, type):
        try:
            thing = thing()
        except Exception as error:
            raise LoadError(f"{name}: making one raised {in_words(error)}") from error
    if isinstance(thing, Model) and isinstance(thing.signature, Signature):
        return thing
    # The one for functions last: it takes or refuses all that is left.
    candidates = sorted(_backends(), key=lambda candidate: candidate.name == "python")
    models = (candidate.adopt(thing, name, options) for candidate in candidates)
    return next(model for model in models if model is not None)


def _one_model(source: str, backend: str) -> str:
    """The model in a folder that is none itself; any other source as it is."""
    if not Path(source).is_dir():
        return source
    backends = [each for each in _backends() if backend in ("", each.name)]
    if not backends or any(each.matches(source) for each in backends):
        return source
    return str(model_in(Path(source), lambda path: any(each.matches(path) for each in backends)))


def default_name(source: str) -> str:
    """What a model is called when nobody says: its file's stem, its folder's or its function's name, or the host that
    has it.
    """
    if is_model_url(source):
        return file_name(source)
    if "://" in source or source.startswith(("remote:", "unix:")):
        words: list[str] = re.findall(r"[A-Za-z0-9_.-]+", source.removeprefix("remote:").partition("?")[0])
        return words[-1] if "/models/" in source else (words[1:] or ["model"])[0]
    if match := re.fullmatch(r"(?:[\w.]+|.+\.py):([\w.]+)", source):
        return match[1]
    if Path(source).is_dir():
        return folder_name(Path(source))
    return Path(source.rstrip("/")).stem or "model"


def _backends() -> Iterator[Backend]:
    for name in _OURS:
        yield importlib.import_module(f"graphpipe.backends.{name}").BACKEND
    for entry in metadata.entry_points(group="graphpipe.backends"):
        if entry.name not in _OURS:
            yield entry.load()
