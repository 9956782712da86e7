"""One trace: which stages the function called with which values."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from graphpipe.arguments import a_kind
from graphpipe.backends.called import Callee
from graphpipe.errors import TraceError
from graphpipe.tracing.place import here
from graphpipe.tracing.traced import Traced

__all__ = ["Call", "Recording"]


class Call(NamedTuple):
    """A stage that was called: with what, what came of it, by its own names, and what that was for the example."""

    callee: Callee
    inputs: dict[str, Traced]
    outputs: dict[str, Traced]
    values: dict[str, NDArray[Any]]


class Recording:
    """A trace that is under way, in one thread, from the function's call to its end."""

    def __init__(self) -> None:
        self.inputs: dict[str, Traced] = {}
        self.calls: list[Call] = []
        # The first refusal: whoever catches it has not made the trace a right one.
        self.refused = ""
        self._is_over = False
        self._thread = threading.get_ident()
        self._loop = _running_loop()

    def input(self, name: str, value: Any) -> Traced:
        """What stands for an input."""
        self.inputs[name] = made = Traced(self, name, "", value)
        return made

    def record(self, callee: Callee, inputs: Mapping[str, Any]) -> Any:
        """Run a stage on the example, note it, and give what stands for its outputs. Raises TraceError."""
        name = callee.name
        if self._is_over:
            raise self.refuse(f"stage {name!r} is called")
        if threading.get_ident() != self._thread:
            raise self.refuse(
                f"stage {name!r} is called in another thread, and nobody knows in which order; call stages one after "
                "another: those that need nothing of one another run side by side in the pipeline"
            )
        if _running_loop() is not self._loop:
            raise self.refuse(f"stage {name!r} is called in an event loop of asyncio; call stages one after another")
        for own, value in inputs.items():
            if not isinstance(value, Traced):
                raise self.refuse(_constant(name, own, value))
            if value._recorder is not self:
                raise self.refuse(
                    f"stage {name!r} takes {own!r} from another trace; a function has what it is called with, and "
                    "nothing else"
                )
        given = {own: value._value for own, value in inputs.items()}
        values, form = callee.run(given)
        outputs = {own: Traced(self, own, name, value) for own, value in values.items()}
        self.calls.append(Call(callee, dict(inputs), outputs, values))
        return form(outputs)

    def refuse(self, said: str) -> TraceError:
        """The error that says so, with the line of the user's code."""
        if self._is_over:
            said = f"{said}, with a value that was kept from a trace that is over"
        elif threading.get_ident() != self._thread and "another thread" not in said:
            said = f"{said} (in another thread)"
        place = here()
        message = f"{place}: {said}" if place else said
        self.refused = self.refused or message
        return TraceError(message)

    def end(self) -> None:
        """Let go of the example and all that came of it. Whoever has kept a value has nothing in his hands."""
        self._is_over = True
        for value in self.inputs.values():
            value._value = None
        for call in self.calls:
            for value in call.outputs.values():
                value._value = None
        self.inputs, self.calls = {}, []


def _constant(stage: str, own: str, value: Any) -> str:
    if value is None:
        return f"stage {stage!r} is called with None for {own!r}; leave it out"
    if isinstance(value, list | tuple | dict) and any(isinstance(each, Traced) for each in value):
        return f"stage {stage!r} is called with {a_kind(value)} of values for {own!r}; give each value by itself"
    return (
        f"stage {stage!r} is called with a constant for {own!r} ({a_kind(value)}); its inputs are what other stages "
        "gave, or the function's own inputs: what is the same in every request is for the constructor of a stage "
        "that is a class"
    )


def _running_loop() -> Any:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
