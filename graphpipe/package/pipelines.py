"""A pipeline as files: its ``pipeline.toml`` with all that its stages are loaded from beside it, or where it is.

In a folder each stage has a folder of its own name, with its model as a package would hold it. What is not there (a server,
``echo``, a function of an installed module) is named as it is.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpipe.arguments import a_kind
from graphpipe.backends.construction import paths_apart, remembered, why_not_plain
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.calling import FunctionModel
from graphpipe.errors import LoadError, PackageError
from graphpipe.package.code import Code
from graphpipe.package.content import Content, put
from graphpipe.pipeline.file import DEPTH_MAX, FILE, as_text, file_of, read
from graphpipe.pipeline.flow import Flow
from graphpipe.pipeline.part import named_stages
from graphpipe.pipeline.stage import Stage
from graphpipe.problem import Problem
from graphpipe.setting import declared_in, read_keywords
from graphpipe.signature import TensorSpec
from graphpipe.words import quoted

__all__ = ["Plan", "plan_of", "put_pipeline", "save"]

_DECLARED = declared_in(LoadOptions)
_ELSEWHERE = re.compile(r"echo|(?:remote|unix):.*|https?://.*")
_FUNCTION = re.compile(r"(.+\.py):([\w.]+)")
_MODULE = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written: stages by their names, and what was said of the whole."""

    name: str
    stages: Mapping[str, Stage]
    inputs: Sequence[str] | None
    outputs: Sequence[str] | None


def plan_of(model: Any, platform: str = "") -> Plan | None:
    """The pipeline that a model is, or the file of one; None for any other model. Raises LoadError."""
    if isinstance(model, LoadedModel) and isinstance(model.model, Flow):
        model = model.model
    if isinstance(model, Flow):
        return Plan(model.name, {part.name: part.stage for part in model.parts}, *model.said)
    if isinstance(model, str | Path) and platform in ("", "pipeline") and (file := file_of(str(model))) is not None:
        written = read(file)
        return Plan(written.name, named_stages(written.stages), written.inputs, written.outputs)
    return None


def save(flow: Flow, path: str | Path, code: Iterable[str | Path] = ()) -> Path:
    """Write a pipeline: a file ``NAME.toml``, which names what its stages are where that is, or a new folder that has all of
    it. ``code`` are files and folders of Python that its functions are made of, for a folder. Gives where the file is.

    Raises PackageError for a stage that is nothing that could be written, LoadError.
    """
    target = Path(path)
    plan = plan_of(flow)
    assert plan is not None
    if target.suffix.lower() == ".toml":
        entries = [_entry_beside(name, stage, target.parent) for name, stage in plan.stages.items()]
        target.write_text(as_text(plan.name, entries, plan.inputs, plan.outputs), encoding="utf-8")
        return target
    if target.exists():
        raise PackageError(f"{target} is there already; choose another place")
    target.mkdir(parents=True)
    try:
        given = list(code)
        put_pipeline(plan, target, Code(target, given) if given else None)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target / FILE


def put_pipeline(plan: Plan, folder: Path, code: Code | None, depth: int = 1) -> Content:
    """Put a pipeline with all that it is made of into a folder. ``code``, where there is some, is where functions are."""
    if depth > DEPTH_MAX:
        raise PackageError(f"pipelines within pipelines, more than {DEPTH_MAX} deep; is one a stage of itself?")
    entries = [_entry_within(name, stage, folder, code, depth) for name, stage in plan.stages.items()]
    (folder / FILE).write_text(as_text(plan.name, entries, plan.inputs, plan.outputs), encoding="utf-8")
    return Content("pipeline", FILE, "")


def _entry(name: str, stage: Stage, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "source": source}
    for key in ("inputs", "outputs"):
        if said := getattr(stage, key):
            entry[key] = dict(said)
    return {**entry, **{key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}}


def _said(name: str, stage: Stage) -> tuple[Any, dict[str, Any]]:
    """What a stage is, and all that was said of it beside that: by itself, or as it was loaded. Raises PackageError."""
    what, options = stage.what, dict(stage.options)
    arguments, files = stage.arguments, stage.files
    if isinstance(what, LoadedModel) and not isinstance(what.model, Flow):
        known = what.options or LoadOptions()
        was = {key: getattr(known, key) for key in _DECLARED}
        options = {**{key: value for key, value in was.items() if value != _DECLARED[key][1]}, **options}
        if what.backend:
            options.setdefault("backend", what.backend)
        if known.arguments is not None:
            arguments, files = known.arguments.values, known.arguments.files
        what = what.source or what.model
    if isinstance(what, FunctionModel):
        what = what.function
    what = getattr(what, "__graphpipe_what__", what)
    if not isinstance(what, str | Path | type) and (made := remembered(what)) is not None:
        arguments, files = paths_apart(made)
        what = type(what)
    for argument, value in arguments.items():
        if why := why_not_plain(value):
            raise PackageError(f"stage {name!r}: its argument {quoted(argument)} cannot be written down: {why}")
    if arguments:
        options["arguments"] = dict(arguments)
    if files:
        options["files"] = dict(files)
    return what, options


def _entry_beside(name: str, stage: Stage, folder: Path) -> dict[str, Any]:
    what, options = _said(name, stage)
    if isinstance(what, LoadedModel | Flow) or not isinstance(what, str | Path):
        what = _where(name, what)
    source = _relative(str(what), folder)
    for key, value in options.items():
        if isinstance(value, Problem):
            raise PackageError(f"stage {name!r}: its problem is in this program alone; save the pipeline to a folder")
        if key in _DECLARED and _DECLARED[key][0].kind.is_path and value and (key != "python" or "/" in str(value)):
            options[key] = _relative(os.fspath(value), folder)
        if key == "custom_ops":
            options[key] = [_relative(os.fspath(each), folder) for each in value]
        if key == "files":
            options[key] = {argument: os.path.relpath(path, folder) for argument, path in value.items()}
    return _entry(name, stage, source, options)


