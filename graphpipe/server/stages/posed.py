"""A problem's names and promises, before stages that know the model's own."""

from __future__ import annotations

from dataclasses import replace

from graphpipe.problem.posed import Posed
from graphpipe.server.stages.aside import aside
from graphpipe.server.stages.stage import Outputs, Request, Stage

__all__ = ["PosedStage"]


class PosedStage:
    """Asks the next stage by the model's names, and gives what the problem promises."""

    def __init__(self, posed: Posed, following: Stage) -> None:
        self._posed = posed
        self._next = following

    async def infer(self, request: Request) -> Outputs:
        """What the next stage gives, by the problem's names. Raises ModelFailed where it is not what was promised."""
        posed, outputs = self._posed, request.outputs or None
        inner = replace(request, inputs=dict(posed.taken(request.inputs)), outputs=tuple(posed.asked(outputs) or ()))
        given = await self._next.infer(inner)
        request.run_s = inner.run_s
        return await aside(lambda given: posed.held(request.inputs, given, outputs), given)

    def admit(self) -> None:
        """Raise Overloaded if the next stage would refuse every request."""
        self._next.admit()

    @property
    def waiting(self) -> int:
        """How many requests wait further on."""
        return self._next.waiting

    def close(self) -> None:
        """Close the next stage."""
        self._next.close()
