"""The problem that somebody means, in whichever way he has it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.errors import ProblemError
from graphpipe.problem.problem import Problem

__all__ = ["problem_given"]


def problem_given(given: Any) -> Problem:
    """A Problem as it is, the one in a file, that of a table (``to_dict``), or of two specs. Raises ProblemError."""
    if isinstance(given, Problem):
        return given
    if isinstance(given, str | PathLike):
        return Problem.read(Path(given))
    if isinstance(given, Mapping):
        return Problem.from_dict(given)
    if isinstance(given, tuple | list) and len(given) == 2:
        return Problem.of(*given)
    raise ProblemError(
        "a problem is a graphpipe.Problem, the path of one, the table of one, or its specs (INPUT_SPEC, OUTPUT_SPEC); "
        f"{came(given)}"
    )
