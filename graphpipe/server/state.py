"""Where a server stands in its life: starting, ready, draining, gone."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["State"]


class State:
    """Read by the health checks, changed by the app. ``connections`` counts those that are open."""

    def __init__(self) -> None:
        self.alive = True
        self.started = False
        self.draining = False
        self.in_flight = 0
        self.connections: Callable[[], int] = lambda: 0
        self.on_drain: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.started and not self.draining

    def begin_drain(self) -> None:
        """Stop being ready; the app finishes what is in flight and ends."""
        if not self.draining:
            self.draining = True
            self.on_drain()
