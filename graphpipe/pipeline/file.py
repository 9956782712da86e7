"""``pipeline.toml``: stages and their names as a file says them.

    name = "topics"
    outputs = ["topic"]

    [[stages]]
    name = "tokenize"
    source = "tokenize.py:Tokenizer"
    isolate = 2

    [[stages]]
    name = "encoder"
    source = "encoder.onnx"
    inputs = { input_ids = "ids" }

    [[stages]]
    source = "words.py:Split"
    arguments = { lower = true }
    files = { vocabulary = "vocab.txt" }

What a stage may be told beside its source and its names are the options of loading, and those of a server about one model.
Paths are relative to the file.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError
from graphpipe.pipeline.stage import Stage, checked_name
from graphpipe.setting import declared_in
from graphpipe.words import first_line, listed, nearest, quoted

__all__ = ["DEPTH_MAX", "FILE", "Written", "as_text", "file_of", "read"]

FILE = "pipeline.toml"
_FILE_BYTES_MAX = 1 << 20
_STAGES_MAX = 256
# Of pipelines in one another.
DEPTH_MAX = 8
_KEYS = ("name", "inputs", "outputs", "stages")

_IN_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_IN_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
# Their values are paths; a virtual environment's interpreter may be one, or a name.
_PATHS = (*(name for name, (declared, _) in declared_in(LoadOptions).items() if declared.kind.is_path), "cache_dir")
_STAGES = re.compile(rb"^(?:\xef\xbb\xbf)?\s*(?:\[\[\s*stages\s*\]\]|stages\s*=)", re.MULTILINE)
_LISTS_OF_PATHS = ("custom_ops",)


@dataclass(frozen=True, slots=True)
class Written:
    """What a pipeline's file says."""

    name: str
    stages: tuple[Stage, ...]
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def file_of(source: str) -> Path | None:
    """The file of the pipeline that a source is: a TOML file with stages, or a folder with a pipeline.toml; None for any
    other source.
    """
    path = Path(source)
    # os.path has a no for what Path raises: a folder that is closed to this user, a name that is none.
    if os.path.isdir(source):
        path = path / FILE
        return path if os.path.isfile(path) else None
    if path.suffix.lower() != ".toml" or not os.path.isfile(source):
        return None
    try:
        return path if path.name == FILE or _STAGES.search(_bytes(path)) else None
    except (OSError, LoadError):
        return None


def read(path: Path) -> Written:
    """What a file says, with its paths as they are from here. Raises LoadError, with the file and the place in it."""
    try:
        import tomllib  # a model's own process may be of an older Python, which has none
    except ModuleNotFoundError:
        raise LoadError(
            f"{path}: a pipeline's file is read by Python 3.11 or newer; isolate its stages instead"
        ) from None
    try:
        table = tomllib.loads(_bytes(path).decode("utf-8-sig"))
        return _written(table, path)
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path}: not TOML: {first_line(error)}") from None
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from None


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise LoadError(f"a pipeline's file has at most {_FILE_BYTES_MAX:,} bytes")
    return content


def _written(table: Mapping[str, Any], path: Path) -> Written:
    _known(table, _KEYS, "the file")
    stages = table.get("stages")
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        raise LoadError(f"expected stages, each as [[stages]]; {came(stages)}")
    if len(stages) > _STAGES_MAX:
        raise LoadError(f"{len(stages)} stages; a pipeline has at most {_STAGES_MAX}")
    name = table.get("name", "")
    return Written(
        checked_name(name) if name else "",
        tuple([_stage(stage, f"stages[{i}]", path.parent) for i, stage in enumerate(stages)]),
        _names(table, "inputs"),
        _names(table, "outputs"),
    )


def _names(table: Mapping[str, Any], what: str) -> tuple[str, ...] | None:
    if what not in table:
        return None
    said = table[what]
    if not isinstance(said, list) or not said or not all(isinstance(name, str) and name for name in said):
        raise LoadError(f"{what}: expected a list of names; {came(said)}")
    return tuple(said)


def _stage(table: Mapping[str, Any], where: str, folder: Path) -> Stage:
    said = {key.replace("-", "_"): value for key, value in table.items()}
    source = said.pop("source", None)
    if not isinstance(source, str) or not source:
        raise LoadError(f'{where}: expected a source, source = "model.onnx"; {came(source)}')
    name, inputs, outputs = (said.pop(key, None) for key in ("name", "inputs", "outputs"))
    options = {key: _from(folder, key, value) for key, value in said.items()}
    try:
        return Stage(_source(source, folder), name or "", inputs, outputs, **options)
    except LoadError as error:
        raise LoadError(f"{where}: {error}") from None


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            near = nearest(key, keys)
            raise LoadError(f"{where} has a key {quoted(key)}{near or f'; it may have {listed(list(keys))}'}")


def _source(source: str, folder: Path) -> str:
    """A source that the file names, as it is from here."""
    if "://" in source or source == "echo" or source.startswith(("remote:", "unix:", "download:")):
        return source
    if source.startswith("placeholder:"):
        return f"placeholder:{folder / source.removeprefix('placeholder:')}"
    if match := _IN_FILE.fullmatch(source):
        return f"{folder / match[1]}:{match[2]}"
    if _IN_MODULE.fullmatch(source) and not (folder / source).exists():
        return source
    return str(folder / source)


def _from(folder: Path, key: str, value: Any) -> Any:
    if key in _LISTS_OF_PATHS:
        values = value.split(",") if isinstance(value, str) else value
        return [str(folder / each) if isinstance(each, str) else each for each in values]
    if key == "files" and isinstance(value, Mapping):
        return {name: str(folder / each) if isinstance(each, str) else each for name, each in value.items()}
    if (
        key in _PATHS
        and isinstance(value, str)
        and value
        and not value.startswith("~")
        and (key != "python" or "/" in value)
    ):
        return str(folder / value)
    return value


def as_text(name: str, stages: list[dict[str, Any]], inputs: Any, outputs: Any) -> str:
    """The file that says so."""
    lines = [f"name = {_toml(name)}"] if name else []
    lines += [f"{key} = {_toml(list(said))}" for key, said in (("inputs", inputs), ("outputs", outputs)) if said]
    for stage in stages:
        lines += [
            "",
            "[[stages]]",
            *(f"{_key(key)} = {_toml(value)}" for key, value in stage.items() if value is not None),
        ]
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # JSON's strings, numbers and booleans are TOML's too, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
