"""A problem: what a model is to take and give, whichever framework it is of, and tests of whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.errors import ProblemError, TestFailed
from graphpipe.problem import files, written
from graphpipe.problem.case import Case, Difference
from graphpipe.problem.posed import Answers, Posed
from graphpipe.problem.specs import encoded, specs_of
from graphpipe.problem.testing import differences, fitted_cases
from graphpipe.signature import Signature, TensorSpec

__all__ = ["Problem"]

_SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """What a model is to take and give: names, element types and shapes, and tests.

    A dimension is a number, None for any, or a symbol, which has one value throughout a request: in all its inputs and all
    its outputs. A dtype or a shape of None is left unsaid.

        Problem.of(
            [{"name": "picture", "dtype": "uint8", "shape": (480, 640, 3)}],
            [{"name": "corners", "dtype": "float32", "shape": ("found", 4)},
             {"name": "label", "dtype": "string", "shape": ("found",)}],
        )

    Raises ProblemError for a definition that makes no sense.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    name: str = ""
    description: str = ""
    tests: tuple[Case, ...] = ()

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("description", self.description)):
            if not isinstance(text, str):
                raise ProblemError(f"{what}: expected text; {came(text)}")
            encoded(what, text)
        object.__setattr__(self, "inputs", specs_of(self.inputs, "inputs"))
        object.__setattr__(self, "outputs", specs_of(self.outputs, "outputs"))
        if not self.outputs:
            raise ProblemError("outputs: a problem has at least one")
        if not isinstance(self.tests, list | tuple):
            raise ProblemError(f"tests: expected a list of cases; {came(self.tests)}")
        object.__setattr__(self, "tests", fitted_cases(self.tests, self.signature))

    @classmethod
    def of(
        cls,
        inputs: Sequence[Mapping[str, Any]] | Mapping[str, str | Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]] | Mapping[str, str | Mapping[str, Any]],
        *,
        name: str = "",
        description: str = "",
        tests: Iterable[Case | Mapping[str, Any]] = (),
    ) -> Problem:
        """The problem of two specs, each a list of ``{"name": ..., "dtype": ..., "shape": ...}`` or a table from names to
        ``"float32[n, 4]"``. A missing shape is any. ``tests`` are cases, or dicts of what a case has.

        Raises ProblemError.
        """
        if isinstance(tests, Mapping | str | Case) or not isinstance(tests, Iterable):
            raise ProblemError(f"tests: expected a list of cases; {came(tests)}")
        cases = [
            case if isinstance(case, Case) else written.case_of(case, f"tests[{i}]") for i, case in enumerate(tests)
        ]
        return cls(specs_of(inputs, "inputs"), specs_of(outputs, "outputs"), name, description, tuple(cases))

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Problem:
        """The problem that a file defines: TOML, JSON, or YAML where PyYAML is installed (docs/problems.md).

        Raises ProblemError, with the file and the place in it.
        """
        file = Path(path)
        try:
            return cls.from_dict(files.table_in(file), folder=file.parent)
        except ProblemError as error:
            raise ProblemError(f"{file}: {error}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], *, folder: str | PathLike[str] | None = None) -> Problem:
        """The problem that a table defines, as a file has it. Files that it names lie in ``folder``; without one it may name
        none. Raises ProblemError.
        """
        parts = written.parts_of(table, None if folder is None else Path(folder))
        return cls(**parts)

    def to_dict(self) -> dict[str, Any]:
        """The problem as a table of text, numbers, lists and tables, which ``from_dict`` reads back."""
        return written.table_of_problem(self.name, self.description, self.inputs, self.outputs, self.tests)

    def write(self, path: str | PathLike[str]) -> None:
        """Write the problem to a file, in the format that its name ends in: .toml, .json, .yaml. Large arrays of its tests
        go into an .npz beside it. Raises ProblemError.
        """
        files.write(Path(path), self.name, self.description, self.inputs, self.outputs, self.tests)

    @property
    def signature(self) -> Signature:
        """What a model of it takes and gives."""
        try:
            return Signature(self.inputs, self.outputs)
        except ValueError as error:  # a name occurs twice
            raise ProblemError(str(error)) from None

    def posed(self, model: Answers, name_map: Mapping[str, str] | None = None, name: str = "") -> Posed:
        """The model behind this problem's names and promises: its signature is the problem's, and an answer that is not what
        was promised is ModelFailed.

        ``name_map`` is from the problem's names to the model's, where they differ (``{"x": "some_namespace/in_x:0"}``).
        ``name`` is the model's, for errors. Raises LoadError, with all differences, where the model's own signature says
        that it cannot answer the problem.
        """
        return Posed(model, self.signature, name_map or {}, name, self.name, self.check)

    def run_tests(self, model: Answers) -> list[Difference]:
        """Run the tests, and give what is different; nothing if all is as expected.

        The model may be anything with the problem's names: one that is loaded or posed, a client.
        """
        return differences(self.tests, model, self.inputs, self.outputs)

    def check(self, model: Answers) -> None:
        """Run the tests. Raises TestFailed with what is different."""
        found = self.run_tests(model)
        if found:
            more = f"; and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
            called = f"problem {self.name!r}" if self.name else "the problem"
            raise TestFailed(f"{called}: {'; '.join(map(str, found[:_SHOWN_MAX]))}{more}")

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        rows = "".join(
            f"<tr><td>{way}</td><td>{escape(spec.name)}</td><td><code>{escape(spec.text)}</code></td>"
            f"<td>{escape(spec.description)}</td></tr>"
            for way, specs in (("in", self.inputs), ("out", self.outputs))
            for spec in specs
        )
        title = escape(": ".join(line for line in (self.name, self.description) if line))
        return f"<table><caption>{title}</caption>{rows}</table>"

    def __str__(self) -> str:
        title = [line for line in (self.name, self.description) if line]
        rows = [("in", spec) for spec in self.inputs] + [("out", spec) for spec in self.outputs]
        width, types = max(len(spec.name) for _, spec in rows), max(len(spec.text) for _, spec in rows)
        lines = [
            f"{way:<4}{spec.name:<{width}}  {spec.text:<{types}}  {spec.description}".rstrip() for way, spec in rows
        ]
        tests = [f"tests: {len(self.tests)}"] if self.tests else []
        return "\n".join([*title, *lines, *tests])
