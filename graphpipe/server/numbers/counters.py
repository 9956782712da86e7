"""The numbers that a server keeps about itself, for all its workers together.

A worker counts in a plain list, since adding to a list costs 30 ns and anything shared ten times that; twice a
second, and when somebody asks, it publishes the list into its row of a piece of memory that all workers map. Whoever
is asked for metrics adds up the rows. A worker that was restarted goes on with its predecessor's row, so counters
never fall.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["BUCKETS_S", "FAMILIES", "STATUSES", "Counters", "Family", "Meter"]

# From a small model's run to a caller's patience, three steps to each factor of ten.
BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
BUCKETS_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)
# What the label `code` can be; anything else counts as "other".
STATUSES = (200, 400, 401, 403, 404, 405, 408, 413, 415, 431, 500, 502, 503, 504, 0)
# What the label `protocol` can be: messages, and descriptions as JSON.
PROTOCOLS = ("graphpipe", "json")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    ``per`` says what it is kept for: each model, or the worker as a whole; ``total`` how the workers' numbers become one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "by_code"]
    per: Literal["model", "worker"]
    help: str
    buckets: tuple[float, ...] = BUCKETS_S
    total: Literal["sum", "max"] = "sum"

    @property
    def width(self) -> int:
        """How many numbers it takes."""
        if self.kind == "histogram":
            return len(self.buckets) + 2  # a count for each bucket and one above, and the sum
        return len(STATUSES) * len(PROTOCOLS) if self.kind == "by_code" else 1


FAMILIES = (
    Family("graphpipe_requests", "by_code", "model", "Inference and metadata requests answered, by HTTP status."),
    Family(
        "graphpipe_request_duration_seconds", "histogram", "model", "From the whole request here to its answer written."
    ),
    Family("graphpipe_queue_duration_seconds", "histogram", "model", "From a request's check to the start of its run."),
    Family("graphpipe_batch_wait_duration_seconds", "histogram", "model", "How long a request waited for its batch."),
    Family("graphpipe_inference_duration_seconds", "histogram", "model", "One run of the model."),
    Family(
        "graphpipe_encode_duration_seconds", "histogram", "model", "From the model's outputs to the answer's bytes."
    ),
    Family("graphpipe_rows", "counter", "model", "Rows (first dimension of the first input) in answered requests."),
    Family(
        "graphpipe_batch_rows",
        "histogram",
        "model",
        "Rows of one call of a batched model, padding included.",
        BUCKETS_ROWS,
    ),
    Family("graphpipe_batch_requests", "counter", "model", "Requests in these calls."),
    Family("graphpipe_batch_padding_rows", "counter", "model", "Rows that were added to reach an allowed size."),
    Family("graphpipe_batch_retried", "counter", "model", "Requests run alone because their batch failed."),
    Family("graphpipe_batch_refused", "counter", "model", "Requests refused because too many rows waited."),
    Family("graphpipe_batch_queue_rows", "gauge", "model", "Rows that wait for their batch."),
    Family("graphpipe_cache_hits", "counter", "model", "Rows answered from the row cache."),
    Family("graphpipe_cache_misses", "counter", "model", "Rows that the row cache did not know."),
    Family("graphpipe_cache_shared", "counter", "model", "Rows that somebody else's request was computing already."),
    Family("graphpipe_cache_passed", "counter", "model", "Requests that could not be cached."),
    Family("graphpipe_cache_stored", "counter", "model", "Rows written to the row cache, one for each output."),
    Family("graphpipe_cache_evicted", "counter", "model", "Rows dropped to hold the row cache's limit."),
    Family("graphpipe_cache_left_out", "counter", "model", "Rows not written for want of room, time or a disk."),
    Family("graphpipe_cache_errors", "counter", "model", "Failures of the row cache: damaged rows, failed writes."),
    Family("graphpipe_abandoned_requests", "counter", "model", "Requests whose callers left before their answer."),
    Family("graphpipe_queue_requests", "gauge", "model", "Requests that wait for a batch, or a thread of the model."),
    Family(
        "graphpipe_longest_run_seconds",
        "gauge",
        "model",
        "How long the longest run that is under way has taken so far.",
        total="max",
    ),
    Family(
        "graphpipe_model_load_seconds",
        "gauge",
        "model",
        "How long the model took to load and warm up, in the slowest worker.",
        total="max",
    ),
    Family("graphpipe_in_flight_requests", "gauge", "worker", "Requests that are being answered."),
    Family(
        "graphpipe_in_flight_bytes",
        "gauge",
        "worker",
        "Bytes of bodies that have come, and of answers that are not sent yet.",
    ),
    Family("graphpipe_buffer_pool_idle_bytes", "gauge", "worker", "Bytes of buffers that wait for their next use."),
    Family("graphpipe_connections", "gauge", "worker", "Open connections."),
    Family("graphpipe_memory_bytes", "gauge", "worker", "Resident memory of the worker processes."),
)

# In front of the rows: what the supervisor writes.
_LIVE, _WANTED, _RESTARTS, _HEADER = 0, 1, 2, 8


class Meter:
    """What is counted for one model by one worker. For the event loop's thread alone.

    Durations are only noted, and sorted into buckets all at once when the numbers are published: 30 ns each, not 500.
    """

    __slots__ = (
        "_batch_rows",
        "_batch_wait",
        "_encode",
        "_followed",
        "_inference",
        "_noted",
        "_numbers",
        "_ok",
        "_queue",
        "_request",
        "_rows",
        "_starts",
    )

    def __init__(self, numbers: list[float], starts: dict[str, int]) -> None:
        self._numbers = numbers
        self._starts = starts
        self._ok = self._rows = 0
        self._followed: list[tuple[Callable[[], Mapping[str, float]], dict[str, float]]] = []
        self._request: list[float] = []
        self._queue: list[float] = []
        self._batch_wait: list[float] = []
        self._inference: list[float] = []
        self._encode: list[float] = []
        self._batch_rows: list[float] = []
        self._noted = {
            "graphpipe_request_duration_seconds": self._request,
            "graphpipe_queue_duration_seconds": self._queue,
            "graphpipe_batch_wait_duration_seconds": self._batch_wait,
            "graphpipe_inference_duration_seconds": self._inference,
            "graphpipe_encode_duration_seconds": self._encode,
            "graphpipe_batch_rows": self._batch_rows,
        }

    def answered(self, status: int, seconds: float) -> None:
        """A request got its answer."""
        if status == 200:
            self._ok += 1
        else:
            self._numbers[self._starts["graphpipe_requests"] + _STATUS_PLACE.get(status, _OTHER)] += 1
        self._request.append(seconds)

    def described(self, status: int) -> None:
        """A description was given as JSON, or not."""
        place = len(STATUSES) * PROTOCOLS.index("json") + _STATUS_PLACE.get(status, _OTHER)
        self._numbers[self._starts["graphpipe_requests"] + place] += 1

    def abandoned(self) -> None:
        """A caller left before its answer."""
        self._numbers[self._starts["graphpipe_abandoned_requests"]] += 1

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

    def gauge(self, name: str, value: float) -> None:
        """How it is now: requests that wait, seconds that loading took."""
        self._numbers[self._starts[name]] = value

    def follow(self, numbers: Callable[[], Mapping[str, float]]) -> None:
        """Take over what a stage counts itself: totals since its start, or gauges, by the metric's name."""
        self._followed.append((numbers, {}))

    def sum_up(self) -> None:
        """Put what was noted into the numbers."""
        numbers, starts = self._numbers, self._starts
        for source, before in self._followed:
            now = source()
            for name, value in now.items():
                at = starts[name]
                # What a predecessor of this worker counted is there already.
                numbers[at] = value if name in _GAUGES else numbers[at] + value - before.get(name, 0)
            before.update(now)
        numbers[starts["graphpipe_requests"] + _STATUS_PLACE[200]] += self._ok
        numbers[starts["graphpipe_rows"]] += self._rows
        self._ok = self._rows = 0
        for name, noted in self._noted.items():
            if noted:
                start, values, bounds = starts[name], np.array(noted), _BOUNDS[name]
                noted.clear()
                counts = np.bincount(np.searchsorted(bounds, values))
                for i, count in enumerate(counts.tolist()):
                    numbers[start + i] += count
                numbers[start + len(bounds) + 1] += float(values.sum())


