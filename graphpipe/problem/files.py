"""A problem's file: TOML, JSON or YAML as one table, read within limits, and written."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import ProblemError
from graphpipe.json_objects import each_once
from graphpipe.problem.case import Case
from graphpipe.problem.written import table_of_problem
from graphpipe.signature import TensorSpec
from graphpipe.words import first_line, quoted

__all__ = ["table_in", "write"]

_FILE_BYTES_MAX = 16 << 20
# Arrays of more elements are no pleasure to read among words.
_INLINE_MAX = 256
_FORMATS = {".toml": "TOML", ".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}


def table_in(path: Path) -> Any:
    """What a file holds: a table, where it is a problem's. Raises ProblemError."""
    kind = _format(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_FILE_BYTES_MAX + 1)
        if len(content) > _FILE_BYTES_MAX:
            raise ProblemError(
                f"a problem's file has at most {_FILE_BYTES_MAX:,} bytes; larger arrays belong into an .npz file beside it"
            )
        text = content.decode("utf-8-sig")
        return _READERS[kind](text)
    except ProblemError:
        raise
    except OSError as error:
        raise ProblemError(str(error.strerror or error)) from None
    except UnicodeDecodeError as error:
        raise ProblemError(f"not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except ValueError as error:
        raise ProblemError(f"not {kind}: {first_line(error)}") from None
    except RecursionError:
        raise ProblemError(f"not {kind}: lists in lists, deeper than any array") from None


def write(
    path: Path,
    name: str,
    description: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    tests: Sequence[Case],
) -> None:
    """Write a problem; large arrays of its tests go into an .npz beside it. Raises ProblemError."""
    kind = _format(path)
    beside = path.with_suffix(".npz")
    large: dict[str, NDArray[Any]] = {}

    def elsewhere(array: NDArray[Any]) -> dict[str, Any] | None:
        if array.size <= _INLINE_MAX or array.dtype.hasobject:
            return None
        key = f"array_{len(large)}"
        large[key] = array
        return {"file": beside.name, "key": key}

    table = table_of_problem(name, description, inputs, outputs, tests, elsewhere)
    text = {"TOML": _as_toml, "JSON": _as_json, "YAML": _as_yaml}[kind](table)
    try:
        if large:
            with _whole(beside) as unfinished:
                content = io.BytesIO()  # numpy appends to names of files
                np.savez(content, **large)  # type: ignore[arg-type]
                unfinished.write_bytes(content.getbuffer())
        with _whole(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProblemError(f"{path}: {error.strerror}") from None


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes the file when all of it is there."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _format(path: Path) -> str:
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise ProblemError(f"a problem's file is called .toml, .json or .yaml; {quoted(path.name)} came")
    return found


def _toml(text: str) -> Any:
    import tomllib  # a model's own process may be of an older Python, which has none, and reads no problem

    return tomllib.loads(text)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=each_once)


def _yaml(text: str) -> Any:
    yaml = _pyyaml()

    class Once(yaml.SafeLoader):  # type: ignore[misc,name-defined]
        """Tables with each key once, and nothing by reference: a few lines of those stand for any amount."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(f"references (*) are not read{self.peek_event().start_mark}")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            made = super().construct_mapping(node, deep)
            if len(made) < len(node.value):
                raise yaml.YAMLError(f"a key is there twice in one table{node.start_mark}")
            return made

    try:
        return yaml.load(text, Once)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


_READERS: dict[str, Callable[[str], Any]] = {"TOML": _toml, "JSON": _json, "YAML": _yaml}


def _pyyaml() -> Any:
    try:
        import yaml  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise ProblemError("YAML needs PyYAML (pip install pyyaml); TOML and JSON need nothing") from None
    return yaml


# --- written ----------------------------------------------------------------------------------------------------------


def _as_json(table: Mapping[str, Any]) -> str:
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def _as_yaml(table: Mapping[str, Any]) -> str:
    # These are ends of lines in YAML: as they are, they would be read as spaces.
    has_other_ends = any(end in _as_json(table) for end in "\x85\u2028\u2029")
    text: str = _pyyaml().safe_dump(table, sort_keys=False, allow_unicode=not has_other_ends, width=120)
    return text


def _as_toml(table: Mapping[str, Any]) -> str:
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in table.items() if isinstance(value, str)]
    for key in ("inputs", "outputs"):
        lines += ["", f"[{key}]", *_pairs(table[key])]
    for case in table.get("tests", []):
        lines += ["", "[[tests]]", *_pairs({key: value for key, value in case.items() if not isinstance(value, dict)})]
        for what in ("inputs", "outputs"):
            lines += [f"[tests.{what}]", *_pairs(case[what])]
    return "\n".join(lines).lstrip("\n") + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_inline(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _inline(key)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    # JSON's strings, numbers and booleans are TOML's too, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
