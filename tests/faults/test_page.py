"""docs/reliability.md has every fault that is tried here, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.faults.conftest import BEGIN, END, PAGE


def every_test() -> list[ast.FunctionDef]:
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    return [
        node
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def calls_fault(test: ast.FunctionDef) -> bool:
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "fault" for n in ast.walk(test)
    )


def documented() -> set[str]:
    _, begin, rest = PAGE.read_text().partition(BEGIN)
    table, end, _ = rest.partition(END)
    assert begin
    assert end
    return set(re.findall(r"\| `(test_\w+)` \|$", table, re.MULTILINE))


def test_every_fault_is_in_the_table_and_the_table_has_no_other() -> None:
    assert documented() == {test.name for test in every_test() if calls_fault(test)}


def test_whoever_asks_for_the_recorder_uses_it() -> None:
    for test in every_test():
        assert calls_fault(test) == ("fault" in {argument.arg for argument in test.args.args}), test.name


def test_a_name_in_the_table_is_that_of_one_test() -> None:
    names = [test.name for test in every_test()]
    assert len(names) == len(set(names))
