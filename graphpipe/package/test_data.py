"""The tests that a package is given beside those of its problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.errors import PackageError
from graphpipe.problem import Case, Problem
from graphpipe.problem.arrays import Room, all_in
from graphpipe.problem.written import case_of

__all__ = ["Tests", "with_tests"]

Tests = Mapping[str, Any] | Case | str | PathLike[str]


def with_tests(problem: Problem, test_data: Tests | Iterable[Tests] | None) -> Problem:
    """The problem with more tests: a case, a table with inputs and outputs, the path of an .npz with arrays by the names of
    both, or several of these. Raises PackageError or ProblemError.
    """
    if test_data is None:
        return problem
    if not isinstance(test_data, Mapping | Case | str | PathLike) and not isinstance(test_data, Iterable):
        raise PackageError(
            f"test_data: expected {{'inputs': ..., 'outputs': ...}}, or a list of these; {came(test_data)}"
        )
    tests = [test_data] if isinstance(test_data, Mapping | Case | str | PathLike) else list(test_data)
    room = Room()
    more = [_case(each, f"test_data[{i}]", problem, room) for i, each in enumerate(tests)]
    return replace(problem, tests=(*problem.tests, *more)) if more else problem


def _case(given: Tests, where: str, problem: Problem, room: Room) -> Case:
    if isinstance(given, Case):
        return given
    inputs, outputs = ({spec.name for spec in specs} for specs in (problem.inputs, problem.outputs))
    if isinstance(given, Mapping):
        if given and all(name in inputs | outputs for name in given) and not {"inputs", "outputs"} & given.keys():
            raise PackageError(f"{where}: values by name came; a test is {{'inputs': {{...}}, 'outputs': {{...}}}}")
        return case_of(given, where, room=room)
    if not isinstance(given, str | PathLike):
        raise PackageError(f"{where}: expected {{'inputs': ..., 'outputs': ...}} or an .npz file; {came(given)}")
    path = Path(given)
    where = f"{where}, {path}"
    arrays = dict(all_in(path.name, where, path.parent, room))
    if both := sorted(inputs & outputs & arrays.keys()):
        raise PackageError(
            f"{where}: {both[0]!r} is an input and an output of the problem; write the test into its file"
        )
    return Case(
        {name: array for name, array in arrays.items() if name not in outputs},
        {name: array for name, array in arrays.items() if name in outputs},
    )
