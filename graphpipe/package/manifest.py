"""The manifest of a package: ``graphpipe.json``, which says all that there is to know of the files beside it.

It is JSON with a number for its form (``schema``): this file reads number 1, and refuses a later one in words. Nothing in
it depends on when or where a package was made, so equal contents have equal manifests, and the sha256 of a manifest
stands for the whole package.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphpipe.errors import GraphPipeError, PackageError
from graphpipe.json_objects import each_once
from graphpipe.package.names import MANIFEST, is_beneath, why_no_name, why_not_together
from graphpipe.problem import Problem
from graphpipe.venvs.requirement import Requirement
from graphpipe.words import first_line, listed, nearest, quoted, visible

__all__ = ["MANIFEST_BYTES_MAX", "OPTIONS", "SCHEMA", "File", "Manifest", "Recorded"]

SCHEMA = 1
MANIFEST_BYTES_MAX = 16 << 20
_FILES_MAX = 50_000
_TESTS_MAX = 10_000
_NAMES_MAX = 4096
_TEXT_MAX = 10_000
# Options that are the model's, and the form that each has in JSON. What is the machine's (where it runs, how many
# threads), and what is its owner's (whom he trusts), is said when a package is loaded.
OPTIONS: dict[str, type] = {
    "inputs": list, "outputs": list, "signature": str, "tags": list, "value_inputs": str, "pad": list, "custom_ops": list,
    "bfloat16": bool, "channels_last": bool,
}  # fmt: skip
# Those that name files of the package.
_OF_FILES = ("value_inputs", "custom_ops")

_FUNCTION = re.compile(r"(.+\.py):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLATFORM = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class File:
    """One file: its size and its digest."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One test: the request, and the answer where one is known, as messages of the wire, by the files that have them."""

    request: str
    response: str = ""
    rtol: float = 1e-5
    atol: float = 1e-6
    name: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package is.

    ``platform`` is the backend that loads ``source``: a file or a folder of the package, or ``code/FILE.py:NAME``.
    ``name_map`` has the model's names by the problem's. ``framework`` is the distribution that the model needs, with the
    version it was tried with and those it may run with.
    """

    problem: Problem
    platform: str
    source: str
    files: Mapping[str, File]
    tests: tuple[Recorded, ...] = ()
    name_map: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    framework: str = ""
    framework_version: str = ""
    framework_range: str = ""
    python: str = ""
    requirements: tuple[str, ...] = ()
    created_by: str = ""

    @property
    def runs_code(self) -> bool:
        """Whether to load it is to run what its author wrote: Python, or libraries of operators."""
        return bool(_FUNCTION.fullmatch(self.source) or self.options.get("custom_ops")) or any(
            name.startswith("code/") for name in self.files
        )

    @property
    def needs(self) -> Requirement | None:
        """The framework in the versions that will do; None where any will. Raises ValueError for what is no range."""
        return Requirement.of(f"{self.framework} {self.framework_range}") if self.framework_range else None

    @property
    def digest(self) -> str:
        """sha256 over the manifest, and so over the whole package: equal digests, equal answers."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file's content."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "problem": replace(self.problem, tests=()).to_dict(),
            "model": {"platform": self.platform, "source": self.source},
            "framework": {
                "name": self.framework, "version": self.framework_version, "range": self.framework_range
            },
            "python": {"version": self.python, "requirements": list(self.requirements)},
            "tests": [
                {"name": each.name, "request": each.request, "response": each.response, "rtol": each.rtol,
                 "atol": each.atol}
                for each in self.tests
            ],
            "files": {
                name: {"bytes": self.files[name].size, "sha256": self.files[name].sha256} for name in sorted(self.files)
            },
            "created_by": self.created_by,
        }  # fmt: skip
        content["model"] |= {"name_map": dict(self.name_map), "options": dict(self.options)}
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, content: bytes, place: str) -> Manifest:
        """What the file says. Raises PackageError, which names ``place``, for one that is no manifest, is of a later form,
        or contradicts itself.
        """
        where = f"{place}/{MANIFEST}"
        if len(content) > MANIFEST_BYTES_MAX:
            raise PackageError(f"{where} has {len(content)} bytes; at most {MANIFEST_BYTES_MAX} are read")
        try:
            said = json.loads(content.decode("utf-8"), object_pairs_hook=each_once, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise PackageError(f"{where} is no JSON that can be read: {visible(first_line(error))}") from None
        try:
            return _manifest(said)
        except _Wrong as error:
            raise PackageError(f"{where}: {visible(str(error))}") from None


class _Wrong(Exception):
    """What is wrong with a manifest, in words."""


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _manifest(said: Any) -> Manifest:
    if not isinstance(said, dict) or not isinstance(schema := said.get("schema"), int) or isinstance(schema, bool):
        raise _Wrong("is no manifest of a package: it has no number named schema")
    if schema != SCHEMA:
        hint = "pip install -U graphpipe-rpc" if schema > SCHEMA else "create the package again"
        raise _Wrong(f"is of schema {schema}, and this graphpipe reads schema {SCHEMA}: {hint}")
    top = _Table(said, "", ("schema", "problem", "model", "framework", "python", "tests", "files", "created_by"))
    model = top.table("model", ("platform", "source", "name_map", "options"))
    framework = top.table("framework", ("name", "version", "range"))
    python = top.table("python", ("version", "requirements"))
    files = _files(top.table("files", None))
    source = model.text("source")
    _check_source(source, files)
    platform = model.text("platform")
    if not _PLATFORM.fullmatch(platform):
        raise _Wrong(f"model.platform is the name of a backend; {quoted(platform)} came")
    name_map = model.table("name_map", None)
    manifest = Manifest(
        problem=_problem(top.get("problem", dict)),
        platform=platform,
        source=source,
        files=files,
        tests=tuple(_tests(top.get("tests", list), files)),
        name_map={name: name_map.text(name) for name in name_map.said},
        options=_options(model.table("options", OPTIONS), files),
        framework=framework.text("name"),
        framework_version=framework.text("version"),
        framework_range=framework.text("range"),
        python=python.text("version"),
        requirements=tuple(python.texts("requirements")),
        created_by=top.text("created_by"),
    )
    try:
        _ = manifest.needs
    except ValueError as error:
        raise _Wrong(f"framework.range: {error}") from None
    return manifest


class _Table:
    """An object of the JSON, and where it is; ``known`` are the names that it may have (None: any)."""

    def __init__(self, said: dict[str, Any], place: str, known: Sequence[str] | Mapping[str, Any] | None) -> None:
        self.said, self._place = said, place
        unknown = [] if known is None else [name for name in said if name not in known]
        if unknown:
            hint = nearest(unknown[0], tuple(known or ())) or f"; there are {listed(tuple(known or ()))}"
            raise _Wrong(f"{self._name(unknown[0])} is not known{hint}")

    def get(self, name: str, kind: type) -> Any:
        if name not in self.said:
            raise _Wrong(f"{self._name(name)} is missing")
        value = self.said[name]
        if type(value) is not kind:
            raise _Wrong(f"{self._name(name)} is {_CALLED[kind]}; {_called(value)} came")
        return value

    def table(self, name: str, known: Sequence[str] | Mapping[str, Any] | None) -> _Table:
        found = _Table(self.get(name, dict), self._name(name), known)
        if known is None and name != "files" and len(found.said) > _NAMES_MAX:
            raise _Wrong(f"{self._name(name)} has more than {_NAMES_MAX} names")
        return found

    def text(self, name: str) -> str:
        return _plain(self.get(name, str), self._name(name))

    def texts(self, name: str) -> list[str]:
        found = self.get(name, list)
        if len(found) > _NAMES_MAX:
            raise _Wrong(f"{self._name(name)} has more than {_NAMES_MAX} entries")
        for each in found:
            if type(each) is not str:
                raise _Wrong(f"{self._name(name)} is a list of texts; {_called(each)} came as one")
            _plain(each, self._name(name))
        return list(found)

    def whole(self, name: str) -> int:
        value: int = self.get(name, int)
        if not 0 <= value < 1 << 62:
            raise _Wrong(f"{self._name(name)} is {value}")
        return value

    def number(self, name: str) -> float:
        value: Any = self.said.get(name)
        if type(value) not in (int, float) or not 0 <= value < 1e300:
            raise _Wrong(f"{self._name(name)} is a number, 0 or more; {_called(value)} came")
        return float(value)

    def _name(self, name: str) -> str:
        shown = name if name.isidentifier() else quoted(name)
        return f"{self._place}.{shown}" if self._place else shown


def _plain(text: str, what: str) -> str:
    if len(text) > _TEXT_MAX:
        raise _Wrong(f"{what} has more than {_TEXT_MAX} letters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Wrong(f"{what} has no form in UTF-8") from None
    if "\0" in text:
        raise _Wrong(f"{what} has a NUL in it")
    return text


_CALLED = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def _called(value: object) -> str:
    return _CALLED.get(type(value)) or ("null" if value is None else "a number")


def _files(said: _Table) -> dict[str, File]:
    if len(said.said) > _FILES_MAX:
        raise _Wrong(f"files has more than {_FILES_MAX} names")
    files = {}
    for name in said.said:
        if why := why_no_name(name):
            raise _Wrong(f"files: {why}")
        entry = said.table(name, ("bytes", "sha256"))
        if not _SHA256.fullmatch(entry.text("sha256")):
            raise _Wrong(f"files: the sha256 of {quoted(name)} is 64 digits of 0-9 and a-f")
        files[name] = File(entry.whole("bytes"), entry.text("sha256"))
    if why := why_not_together(files):
        raise _Wrong(f"files: {why}")
    return files


def _check_source(source: str, files: Mapping[str, File]) -> None:
    match = _FUNCTION.fullmatch(source)
    if match is None and not is_beneath(source, files):
        raise _Wrong(f"model.source {quoted(source)} is none of its files")
    if match is not None and match[1] not in files:
        raise _Wrong(f"model.source names {quoted(match[1])}, which is none of its files")


def _options(said: _Table, files: Mapping[str, File]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in said.said:
        kind = OPTIONS[name]
        value: Any = said.texts(name) if kind is list else said.text(name) if kind is str else said.get(name, kind)
        for place in value if kind is list else [value]:
            if name in _OF_FILES and place not in files:
                raise _Wrong(f"model.options.{name} names {quoted(place)}, which is none of its files")
        options[name] = value
    return options


def _tests(said: list[Any], files: Mapping[str, File]) -> list[Recorded]:
    if len(said) > _TESTS_MAX:
        raise _Wrong(f"tests has more than {_TESTS_MAX} entries")
    tests = []
    for number, each in enumerate(said):
        if type(each) is not dict:
            raise _Wrong(f"tests has an object for each; {_called(each)} came as number {number}")
        one = _Table(each, f"tests[{number}]", ("name", "request", "response", "rtol", "atol"))
        request, response = one.text("request"), one.text("response")
        for place in (request, *([response] if response else [])):
            if place not in files:
                raise _Wrong(f"tests[{number}] names {quoted(place)}, which is none of its files")
        tests.append(Recorded(request, response, one.number("rtol"), one.number("atol"), one.text("name")))
    return tests


def _problem(said: dict[str, Any]) -> Problem:
    if "tests" in said:
        raise _Wrong("problem has tests of its own; those of a package are recorded beside it")
    try:
        return Problem.from_dict(said)
    except (GraphPipeError, ValueError, TypeError, RecursionError) as error:
        raise _Wrong(f"problem: {first_line(error)}") from None
