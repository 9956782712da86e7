"""Stages that need nothing of one another run side by side, in threads, where that has been seen to be quicker.

Whoever calls does what is ready himself; what else is ready a helper may do, if one has time. So nobody waits for a helper
that is busy or hangs with another request, and a pipeline within a pipeline needs no threads of its own to get on.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from graphpipe.machine import usable_cpus
from graphpipe.pipeline.wiring import Wire

__all__ = ["Branches", "producers"]

Array = NDArray[Any]
Values = dict[str, Array]
# Runs one stage, by its place, on the values that it may take.
RunStage = Callable[[int, Values], Values]

# Below this threads cost more than they gain.
_SHORT_S = 0.001
_TRIED = 3
_TRIED_AGAIN = 64
_WEIGHT = 0.25
# Whoever has called does the rest himself: more calls than this wait only where helpers hang.
_CALLS_MAX = 256


def producers(wires: Sequence[Wire]) -> list[dict[str, int]] | None:
    """Of each stage the stages that give what it takes, by the pipeline's names; None where that is not known beforehand."""
    if any(wire.open or wire.takes_all for wire in wires):
        return None
    found: list[dict[str, int]] = []
    given: dict[str, int] = {}
    for i, wire in enumerate(wires):
        found.append({n: given[n] for n in (*wire.takes.values(), *wire.may_take.values()) if n in given})
        given.update(dict.fromkeys(wire.gives.values(), i))
    return found


class Branches:
    """The stages of a pipeline some of which can run side by side."""

    def __init__(self, sources: Sequence[Mapping[str, int]]) -> None:
        self._sources = [dict(each) for each in sources]
        self._followers: list[list[int]] = [[] for _ in sources]
        for i, each in enumerate(sources):
            for j in set(each.values()):
                self._followers[j].append(i)
        self._helpers = _Helpers(min(usable_cpus(), len(sources)) - 1)
        self._finalizer = weakref.finalize(self, self._helpers.stop)
        # Seconds of a run in the one way and in the other, and how many there were.
        self._took = [0.0, 0.0]
        self._count = 0

    @property
    def are_there(self) -> bool:
        """Whether any two stages can run side by side, on more CPUs than one."""
        before: list[set[int]] = []
        for each in self._sources:
            before.append(set(each.values()).union(*(before[j] for j in each.values())))
        return self._helpers.count > 0 and any(len(each) < i for i, each in enumerate(before))

    def choose(self) -> bool:
        """Whether the next run is to be side by side: both ways are tried now and then, and the quicker one is taken."""
        self._count += 1
        if self._count <= _TRIED:
            return False
        one, side = self._took
        if one < _SHORT_S:
            return False
        if self._count <= 2 * _TRIED:
            return True
        quicker = side < one
        return quicker != (self._count % _TRIED_AGAIN == 0)

    def took(self, side_by_side: bool, seconds: float) -> None:
        """Note how long a run took."""
        known = self._took[side_by_side]
        self._took[side_by_side] = seconds if not known else known + _WEIGHT * (seconds - known)

    def run(self, inputs: Mapping[str, Array], run_stage: RunStage) -> list[Values]:
        """Run all stages, and give the outputs of each. The first error in their order is raised when none runs any more."""
        return _Run(inputs, self._sources, self._followers, run_stage, self._helpers).to_the_end()

    def close(self) -> None:
        """Let the helpers go."""
        self._finalizer()


class _Run:
    """One request on its way through the stages."""

    def __init__(
        self,
        inputs: Mapping[str, Array],
        sources: Sequence[Mapping[str, int]],
        followers: Sequence[Sequence[int]],
        run_stage: RunStage,
        helpers: _Helpers,
    ) -> None:
        self._inputs = inputs
        self._sources = sources
        self._followers = followers
        self._run_stage = run_stage
        self._helpers = helpers
        self._changed = threading.Condition()
        self._missing = [len(set(each.values())) for each in sources]
        self._ready = deque(i for i, count in enumerate(self._missing) if not count)
        self._outputs: list[Values | None] = [None] * len(sources)
        self._left = len(sources)
        self._running = 0
        self._failed: dict[int, BaseException] = {}

    def to_the_end(self) -> list[Values]:
        self._call_helpers(len(self._ready) - 1)
        try:
            while True:
                self.help()
                with self._changed:
                    if not self._running and (self._failed or not self._left):
                        self._ready.clear()  # helpers that come late find nothing to do
                        break
                    if not self._ready or self._failed:
                        self._changed.wait()
        except BaseException:  # somebody's Ctrl-C
            with self._changed:
                self._ready.clear()
                self._outputs = []
            raise
        finally:
            self._inputs = {}  # a helper that hangs elsewhere has this run in its queue
        if self._failed:
            error = self._failed[min(self._failed)]
            self._failed = {}
            self._outputs = []
            try:
                raise error
            finally:
                del error  # it remembers this frame
        outputs, self._outputs = self._outputs, []  # helpers may still have to find out that nothing is left
        return outputs  # type: ignore[return-value]

    def help(self) -> None:
        """Run what is ready, until nothing is."""
        while True:
            with self._changed:
                if not self._ready or self._failed:
                    return
                stage = self._ready.popleft()
                self._running += 1
                values = self._values_of(stage)
            try:
                outputs = self._run_stage(stage, values)
            except BaseException as error:
                with self._changed:
                    self._failed[stage] = error
                    self._running -= 1
                    self._changed.notify_all()
                return
            finally:
                del values
            with self._changed:
                self._running -= 1
                self._left -= 1
                more = 0
                if self._outputs:
                    self._outputs[stage] = outputs
                    more = self._make_ready(stage)
                del outputs
                self._changed.notify_all()
            self._call_helpers(more - 1)

    def _values_of(self, stage: int) -> Values:
        values = dict(self._inputs)
        for name, source in self._sources[stage].items():
            outputs = self._outputs[source]
            if outputs is not None and name in outputs:
                values[name] = outputs[name]
        return values

    def _make_ready(self, stage: int) -> int:
        count = 0
        for follower in self._followers[stage]:
            self._missing[follower] -= 1
            if not self._missing[follower]:
                self._ready.append(follower)
                count += 1
        return count

    def _call_helpers(self, count: int) -> None:
        for _ in range(count):
            self._helpers.call(self.help)


class _Helpers:
    """Threads that do what they are called for; the first ones come with the first call."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0

    def call(self, help: Callable[[], None]) -> None:
        with self._lock:
            if self._started < self.count:
                self._started += 1
                threading.Thread(target=_help, args=(self._calls,), name="pipeline", daemon=True).start()
        if self._calls.qsize() < _CALLS_MAX:
            self._calls.put(help)

    def stop(self) -> None:
        with self._lock:
            for _ in range(self._started):
                self._calls.put(None)
            self._started = self.count  # nobody comes any more


def _help(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # or it would keep a request while this thread waits for the next
