"""What the stages of one model count into."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.numbers.families import FAMILIES, FAMILY, OTHER, PLACES, START, STATUS_PLACE, STATUSES

__all__ = ["Meter"]

Numbers = Callable[[], Mapping[str, float]]

_GAUGES = {family.name: START[family.name] for family in FAMILIES if family.kind == "gauge"}
_OF_MODELS = [START[family.name] for family in FAMILIES if family.kind == "gauge" and family.per == "model"]
_OK = START["graphpipe_requests"] + STATUS_PLACE[200]
_CODES = slice(START["graphpipe_requests"], START["graphpipe_requests"] + FAMILY["graphpipe_requests"].width)
_NONE = [0] * FAMILY["graphpipe_requests"].width
_ROWS = START["graphpipe_rows"]
_BOUNDS = {family.name: np.array(family.buckets) for family in FAMILIES if family.kind == "histogram"}
_ABANDONED = START["graphpipe_abandoned_requests"]
# So few values are sorted into buckets faster one by one than by numpy.
_FEW = 24


class Meter:
    """What is counted for one name by one worker, in ``row``: its place in the memory that all workers see.

    For the event loop's thread, but for ``follow`` and ``leave``. Counts and durations are only noted, which takes 30 ns,
    and go into the row all at once when they are published: anything shared costs ten times that, and sorting a duration
    into its bucket 500 ns.
    """

    __slots__ = (
        "_abandoned",
        "_batch_rows",
        "_batch_wait",
        "_cells",
        "_codes",
        "_encode",
        "_followed",
        "_gone",
        "_inference",
        "_noted",
        "_ok",
        "_queue",
        "_request",
        "_row",
        "_rows",
    )

    def __init__(self, row: NDArray[np.float64]) -> None:
        row[list(_GAUGES.values())] = 0.0  # what a predecessor of this worker counted stays, how it was does not
        self._cells = cast("memoryview[float]", row.data)  # for single numbers twice as fast as the array
        self._row = row
        self._ok = self._rows = self._abandoned = 0
        self._codes = [*_NONE]
        self._followed: list[tuple[Numbers, dict[str, float]]] = []
        self._gone: list[Numbers] = []
        self._request: list[float] = []
        self._queue: list[float] = []
        self._batch_wait: list[float] = []
        self._inference: list[float] = []
        self._encode: list[float] = []
        self._batch_rows: list[float] = []
        self._noted = [
            (START[name], FAMILY[name].buckets, _BOUNDS[name], noted)
            for name, noted in (
                ("graphpipe_request_duration_seconds", self._request),
                ("graphpipe_queue_duration_seconds", self._queue),
                ("graphpipe_batch_wait_duration_seconds", self._batch_wait),
                ("graphpipe_inference_duration_seconds", self._inference),
                ("graphpipe_encode_duration_seconds", self._encode),
                ("graphpipe_batch_rows", self._batch_rows),
            )
        ]

    def answered(self, status: int, seconds: float, protocol: int = 0) -> None:
        """A request got its answer; ``protocol`` is a place in PROTOCOLS."""
        if status == 200 and not protocol:
            self._ok += 1
        else:
            self._codes[len(STATUSES) * protocol + STATUS_PLACE.get(status, OTHER)] += 1
        self._request.append(seconds)

    def described(self, status: int, protocol: int = PLACES["json"]) -> None:
        """A description was given, as JSON or as another protocol has it, or not."""
        self._codes[len(STATUSES) * protocol + STATUS_PLACE.get(status, OTHER)] += 1

    def abandoned(self) -> None:
        """A caller left before its answer."""
        self._abandoned += 1

    def ran(self, queue_s: float, inference_s: float) -> None:
        """The model ran once, after a wait."""
        self._queue.append(queue_s)
        self._inference.append(inference_s)

    def waited_for_batch(self, seconds: float) -> None:
        """A request became part of a batch."""
        self._batch_wait.append(seconds)

    def batched(self, rows: int) -> None:
        """A batch of so many rows goes to the model."""
        self._batch_rows.append(rows)

    def encoded(self, rows: int, seconds: float) -> None:
        """The outputs for so many rows became bytes."""
        self._rows += rows
        self._encode.append(seconds)

    def add(self, name: str, count: float) -> None:
        """So much more of a counter that is rarely counted."""
        self._cells[START[name]] += count

    def gauge(self, name: str, value: float) -> None:
        """How it is now: open connections, seconds that loading took."""
        self._cells[START[name]] = value

    def follow(self, numbers: Numbers) -> None:
        """Take over what a stage counts itself, by the metric's name: totals since its start, and gauges.

        A name may have several stages of a kind for a while, where one model takes another's place: their gauges are
        added up, or the largest counts. Any thread may call this.
        """
        self._followed.append((numbers, {}))

    def leave(self, numbers: Numbers) -> None:
        """A stage that was followed is closed: its counts are taken over once more. Any thread may call this."""
        self._gone.append(numbers)

    def publish(self) -> None:
        """Put what was noted into the row."""
        row, cells = self._row, self._cells
        if self._ok:
            cells[_OK] += self._ok
            self._ok = 0
        if self._rows:
            cells[_ROWS] += self._rows
            self._rows = 0
        if self._abandoned:
            cells[_ABANDONED] += self._abandoned
            self._abandoned = 0
        if self._codes != _NONE:
            row[_CODES] += self._codes
            self._codes = [*_NONE]
        for start, buckets, bounds, noted in self._noted:
            if not noted:
                continue
            if len(noted) < _FEW:
                for value in noted:
                    cells[start + bisect_left(buckets, value)] += 1
                cells[start + len(buckets) + 1] += sum(noted)
            else:
                values = np.array(noted)
                counts = np.bincount(np.searchsorted(bounds, values))
                row[start : start + len(counts)] += counts
                cells[start + len(buckets) + 1] += float(values.sum())
            noted.clear()
        if self._followed:
            self._take_over()

    def _take_over(self) -> None:
        cells, gauges = self._cells, dict[str, float]()
        gone = [self._gone.pop() for _ in range(len(self._gone))]
        for source in [*self._followed]:
            numbers, before = source
            is_gone = numbers in gone
            now = numbers()
            for name, value in now.items():
                if name not in _GAUGES:
                    more = value - before.get(name, 0)
                    if more:
                        cells[START[name]] += more
                        before[name] = value
                elif is_gone:
                    gauges.setdefault(name, 0.0)
                elif FAMILY[name].total == "max":
                    gauges[name] = max(value, gauges.get(name, 0.0))
                else:
                    gauges[name] = value + gauges.get(name, 0.0)
            if is_gone:
                self._followed.remove(source)
        for name, value in gauges.items():
            cells[_GAUGES[name]] = value
        if not self._followed:
            self._row[_OF_MODELS] = 0.0  # the model is gone
