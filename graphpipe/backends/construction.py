"""What a class is made with: its constructor's arguments, and files, which it gets as paths.

Arguments go where text goes, into a pipeline's file and to another process, so they are numbers, texts, lists and tables
of them; a ``pathlib.Path`` is a file. They are held against the constructor before it is called.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpipe.arguments import a_kind, came
from graphpipe.errors import LoadError
from graphpipe.sources.digest import digest_of
from graphpipe.words import listed, nearest, quoted

__all__ = ["Arguments", "checked", "paths_apart", "remember", "remembered", "why_not_plain"]

_DEPTH_MAX = 64
# In an instance's own attributes; no name that a class would choose.
_MADE_WITH = "__graphpipe_made_with__"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a constructor by name: values, and files by their paths. ``contents`` are the files' digests."""

    values: Mapping[str, Any]
    files: Mapping[str, str]
    contents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Any, files: Any = None) -> Arguments | None:
        """The arguments that somebody said; None where nobody did. Raises LoadError, also for a file that is not there."""
        plain, paths = paths_apart(values, files)
        if not plain and not paths:
            return None
        return cls(plain, paths, {name: _content(name, path) for name, path in paths.items()})

    @property
    def digest(self) -> str:
        """What tells them apart from others: by their values, and by what is in the files."""
        said = json.dumps([self.values, self.contents], sort_keys=True, default=repr)
        return hashlib.sha256(said.encode()).hexdigest()

    def keywords(self) -> dict[str, Any]:
        """As the constructor takes them."""
        return {**self.values, **{name: Path(path) for name, path in self.files.items()}}

    def refuse_to_travel(self, what: str) -> None:
        """Raise LoadError for what no other process could be told."""
        for name, value in self.values.items():
            if why := why_not_plain(value):
                raise LoadError(f"{what}: argument {quoted(name)} cannot be told to another process: {why}")


def paths_apart(values: Any, files: Any = None) -> tuple[dict[str, Any], dict[str, str]]:
    """The values among the arguments, and the files by their paths, whichever way they were said. Raises LoadError."""
    plain: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for what, said in (("arguments", values), ("files", files)):
        if said is None:
            continue
        if not isinstance(said, Mapping) or not all(isinstance(name, str) and name for name in said):
            raise LoadError(f"{what} are a table from a constructor's parameters to what they get; {came(said)}")
        for name, value in said.items():
            if name in plain or name in paths:
                raise LoadError(f"{quoted(name)} is among the arguments, and among the files; say it once")
            if what == "files" and not isinstance(value, str | os.PathLike):
                raise LoadError(f"files: {quoted(name)}: expected a path; {came(value)}")
            if what == "files" or isinstance(value, Path):
                paths[name] = os.fspath(value)
            else:
                plain[name] = value
    return plain, paths


def why_not_plain(value: Any, depth: int = 0) -> str:
    """Why neither TOML nor another process could be told a value, and how to mend it; empty if they can be."""
    if isinstance(value, bool | int | float | str):
        return ""
    if depth > _DEPTH_MAX:
        return "it is too deep"
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                return f"it is a table with a key that is {a_kind(key)}, and keys are text; the constructor can convert them"
        return next((why for each in value.values() if (why := why_not_plain(each, depth + 1))), "")
    if isinstance(value, list | tuple):
        return next((why for each in value if (why := why_not_plain(each, depth + 1))), "")
    if isinstance(value, Path):
        return "a path within a list or a table is not found again elsewhere; give each file as an argument of its own"
    if value is None:
        return "it is None, for which a file has no word; leave it out, and let it be the parameter's default"
    return (
        f"it is {a_kind(value)}, and only numbers, texts, lists and tables are; write it to a file, and give the class the "
        "file's path"
    )


def checked(kind: type, arguments: Arguments | None, what: str) -> dict[str, Any]:
    """The keywords to make one of a class with. Raises LoadError for what is missing, and for what it has no place for."""
    keywords = arguments.keywords() if arguments is not None else {}
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):  # some builtins say nothing
        return keywords
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in keywords:
            if name not in named:
                takes = f"; it takes {listed(named)}" if named else "; it takes none"
                raise LoadError(
                    f"{what}: the class {kind.__name__} has no argument {quoted(name)}{nearest(name, named) or takes}"
                )
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if missing := [name for name in required if name not in keywords]:
        raise LoadError(
            f"{what}: the class {kind.__name__} is made with {listed(missing)}, which nobody gave: "
            f"arguments={{{missing[0]!r}: ...}}"
        )
    return keywords


def remember(made: Any, values: Mapping[str, Any]) -> None:
    """Have an instance know what it was made with. Raises TypeError for one that can hold no attribute."""
    try:
        object.__setattr__(made, _MADE_WITH, {name: _as_it_is(value) for name, value in values.items()})
    except AttributeError:
        raise TypeError(
            f"{type(made).__name__} has __slots__ and no place for what it is made with; leave them out, or add '__dict__'"
        ) from None


def remembered(made: Any) -> dict[str, Any] | None:
    """What an instance was made with; None where nobody knows."""
    found = getattr(made, "__dict__", {}).get(_MADE_WITH)
    if (
        found is None
        and hasattr(type(made).__call__, "__graphpipe_called__")
        and type(made).__init__ is object.__init__
    ):
        return {}  # a stage's class without a constructor
    return dict(found) if found is not None else None


def _as_it_is(value: Any, depth: int = 0) -> Any:
    """A value as it is now: whoever has its lists and tables may change them."""
    if depth > _DEPTH_MAX:
        return value
    if type(value) is dict:
        return {key: _as_it_is(each, depth + 1) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_as_it_is(each, depth + 1) for each in value])
    return value


def _content(name: str, path: str) -> str:
    if os.path.exists(path):
        return digest_of(Path(path))
    raise LoadError(f"files: {quoted(name)}: there is no file {path}")