def _where(name: str, thing: Any) -> str:
    """The source by which another process finds a function or a class. Raises PackageError."""
    called = getattr(thing, "__qualname__", "") if not inspect.ismethod(thing) else ""
    try:
        file = inspect.getsourcefile(thing) if called.replace(".", "").isidentifier() else None
    except TypeError:
        file = None
    if not file or not os.path.isfile(file):
        raise PackageError(
            f"stage {name!r} is {a_kind(thing)} of this program alone; save the pipeline to a folder, or put what makes it "
            f"into a file: FILE.py:NAME{_hint(thing)}"
        )
    module = getattr(sys.modules.get(thing.__module__), "__name__", "")
    if "site-packages" in Path(file).parts and module:
        return f"{module}:{called}"
    return f"{file}:{called}"


def _hint(thing: Any) -> str:
    is_object = not isinstance(thing, str | Path) and not hasattr(thing, "__qualname__") and callable(thing)
    if not is_object or isinstance(thing, LoadedModel) or remembered(thing) is not None:
        return ""
    if hasattr(thing, "state_dict"):
        return "; a module is exported into a folder where it is known what it takes: Stage(module, problem=...)"
    return f"; decorate its class, {type(thing).__name__}, with @graphpipe.stage: it remembers what each was made with"


def _relative(source: str, folder: Path) -> str:
    if _ELSEWHERE.fullmatch(source):
        return source
    prefix = "placeholder:" if source.startswith("placeholder:") else ""
    source = source.removeprefix(prefix)
    match = _FUNCTION.fullmatch(source)
    path = match[1] if match else source
    if not match and _MODULE.fullmatch(source) and not os.path.exists(source):
        return source
    found = os.path.relpath(path, folder)
    return f"{prefix}{found}:{match[2]}" if match else f"{prefix}{found}"


def _entry_within(name: str, stage: Stage, folder: Path, code: Code | None, depth: int) -> dict[str, Any]:
    what, options = _said(name, stage)
    own = folder / name
    try:
        source = _put(name, what, options, folder, code, depth)
    except LoadError as error:
        raise PackageError(f"stage {name!r}: {error}{_hint(what)}") from None
    for key in ("problem", "value_inputs", "custom_ops"):
        if value := options.get(key):
            own.mkdir(exist_ok=True)
            options[key] = _put_files(key, value, own, name)
    if files := options.get("files"):
        options["files"] = {argument: _put_argument(argument, path, own, name) for argument, path in files.items()}
    return _entry(name, stage, source, options)


def _put(name: str, what: Any, options: Mapping[str, Any], folder: Path, code: Code | None, depth: int) -> str:
    if isinstance(what, str) and (_ELSEWHERE.fullmatch(what) and not _is_fetched(what)):
        return what
    own = folder / name
    own.mkdir()
    if isinstance(what, str) and what.startswith("placeholder:"):
        shutil.copyfile(what.removeprefix("placeholder:"), own / "problem.toml")
        return f"placeholder:{name}/problem.toml"
    plan = plan_of(what, str(options.get("backend", "")))
    if plan is not None:
        return f"{name}/{put_pipeline(plan, own, code, depth + 1).source}"
    held = code or Code(own, ())
    about_loading = {key: value for key, value in options.items() if key in _DECLARED}
    told = LoadOptions(**read_keywords("save", _DECLARED, about_loading))
    content = put(
        what, own, held, _problem(what, options.get("problem")), {}, str(options.get("backend", "")), told, ""
    )
    if code is not None and (match := _FUNCTION.fullmatch(content.source)):
        if not any(own.iterdir()):
            own.rmdir()
        return f"{os.path.relpath(code.folder / match[1], folder)}:{match[2]}"
    return f"{name}/{content.source}"


def _is_fetched(source: str) -> bool:
    from graphpipe.sources.web import is_model_url

    return is_model_url(source)


def _problem(what: Any, said: Any) -> Problem:
    """What is known of a model that has to be exported: what is said of the stage, or what it says itself."""
    if isinstance(said, Problem):
        return said
    signature = getattr(what, "signature", None)
    outputs = getattr(signature, "outputs", ()) or (TensorSpec("output_0"),)
    return Problem(tuple(getattr(signature, "inputs", ())), tuple(outputs))


def _put_argument(argument: str, path: str, own: Path, name: str) -> str:
    """A file or a folder that a class is made with, in a folder of the argument's name: it keeps its own."""
    source = Path(path)
    if not source.exists():
        raise PackageError(f"stage {name!r}: files: {quoted(argument)}: there is no file {path}")
    target = own / "files" / argument / source.resolve().name
    target.parent.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return f"{name}/files/{argument}/{target.name}"


def _put_files(key: str, value: Any, own: Path, name: str) -> Any:
    if isinstance(value, Problem):
        value.write(own / "problem.json")
        return f"{name}/problem.json"
    if key == "problem":
        # It may name files of its own.
        Problem.read(value).write(own / "problem.json")
        return f"{name}/problem.json"
    files = [value] if isinstance(value, str | Path) else list(value)
    for file in files:
        shutil.copyfile(file, own / Path(file).name)
    placed = [f"{name}/{Path(file).name}" for file in files]
    return placed[0] if key == "value_inputs" else placed
