"""Pipelines: ``pipeline.toml``, or any TOML file with ``[[stages]]``, or a folder with the former (docs/pipelines.md).

Its stages are loaded with the options that the file says, and what is the machine's, its device say, with those of the
whole. What came from a URL may name any function of this machine and any file that was not fetched, so it is loaded only
where somebody said which file is meant, --model-sha256, or that its author is trusted, --trust-model.
"""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path

from graphpipe.backends.backend import Backend
from graphpipe.backends.find import default_name
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
    if depth > DEPTH_MAX:
        raise LoadError(f"{file}: pipelines within pipelines, more than {DEPTH_MAX} deep; is one a stage of itself?")
    before = _DEPTH.set(depth)
    try:
        return _flow(read(file), source, options)
    except LoadError as error:
        raise LoadError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error
    finally:
        _DEPTH.reset(before)


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
