"""``graphpipe problem``: what a problem's file says, and whether a model answers it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from graphpipe.cli.callee import Callee, is_server, loaded, server_at
from graphpipe.problem import Problem
from graphpipe.signature import Signature
from graphpipe.words import counted, quoted, visible

__all__ = ["does"]


def does(file: str, model: str, name_map: Sequence[str], **asking: Any) -> None:
    """Show the problem, and hold the model to it. Raises ProblemError, LoadError, TestFailed, or ValueError for a name map
    that is none.
    """
    names = dict(_pair(text) for text in name_map)
    problem = Problem.read(file)
    print(visible(str(problem), "\n"))
    if not model:
        return
    # What a model prints is not the answer.
    with contextlib.redirect_stdout(sys.stderr), _opened(model, asking) as callee:
        problem.posed(_Asked(callee), names, callee.name).self_test()
    passed = f", and passes {counted(len(problem.tests), 'test')}" if problem.tests else "; the problem has no tests"
    print(f"{visible(callee.name or model)} fits{passed}")


def _opened(model: str, asking: Mapping[str, Any]) -> contextlib.AbstractContextManager[Callee]:
    return contextlib.nullcontext(server_at(model, **asking)) if is_server(model) else loaded(model, {})


class _Asked:
    """Whoever answers a command, as a model."""

    def __init__(self, callee: Callee) -> None:
        self._callee = callee
        self.signature: Signature = callee.signature

    def infer(self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None, *, config: str = "") -> Any:
        return self._callee.call(list(inputs.items()), list(outputs or ()), config, cast=False)

    def close(self) -> None:
        """Whoever opened it closes it."""


def _pair(text: str) -> tuple[str, str]:
    name, equals, known = text.partition("=")
    if not name or not equals or not known:
        raise ValueError(f"--name-map {quoted(text)}: expected NAME=NAME, the problem's and the model's")
    return name, known
