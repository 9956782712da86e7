"""What two packages have different: what they promise, what is in them, and what they answer to each other's tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphpipe.package.contents import Package
from graphpipe.package.manifest import Manifest
from graphpipe.package.recorded import problem_of
from graphpipe.problem import Case
from graphpipe.problem.posed import Answers
from graphpipe.signature import TensorSpec
from graphpipe.words import first_line, quoted

__all__ = ["differences_in_answers", "differences_in_contents"]


def differences_in_contents(one: Package, other: Package) -> list[str]:
    """Each difference between two packages, in words; what is equal is not named."""
    a, b = one.manifest, other.manifest
    found = [
        *_of_specs("input", a.problem.inputs, b.problem.inputs),
        *_of_specs("output", a.problem.outputs, b.problem.outputs),
    ]
    for what in ("name", "description"):
        found += _of_values(f"problem's {what}", getattr(a.problem, what), getattr(b.problem, what))
    for what, of in _PARTS.items():
        found += _of_values(what, of(a), of(b))
    found += _of_tables("name_map", a.name_map, b.name_map)
    found += _of_tables("option", a.options, b.options)
    found += _of_files(a, b)
    return found


_PARTS: Mapping[str, Any] = {
    "platform": lambda manifest: manifest.platform,
    "source": lambda manifest: manifest.source,
    "framework": lambda manifest: f"{manifest.framework} {manifest.framework_version}".strip(),
    "framework's range": lambda manifest: manifest.framework_range,
    "Python": lambda manifest: manifest.python,
    "requirements": lambda manifest: ", ".join(manifest.requirements),
    "number of tests": lambda manifest: len(manifest.tests),
}


def differences_in_answers(one: Package, other: Package, a: Answers, b: Answers) -> list[str] | None:
    """What the second model answers otherwise than the first, to the tests of both, by these tests' tolerances.

    None where there is nothing that both could be asked: there are no tests, or their problems have other inputs.
    """
    first, second = (problem_of(each.manifest, each.folder) for each in (one, other))
    cases: dict[str, Case] = {}
    for name, problem in (("first", first), ("second", second)):
        for place, case in enumerate(problem.tests, 1):
            cases[f"{name} package's {quoted(case.name) if case.name else place}"] = case
    names = [spec.name for spec in first.outputs if spec.name in {each.name for each in second.outputs}]
    if not cases or not names or {s.name for s in first.inputs} != {s.name for s in second.inputs}:
        return None
    found: list[str] = []
    for called, case in cases.items():
        try:
            answer = a.infer({name: array.copy() for name, array in case.inputs.items()}, names)
            asked = replace(case, outputs={name: answer[name] for name in names}, name=called)
            found += map(str, replace(second, tests=(asked,)).run_tests(b))
        except Exception as error:
            # The one does not take what the other does, or what it gives is none of the other's outputs.
            found.append(f"test {called}: cannot be compared: {first_line(error)}")
    return found


def _of_specs(what: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> Iterator[str]:
    a, b = ({spec.name: spec.text for spec in specs} for specs in (ours, theirs))
    yield from _of_tables(what, a, b)
    if a == b and list(a) != list(b):
        yield f"order of {what}s: {', '.join(a)} and {', '.join(b)}"


def _of_tables(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*ours, *theirs)):
        yield from _of_values(f"{what} {quoted(name)}", ours.get(name, ""), theirs.get(name, ""))


def _of_values(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield f"{what}: {_shown(ours)} and {_shown(theirs)}"


def _of_files(ours: Manifest, theirs: Manifest) -> Iterator[str]:
    for name in sorted({*ours.files, *theirs.files}):
        a, b = ours.files.get(name), theirs.files.get(name)
        if a == b:
            continue
        if a is None or b is None:
            yield f"file {quoted(name)}: only in the {'second' if a is None else 'first'}"
        elif a.size != b.size:
            yield f"file {quoted(name)}: {a.size:,} and {b.size:,} bytes"
        else:
            yield f"file {quoted(name)}: {a.size:,} bytes in both, and other ones"


def _shown(value: Any) -> str:
    if value in ("", [], ()):
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