_GAUGES = frozenset(family.name for family in FAMILIES if family.kind == "gauge")
_STATUS_PLACE = {status: i for i, status in enumerate(STATUSES)}
_OTHER = len(STATUSES) - 1
_BOUNDS = {family.name: np.array(family.buckets) for family in FAMILIES}


class Counters:
    """All numbers of one server. ``fd`` is that of the memory made by the supervisor; without it there is one worker.

    ``worker`` is the row to count into; None only looks on. Requests that reach no model count for the model ``""``.
    """

    def __init__(self, models: Sequence[str], worker: int | None = 0, fd: int | None = None) -> None:
        self.models = (*models, "")
        self._starts: dict[tuple[str, str], int] = {}
        width = 0
        for family in FAMILIES:
            for owner in self.models if family.per == "model" else ("",):
                self._starts[family.name, owner] = width
                width += family.width
        self._width = width
        size = 8 * (_HEADER + width)
        self._memory = mmap.mmap(-1, size) if fd is None else mmap.mmap(fd, os.fstat(fd).st_size)
        self._shared = memoryview(self._memory).cast("d")
        if fd is None:
            self._shared[_LIVE] = self._shared[_WANTED] = 1
        self._row = None if worker is None else slice(_HEADER + worker * width, _HEADER + (worker + 1) * width)
        self.numbers = [float(number) for number in self._shared[self._row]] if self._row else [0.0] * width
        self._meters: dict[str, Meter] = {}
        self._zero_gauges()

    @classmethod
    def memory_for(cls, models: Sequence[str], workers: int) -> int:
        """A file descriptor of memory for the numbers of so many workers, to be inherited by them."""
        width = cls(models)._width
        fd = os.memfd_create("graphpipe-counters", 0)
        os.ftruncate(fd, 8 * (_HEADER + workers * width))
        return fd

    def meter(self, model: str) -> Meter:
        """Where one model's requests are counted."""
        starts = {f.name: self._starts[f.name, model] for f in FAMILIES if f.per == "model"}
        return self._meters.setdefault(model, Meter(self.numbers, starts))

    def gauge(self, name: str, value: float) -> None:
        """Set one of the worker's own numbers."""
        self.numbers[self._starts[name, ""]] = value

    def publish(self) -> None:
        """Let the other workers see this worker's numbers."""
        for meter in self._meters.values():
            meter.sum_up()
        if self._row is not None:
            self._shared[self._row] = array("d", self.numbers)

    def totals(self) -> list[float]:
        """The numbers of all workers together."""
        self.publish()
        rows = np.array(self._shared[_HEADER:]).reshape(-1, self._width)
        totals: list[float] = rows.sum(axis=0).tolist()
        for family in FAMILIES:
            if family.total == "max":
                for owner in self.models:
                    start = self.start_of(family, owner)
                    totals[start] = float(rows[:, start].max())
        return totals

    def start_of(self, family: Family, model: str) -> int:
        """Where a family's numbers are in ``totals``."""
        return self._starts[family.name, model if family.per == "model" else ""]

    # --- the supervisor's numbers ---

    @property
    def workers_live(self) -> int:
        """How many workers are up."""
        return int(self._shared[_LIVE])

    @property
    def workers_wanted(self) -> int:
        """How many should be."""
        return int(self._shared[_WANTED])

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return int(self._shared[_RESTARTS])

    def supervise(self, live: int, wanted: int, restarts: int) -> None:
        """Say how the workers are."""
        self._shared[_LIVE], self._shared[_WANTED], self._shared[_RESTARTS] = live, wanted, restarts

    def forget_gauges_of(self, worker: int) -> None:
        """A worker is gone: what it had open is closed."""
        start = _HEADER + worker * self._width
        for at in self._gauges():
            self._shared[start + at] = 0.0

    def _zero_gauges(self) -> None:
        for at in self._gauges():
            self.numbers[at] = 0.0

    def _gauges(self) -> list[int]:
        kinds = {family.name: family.kind for family in FAMILIES}
        return [start for (name, _), start in self._starts.items() if kinds[name] == "gauge"]
