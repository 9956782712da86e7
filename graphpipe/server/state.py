"""Where a server stands in its life: starting, ready, draining, gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from graphpipe.words import visible

__all__ = ["SignalCount", "State"]

# Within so short a time a second signal is an echo of the first.
_ECHO_S = 0.02


class State:
    """Read by the health checks, changed by the app. ``connections`` counts those that are open,
    ``workers`` says how many workers are up and how many should be.
    """

    def __init__(self) -> None:
        self.alive = True
        self.started = False
        self.draining = False
        self.in_flight = 0
        self.connections: Callable[[], int] = lambda: 0
        self.workers: Callable[[], tuple[int, int]] = lambda: (1, 1)
        # Of the models that did not answer their warm-up, why not.
        self.cold: dict[str, str] = {}
        self.on_drain: Callable[[], None] = lambda: None
        self.on_cut: Callable[[], None] = lambda: None
        self._signals = SignalCount()
        # What a caller's word sets off: a worker passes it on, since its neighbours have to end too.
        self.on_shutdown: Callable[[], None] = self.begin_drain

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        live, wanted = self.workers()
        return self.started and not self.draining and live >= wanted

    def checks(self) -> dict[str, str]:
        """What readiness depends on, each with ok or what is the matter, and who is served cold."""
        live, wanted = self.workers()
        return {
            "models": "ok" if self.started else "loading",
            "draining": "not ready: draining" if self.draining else "ok",
            "workers": "ok" if live >= wanted else f"not ready: {live} of {wanted} are up",
            # Said, and no reason not to be ready: a made-up input may be nonsense to a model that is well.
            **{f"model {visible(name)}": f"warm-up failed: {visible(why)}" for name, why in self.cold.items()},
        }

    def begin_drain(self) -> None:
        """Stop being ready; the app finishes what is in flight and ends. Said again, it changes nothing."""
        self.draining = True
        self.on_drain()

    def cut(self) -> None:
        """End at once: what is in flight is cut."""
        self.begin_drain()
        self.on_cut()

    def on_signal(self) -> None:
        """A signal drains; a second one ends at once. What was asked for by a request is not counted: a preStop hook
        that asks for the end is followed by SIGTERM.
        """
        if self._signals.is_new():
            if self._signals.times == 1:
                self.begin_drain()
            else:
                self.cut()


class SignalCount:
    """Counts the times that a server was told to end, on its event loop, without the echoes.

    timeout(1) signals its child and then the whole group; a wrapper passes on the Ctrl-C that its child has got too. That
    is one wish, said twice within a moment. The loop stands still for this moment, so nobody who signals again because
    of what the server did after the first signal is taken for an echo.
    """

    def __init__(self) -> None:
        self.times = 0
        self._deaf = False

    def is_new(self) -> bool:
        """To be called for each signal: whether it counts."""
        if self._deaf:
            return False
        self.times += 1
        self._deaf = True
        time.sleep(_ECHO_S)
        # What came meanwhile is heard in one of the loop's next rounds.
        self._listen_after(3)
        return True

    def _listen_after(self, rounds: int) -> None:
        self._deaf = rounds > 0
        if self._deaf:
            asyncio.get_running_loop().call_soon(self._listen_after, rounds - 1)
