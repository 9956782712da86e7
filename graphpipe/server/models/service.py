"""A model behind its stages: who uses it, and when it may go. Knows neither bytes nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphpipe.backends.model import Model
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages import Outputs, Request, Stage

__all__ = ["Service"]


@dataclass(slots=True, weakref_slot=True, eq=False)
class Service:
    """One model that is served. ``at_once`` is what its stage does without waiting, for a model that is quick; any other
    has ``threads``. ``rereads``: a stage looks at inputs more than once, so they must not change meanwhile. ``settings`` is
    what it was told.

    ``as_guest`` runs it in a thread of another model's, where nothing is between its callers and its model.

    Requests under way hold it: one that was retired is let go, by ``on_let_go``, when the last of them is over.

    A pipeline's has ``parts``, the services of its stages, which it holds, and says what it would be with others:
    ``with_parts``, which raises LoadError where one does not fit.
    """

    name: str
    model: Model
    stage: Stage
    meter: Meter
    at_once: Callable[[Request], Outputs] | None = None
    as_guest: Callable[[Request, float, Callable[[float], object]], Outputs | None] | None = None
    cast: bool = False
    ignore_extra_inputs: bool = False
    threads: int = 0
    rereads: bool = False
    settings: ModelSettings | None = None
    parts: tuple[Service, ...] = ()
    with_parts: Callable[[Sequence[Service]], Service] | None = None
    is_gone: bool = False
    _holders: int = 0
    _on_let_go: Callable[[Service], None] | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            part.hold()

    def hold(self) -> None:
        """A request is under way."""
        self._holders += 1

    def release(self) -> None:
        """It is over."""
        self._holders -= 1
        if not self._holders and self._on_let_go is not None:
            self._go(self._on_let_go)

    def retire(self, on_let_go: Callable[[Service], None]) -> None:
        """No request comes any more: call ``on_let_go`` once those under way are over, or now."""
        self._on_let_go = on_let_go
        if not self._holders:
            self._go(on_let_go)

    def _go(self, on_let_go: Callable[[Service], None]) -> None:
        if self.is_gone:
            return  # what still ran in its name is over
        self.is_gone = True
        on_let_go(self)
        for part in self.parts:
            part.release()

    def numbers(self) -> dict[str, float]:
        """How it is now, as metrics."""
        return {"graphpipe_queue_requests": self.stage.waiting}

    def close(self) -> None:
        """Give back what the stages hold."""
        self.stage.close()
        self.meter.leave(self.numbers)
