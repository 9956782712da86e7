"""Pipelines: ``pipeline.toml``, or any TOML file with ``[[stages]]``, or a folder with the former (docs/pipelines.md).

Its stages are loaded with the options that the file says, and what is the machine's, its device say, with those of the
whole. What came from a URL may name any function of this machine and any file that was not fetched, so it is loaded only
where somebody said which file is meant, --model-sha256, or that its author is trusted, --trust-model.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from pathlib import Path

from graphpipe.backends.backend import Backend
from graphpipe.backends.find import default_name, kind_of
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError
from graphpipe.pipeline.file import DEPTH_MAX, Written, file_of, read
from graphpipe.pipeline.flow import Flow
from graphpipe.pipeline.part import parts_of

__all__ = ["BACKEND"]

_DEPTH: ContextVar[int] = ContextVar("depth", default=0)
_USED = ("inputs", "outputs", "device", "providers", "intra_threads", "trust_model")


def _open(source: str, options: LoadOptions) -> Model:
    file = file_of(source)
    if file is None:
        raise LoadError(f"{source}: expected a TOML file with [[stages]], or a folder with a pipeline.toml")
    depth = _DEPTH.get() + 1
    if depth == 1:
        # Before anything is loaded: in processes of their own stages would know nothing of those above, and go on for ever.
        _refuse_circles(file, (), set())
    if depth > DEPTH_MAX:
        raise LoadError(f"{file}: pipelines within pipelines, more than {DEPTH_MAX} deep; is one a stage of itself?")
    before = _DEPTH.set(depth)
    try:
        return _flow(read(file), source, options)
    except LoadError as error:
        raise LoadError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error
    finally:
        _DEPTH.reset(before)


def _refuse_circles(file: Path, above: tuple[Path, ...], known: set[Path]) -> None:
    """Raise LoadError where a pipeline is a stage of itself, by way of others or not."""
    place = file.resolve()
    if place in above:
        way = " -> ".join(map(str, (*above[above.index(place) :], place)))
        raise LoadError(f"{above[0]}: a pipeline is a stage of itself: {way}")
    if place in known:
        return
    known.add(place)
    try:
        stages = read(file).stages
    except LoadError:  # whoever loads it says so, with the stage's name
        return
    for stage in stages:
        for inner in _files(str(stage.what)):
            _refuse_circles(inner, (*above, place), known)


def _files(source: str) -> list[Path]:
    """The files of the pipeline that a source is, or may be: a folder's one model has any name."""
    file = file_of(source)
    if file is not None or not os.path.isdir(source):
        return [file] if file is not None else []
    try:
        kind = kind_of(source)
    except LoadError:
        return []
    inside = sorted(Path(source).glob("*.toml")) if kind is not None and kind.backend == BACKEND.name else []
    return [each for each in inside if file_of(str(each)) is not None]


def _flow(written: Written, source: str, options: LoadOptions) -> Flow:
    parts = parts_of(written.stages, options)
    try:
        return Flow(
            parts,
            written.name or default_name(source),
            options.inputs or written.inputs,
            options.outputs or written.outputs,
        )
    except BaseException:
        for part in parts:
            part.model.close()
        raise


def _fetched(source: str, options: LoadOptions) -> None:
    """Raise LoadError where a pipeline came from a URL, and nobody said that it may do what it likes."""
    if not (options.trust_model or options.model_sha256):
        raise LoadError(
            f"{Path(source).name}: this pipeline came from a URL, and can name any function and file of this machine; say "
            "which one you mean, --model-sha256 HEX, or that whoever made it is trusted, --trust-model"
        )


BACKEND = Backend(
    "pipeline", lambda source: file_of(source) is not None, _open, uses=lambda source: _USED, fetched=_fetched
)
