"""From a source to a model: the first backend that knows the source opens it."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from graphpipe.arguments import a_kind
from graphpipe.backends.backend import Backend
from graphpipe.backends.construction import Arguments, checked, remember
from graphpipe.backends.failure import ends_the_program, in_words
from graphpipe.backends.folder import folder_name, model_in
from graphpipe.backends.foreign import neither, no_model
from graphpipe.backends.keywords import LoadKeywords
from graphpipe.backends.known import backends
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.pad import padded
from graphpipe.backends.unused import Kind, Said, refuse_unused
from graphpipe.errors import LoadError
from graphpipe.problem import Problem
from graphpipe.setting import declared_in, read_keywords
from graphpipe.signature import Signature
from graphpipe.sources.web import check_sha256, fetch, file_name, is_model_url
from graphpipe.words import visible

__all__ = [
    "adopted",
    "adopting",
    "default_name",
    "kind_of",
    "load",
    "loaded",
    "loading",
    "open_model",
    "opened",
    "refuse_to_isolate",
]


def load(
    source: str | Path | Callable[..., Any],
    *,
    backend: str = "",
    name: str = "",
    arguments: Mapping[str, Any] | None = None,
    files: Mapping[str, str | Path] | None = None,
    **options: Unpack[LoadKeywords],
) -> LoadedModel:
    """Load a model into this process.

    ``source`` is what ``graphpipe-serve --model`` takes, and its kind is found by what it is: a file
    (``model.onnx``), the URL of one, a SavedModel's folder, one that holds one model, ``module:function``, a server's
    URL, ``placeholder:problem.toml``, ``echo``. A function of arrays, or a PyTorch module, is taken as it is. ``backend``
    forces a kind. ``arguments`` are what a class is made with, by the names of its constructor's parameters, and ``files``
    those of them that are files, which it gets as paths. ``options`` are those of LoadOptions, by name.

    Raises LoadError, with one line that says why, also for an option that does nothing for such a model; TypeError for
    an option that does not exist or is of another kind.
    """
    declared = declared_in(LoadOptions)
    values = read_keywords("load", declared, options)
    said = {each: Said(f"argument {each}") for each, value in values.items() if value != declared[each][1]}
    return loaded(source, LoadOptions(**values, arguments=Arguments.of(arguments, files)), backend, name, said)


def loaded(
    source: str | Path | Callable[..., Any],
    options: LoadOptions,
    backend: str = "",
    name: str = "",
    said: Mapping[str, Said] | None = None,
) -> LoadedModel:
    """The model of a source, or of something that is here already, at this process's edge. Raises LoadError.

    ``said`` are the options that somebody asked for.
    """
    if isinstance(source, str | Path):
        source = str(source)
        called = name or default_name(source)
        if said:
            refuse_unused([(called, kind_of(source, backend), said)])
        model, kind = opened(source, options, backend, called)
    else:
        called = name or re.sub(r"\W", "", getattr(source, "__name__", "") or type(source).__name__)  # not <lambda>
        if backend:
            raise LoadError(f"{called}: --backend is for sources, and this is {a_kind(source)} already")
        refuse_to_isolate(called, options)
        with loading(called):
            adopted, kind = adopting(source, called, options)
            model = _as_told(adopted, options, called)
    if said:
        refuse_unused([(called, kind, said)])
    with loading(called):
        return LoadedModel(model, called, source if isinstance(source, str) else "", options, backend)


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


def open_model(source: str, options: LoadOptions, backend: str = "") -> Model:
    """The bare model of a source. Raises LoadError."""
    return opened(source, options, backend)[0]


def opened(source: str, options: LoadOptions, backend: str = "", name: str = "") -> tuple[Model, Kind]:
    """The bare model of a source, and what it is; ``name`` is what it is called in errors. Raises LoadError."""
    given = source
    if _is_download(source, backend):
        fetched = fetch(
            source,
            options.model_sha256,
            options.download_bytes_max,
            timeout_s=options.download_timeout_s,
            anywhere=options.download_private,
        )
        source = _one_model(str(fetched), backend)
    else:
        source = _one_model(source, backend)
        if options.model_sha256:
            check_sha256(source, options.model_sha256)
    model: Model
    with loading(source):
        chosen = _backend_of(source, backend)
        if _is_download(given, backend):
            chosen.fetched(source, options)
        if options.arguments is not None:
            if chosen.named is None:
                raise LoadError(
                    f"{name or given}: arguments are what a class is made with, FILE.py:CLASS; this is a model of the "
                    f"backend {chosen.name}"
                )
            if options.is_isolated:
                options.arguments.refuse_to_travel(name or given)
        if options.is_isolated and not chosen.isolates:
            # Known here as far as its words say; whatever is run of it is run there.
            from graphpipe.backends.isolated.model import IsolatedModel  # not everybody's

            isolated = IsolatedModel(source, replace(options, problem=""), backend, name or default_name(given))
            loaded_by = isolated.loaded
            kind = Kind(loaded_by.backend, {*loaded_by.uses, *_uses_of_all(given, backend)})
            model, options = isolated, replace(options, pad=())  # which is done there
        elif chosen.named is not None:
            model, kind = adopting(chosen.named(source), source, options)
            kind = Kind(kind.backend, {*kind.uses, "model_sha256", *_OF_ISOLATION})
        else:
            model, kind = chosen.open(source, options), _kind(chosen, source, given, backend)
        with ExitStack() as undo:
            undo.callback(model.close)
            told = _as_told(model, options, name or default_name(given))
            undo.pop_all()
        return told, kind


def _as_told(model: Model, options: LoadOptions, name: str) -> Model:
    """The model behind its paddings and its problem, where it was told any."""
    model = padded(model, options.pad)
    if not options.problem:
        return model
    problem = Problem.read(options.problem) if isinstance(options.problem, str) else options.problem
    return problem.posed(model, name=name)


def kind_of(source: str, backend: str = "") -> Kind | None:
    """What the model of a source will be; None where only loading it tells. Raises LoadError for what is no source."""
    # What is to be fetched is known by its name, if at all.
    path = source.partition("?")[0] if _is_download(source, backend) else _one_model(source, backend)
    with loading(source):
        try:
            chosen = _backend_of(path, backend)
        except LoadError:
            if path == source and not _is_download(source, backend):
                raise
            return None
        return None if chosen.named is not None else _kind(chosen, path, source, backend)


def _kind(chosen: Backend, source: str, given: str, backend: str) -> Kind:
    return Kind(chosen.name, {*chosen.uses(source), *_uses_of_all(given, backend)})


def _uses_of_all(given: str, backend: str) -> set[str]:
    """The options that matter to whatever a source turns out to be."""
    about_files = {"model_sha256", *(_OF_DOWNLOADS if _is_download(given, backend) else ())}
    return {*_EVERYBODYS, *about_files, *_OF_ISOLATION}


# What is done to any model.
_EVERYBODYS = ("pad", "problem")


def refuse_to_isolate(name: str, options: LoadOptions) -> None:
    """Raise LoadError if a Python object of this process is to run in another."""
    if options.is_isolated:
        raise LoadError(
            f"{name}: what is in this program already cannot run in a process of its own; name it, so that it can be found "
            "there: module:function, or path/to/file.py:function"
        )


_OF_ISOLATION = (
    "isolate", "python", "isolate_container", "isolate_timeout_s", "isolate_memory_bytes", "isolate_cpus",
)  # fmt: skip
_OF_DOWNLOADS = ("download_bytes_max", "download_timeout_s", "download_private")


def _is_download(source: str, backend: str) -> bool:
    return backend != "remote" and is_model_url(source)


def _backend_of(source: str, backend: str) -> Backend:
    """The first backend that knows the source, or the one that is asked for. Raises LoadError."""
    tried = []
    for candidate in backends():
        tried.append(candidate.name)
        if candidate.name == backend or (not backend and candidate.matches(source)):
            return candidate
    if backend:
        raise LoadError(f"there is no backend {backend!r}; there are {', '.join(tried)}")
    raise LoadError(no_model(source, tried))


def adopted(thing: object, name: str, options: LoadOptions) -> Model:
    """The model that a Python object is. Raises LoadError for what is none."""
    return adopting(thing, name, options)[0]


def adopting(thing: object, name: str, options: LoadOptions) -> tuple[Model, Kind]:
    """The model that a Python object is, and whose: a Model as it is, a class's instance, or what a backend makes of it
    that calls it its own. Raises LoadError for what nobody does.
    """
    # What a stage is (``graphpipe.stage``), if it is one.
    thing = getattr(thing, "__graphpipe_what__", thing)
    made_by = f"the class {thing.__name__}" if isinstance(thing, type) else ""
    if isinstance(thing, type):
        thing = _made(thing, name, options.arguments)
    elif options.arguments is not None:
        raise LoadError(
            f"{name}: arguments are what a class is made with; {a_kind(thing)} came, which is there already"
        )
    if isinstance(thing, LoadedModel):  # one edge is enough
        thing = thing.model
    if isinstance(thing, Model) and isinstance(thing.signature, Signature):
        return thing, Kind("python", _EVERYBODYS)
    # The one for functions last: it takes or refuses all that is left.
    for candidate in sorted(backends(), key=lambda candidate: candidate.name == "python"):
        if made_by and candidate.name == "python" and not callable(thing):
            raise LoadError(f"{name}: {neither(thing, name, made_by)}")
        model = candidate.adopt(thing, name, options)
        if model is not None:
            return model, Kind(candidate.name, {*candidate.uses(""), *_EVERYBODYS})
    raise LoadError(f"{name}: {made_by or a_kind(thing)} is no model")


def _made(kind: type, name: str, arguments: Arguments | None) -> object:
    """One of a class. Raises LoadError."""
    keywords = checked(kind, arguments, name)
    try:
        made: object = kind(**keywords)
    except Exception as error:
        raise LoadError(f"{name}: making one raised {in_words(error)}") from error
    with suppress(TypeError):
        remember(made, keywords)  # to be written down
    if arguments is not None and isinstance(made, Model) and (version := getattr(made, "version", "")):
        # Another one of the same code, and with other answers.
        try:
            made.version = f"{version} {arguments.digest}"  # type: ignore[attr-defined]
        except AttributeError:
            raise LoadError(
                f"{name}: the version of a {kind.__name__} does not tell what it was made with, and cannot be set: make it "
                "a plain attribute"
            ) from None
    return made


def _one_model(source: str, backend: str) -> str:
    """The model in a folder that is none itself; any other source as it is. Raises LoadError."""
    if "://" in source or not _is_folder(source):
        return source
    asked = [each for each in backends() if backend in ("", each.name)]
    if not asked or any(each.matches(source) for each in asked):
        return source
    return str(model_in(Path(source), lambda path: any(each.matches(path) for each in asked)))


def _is_folder(source: str) -> bool:
    """Whether a source is a folder. Raises LoadError where the system does not let anybody look: behind a folder that is
    closed to this user, or for a name that is too long.
    """
    try:
        if not os.path.isdir(source):
            os.stat(source)
            return False
        os.stat(os.path.join(source, os.curdir))  # of a closed folder alone the outside is seen
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LoadError(f"{source}: {error.strerror}") from None
    except ValueError as error:  # a NUL
        raise LoadError(f"{visible(source)}: {error}") from None


def default_name(source: str) -> str:
    """What a model is called when nobody says: its file's stem, its folder's or its function's name, the name that is in
    a pipeline's file, or the host that has it.
    """
    if is_model_url(source):
        return file_name(source)
    if "://" in source or source.startswith(("remote:", "unix:")):
        words: list[str] = re.findall(r"[A-Za-z0-9_.-]+", source.removeprefix("remote:").partition("?")[0])
        return words[-1] if "/models/" in source else (words[1:] or ["model"])[0]
    if source.startswith("placeholder:"):
        return Path(source.removeprefix("placeholder:")).stem or "placeholder"
    if match := re.fullmatch(r"(?:[\w.]+|.+\.py):([\w.]+)", source):
        return match[1]
    if name := _name_in_pipeline(source):
        return name
    if Path(source).name == "pipeline.toml":  # every pipeline's file
        return folder_name(Path(source).parent)
    if os.path.isdir(source):
        return folder_name(Path(source))
    return Path(source.rstrip("/")).stem or "model"


def _name_in_pipeline(source: str) -> str:
    """What a pipeline's file says that it is called; nothing where it does not, or is none that could be loaded."""
    if not source.endswith(".toml") and not os.path.isfile(os.path.join(source, "pipeline.toml")):
        return ""
    file = importlib.import_module("graphpipe.pipeline.file")  # it knows what options there are, as this one does
    try:
        path = file.file_of(source)
        return "" if path is None else str(file.read(path).name)
    except LoadError:
        return ""
