"""From what somebody calls a stage to a model with a name: loaded, adopted, or taken as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.backends.construction import Arguments, checked
from graphpipe.backends.find import adopting, default_name, kind_of, loading, opened, refuse_to_isolate
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.unused import Said, refuse_unused
from graphpipe.errors import LoadError
from graphpipe.pipeline.returned import names_returned
from graphpipe.pipeline.stage import Stage, checked_name
from graphpipe.setting import declared_in, read_keywords
from graphpipe.words import nearest, quoted

__all__ = ["OF_SERVING", "Part", "named_stages", "parts_of"]

# What is said of one model on a server beside what is said about loading it.
OF_SERVING = (
    "backend", "cast", "ignore_extra_inputs", "threads", "batch_rows_max", "batch_wait_ms", "batch_sizes", "batch_pad",
    "queue_rows_max", "cache", "cache_dir", "cache_bytes_max", "cache_ttl_s", "cache_version", "cache_fresh_ms",
    "queue_requests_max",
)  # fmt: skip
_DECLARED = declared_in(LoadOptions)
# What is the machine's, and holds for each part that says nothing else.
_OF_THE_MACHINE = ("device", "providers", "intra_threads", "trust_model")


@dataclass(frozen=True, slots=True)
class Part:
    """A stage with its model. ``source`` is where that was loaded from, empty for what was handed over.

    ``inputs`` and ``outputs`` are from the model's names to the pipeline's, where they differ. ``returns`` are the names
    of what a function gives, as far as its code says them. ``settings`` are those of a server.
    """

    name: str
    model: Model
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    stage: Stage
    source: str
    backend: str
    options: LoadOptions
    settings: Mapping[str, Any]
    returns: tuple[str, ...]
    # Whoever handed a model over closes it.
    is_ours: bool

    def with_model(self, model: Model) -> Part:
        """The same stage with another model, which is its owner's to close."""
        return replace(self, model=model, source="", returns=names_returned(model), is_ours=False)


def parts_of(stages: Any, told: LoadOptions | None = None) -> list[Part]:
    """The parts that stages are, each with its model. ``told`` are the options that the pipeline was loaded with.

    Raises LoadError, with the stage's name; nothing is open then.
    """
    named = named_stages(stages)
    for name, stage in named.items():
        # Before anything is loaded, which may take long.
        if isinstance(stage.what, type):
            checked(stage.what, _arguments(stage, name), f"stage {name!r}")
    with ExitStack() as undo:
        parts = []
        for name, stage in named.items():
            part = _part(stage, name, told)
            if part.is_ours:
                undo.callback(part.model.close)
            parts.append(part)
        undo.pop_all()
        return parts


def named_stages(stages: Any) -> dict[str, Stage]:
    """Stages by their names, in order; one that has none gets one. Raises LoadError for two of one name, and for none."""
    listed = list(_listed(stages))
    if not listed:
        raise LoadError("a pipeline has at least one stage")
    named: dict[str, Stage] = {}
    for stage in listed:
        name = stage.name or _numbered(_name_of(stage.what), {each.name for each in listed} | set(named))
        if name in named:
            raise LoadError(f"there are two stages called {name!r}; call one of them otherwise: Stage(..., name=...)")
        named[name] = stage
    return named


def _listed(stages: Any) -> Iterator[Stage]:
    if isinstance(stages, Mapping):
        for name, what in stages.items():
            if isinstance(what, Stage):
                yield what.named(checked_name(name))
            else:
                yield Stage(what, checked_name(name))
        return
    if isinstance(stages, str | Path) or not isinstance(stages, Iterable):
        raise LoadError(f"a pipeline's stages are a list, or a table from names to stages; {came(stages)}")
    for what in stages:
        yield what if isinstance(what, Stage) else Stage(what)


def _name_of(what: Any) -> str:
    if isinstance(what, str | Path):
        name = default_name(str(what))
    elif isinstance(what, LoadedModel):
        name = what.name
    else:
        name = getattr(what, "__name__", "") or type(what).__name__
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:56] or "stage"


def _numbered(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _part(stage: Stage, name: str, told: LoadOptions | None) -> Part:
    options, said, settings = _said(stage, name)
    if told is not None:
        left = {each for each in _OF_THE_MACHINE if each not in stage.options}
        options = replace(options, **{each: getattr(told, each) for each in left})
    backend = str(settings.get("backend", ""))
    what = stage.what
    try:
        if isinstance(what, str | Path):
            source = str(what)
            refuse_unused([(name, kind_of(source, backend), said)])
            model, kind = opened(source, options, backend, name)
            refuse_unused([(name, kind, said)])
        else:
            source = ""
            if backend:
                raise LoadError("backend is for sources, and this is a model already")
            refuse_to_isolate(name, options)
            if isinstance(what, LoadedModel) and what.closed:
                raise LoadError(f"model {what.name!r} is closed; graphpipe.load() loads another")
            with loading(name):
                model, kind = adopting(what, name, options)
                refuse_unused([(name, kind, said)])
                if options.problem:
                    problem = options.problem if not isinstance(options.problem, str) else _read(options.problem)
                    model = problem.posed(model, name=name)
    except LoadError as error:
        raise LoadError(f"stage {name!r}: {error}") from error
    return Part(
        name, model, stage.inputs, stage.outputs, stage, source, backend, options, settings, names_returned(model, source),
        is_ours=isinstance(what, str | Path | type),
    )  # fmt: skip


def _read(path: str) -> Any:
    from graphpipe.problem import Problem  # few stages have one of their own

    return Problem.read(path)


def _said(stage: Stage, name: str) -> tuple[LoadOptions, dict[str, Said], dict[str, Any]]:
    """The options of loading, those of them that were said, and the settings of a server. Raises LoadError."""
    settings = {key: value for key, value in stage.options.items() if key in OF_SERVING}
    about_loading = {key: value for key, value in stage.options.items() if key not in OF_SERVING}
    for key in about_loading:
        if key not in _DECLARED:
            near = nearest(key, (*_DECLARED, *OF_SERVING))
            raise LoadError(f"stage {name!r}: there is no option {quoted(key)}{near}")
    try:
        values = read_keywords("Stage", _DECLARED, about_loading)
    except TypeError as error:
        raise LoadError(f"stage {name!r}: {error}") from None
    said = {key: Said(f"stage {name!r}", of_one=True) for key, value in values.items() if value != _DECLARED[key][1]}
    return LoadOptions(**values, arguments=_arguments(stage, name)), said, settings


def _arguments(stage: Stage, name: str) -> Arguments | None:
    try:
        return Arguments.of(stage.arguments, stage.files)
    except LoadError as error:
        raise LoadError(f"stage {name!r}: {error}") from None
