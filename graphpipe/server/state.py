"""Where a server stands in its life: starting, ready, draining, gone."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["State"]


class State:
    """Read by the health checks, changed by the app. ``connections`` counts those that are open,
    ``workers`` says how many workers are up and how many should be.
    """

    def __init__(self) -> None:
        self.alive = True
        self.started = False
        self.draining = False
        self.forced = False
        self.in_flight = 0
        self.connections: Callable[[], int] = lambda: 0
        self.workers: Callable[[], tuple[int, int]] = lambda: (1, 1)
        self.on_drain: Callable[[], None] = lambda: None
        # What a caller's word sets off: a worker passes it on, since its neighbours have to end too.
        self.on_shutdown: Callable[[], None] = self.begin_drain

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        live, wanted = self.workers()
        return self.started and not self.draining and live >= wanted

    def checks(self) -> dict[str, str]:
        """What readiness depends on, each with ok or what is the matter."""
        live, wanted = self.workers()
        return {
            "models": "ok" if self.started else "loading",
            "draining": "not ready: draining" if self.draining else "ok",
            "workers": "ok" if live >= wanted else f"not ready: {live} of {wanted} are up",
        }

    def begin_drain(self) -> None:
        """Stop being ready; the app finishes what is in flight and ends. Said again: it ends at once."""
        if self.draining:
            self.forced = True
        self.draining = True
        self.on_drain()
