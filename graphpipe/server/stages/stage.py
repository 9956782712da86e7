"""What passes through the stages, and what a stage is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Outputs", "Request", "Stage"]

Outputs = dict[str, NDArray[Any]]


@dataclass(slots=True)
class Request:
    """A checked request. ``outputs`` is empty only where the model decides; ``deadline`` is loop time, or None.

    ``request_id`` is what its caller calls it, for the log.
    ``run_s`` is filled in on the way back: how long the model ran, waiting excluded. ``then`` is what goes on with the
    model's outputs in its thread, where the model itself is asked.
    """

    inputs: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    config: str
    deadline: float | None = None
    run_s: float = 0.0
    request_id: str = ""
    then: Callable[[Outputs], None] | None = None


class Stage(Protocol):
    """One step of the walk: answers a request, itself or by asking the next one."""

    async def infer(self, request: Request) -> Outputs:
        """The outputs, by name. Raises ServiceError; a cancelled call takes its work along if it has not begun."""
        ...

    def admit(self) -> None:
        """Raise Overloaded if every request would be refused now: said before anybody takes the trouble to read one."""
        ...

    @property
    def waiting(self) -> int:
        """How many requests wait, here and further on."""
        ...

    def close(self) -> None:
        """Give back threads and files."""
        ...
