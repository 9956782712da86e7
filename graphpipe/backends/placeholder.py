"""``placeholder:problem.toml``: a model of a problem before there is one. Its answers are random, and all else about them
is what the problem promises: names, types, shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from numpy.typing import NDArray

from graphpipe.arguments import came
from graphpipe.backends.backend import Backend
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.problem import Problem
from graphpipe.problem.drawn import drawn
from graphpipe.problem.given import problem_given
from graphpipe.problem.specs import table_of
from graphpipe.signature import Signature

__all__ = ["BACKEND", "Placeholder", "placeholder"]

_PREFIX = "placeholder:"


class Placeholder:
    """Answers a problem at random: the same request always alike."""

    kind = "placeholder"
    shares_memory = False

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem, self._seed = problem, seed
        self._signature = problem.signature
        said = json.dumps([[table_of(specs) for specs in (problem.inputs, problem.outputs)], seed])
        self.version = hashlib.sha256(said.encode()).hexdigest()
        self.description = (
            f"random answers, in place of a model{f' of problem {problem.name!r}' if problem.name else ''}"
        )

    @property
    def signature(self) -> Signature:
        """What the problem says."""
        return self._signature

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, NDArray[Any]]:
        """Random outputs that keep the problem's promise."""
        answer = drawn(self._problem.inputs, self._problem.outputs, inputs, self._seed)
        return {name: answer[name] for name in outputs} if outputs else answer

    def close(self) -> None:
        """Nothing to give back."""


def placeholder(
    problem: Problem | str | PathLike[str] | Mapping[str, Any] | Sequence[Any], seed: int = 0
) -> LoadedModel:
    """A model that answers a problem at random, to work with before there is one. ``problem`` is a Problem, the path of one,
    a table of one, or its two specs.

    Names, types and shapes are as promised, and symbols have the sizes that the inputs give them. The same inputs and the
    same ``seed`` give the same answer.

    Raises ProblemError for what is no problem.
    """
    problem = problem_given(problem)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"placeholder(): seed: expected a whole number; {came(seed)}")
    return LoadedModel(Placeholder(problem, seed), problem.name or "placeholder")


def _open(source: str, options: LoadOptions) -> Model:
    return Placeholder(Problem.read(source.removeprefix(_PREFIX)))


BACKEND = Backend("placeholder", lambda source: source.startswith(_PREFIX), _open, uses=lambda source: ())
