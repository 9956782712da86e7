"""One table of the numbers that a server keeps about itself, for all its workers together.

The table is a piece of memory that every worker maps. It has a list of names, to which names are only added: whichever
worker comes upon a new one gives it the next place, for all of them and for good, so that a model that goes and comes
again goes on counting where it was. Each name has a row of numbers for each worker. A worker counts for itself
(meter.py) and publishes twice a second, and when somebody asks; whoever is asked adds up the rows. A worker that was
started again goes on with its predecessor's rows, so counters never fall.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import LoadError
from graphpipe.server.numbers.caller import Caller
from graphpipe.server.numbers.families import FAMILIES, FAMILY, START, WIDTH
from graphpipe.server.numbers.meter import Meter

if sys.platform != "win32":
    import fcntl

__all__ = ["CALLER", "Counters"]

# So many names find a place, in all the life of a server. Memory is only taken for those that are there.
NAMES_MAX = 4096
_NAME_BYTES = 512
# In front of a caller's name, which is none of a model's; so many callers are told apart.
CALLER = "\0"
CALLERS_MAX = 256
_OTHERS = "(others)"
# In front of all: what the supervisor writes, how many rows each name has, and how many names there are.
_LIVE, _WANTED, _RESTARTS, _ROWS, _NAMES, _HEADER = 0, 1, 2, 3, 4, 8
_NAMES_AT = 8 * _HEADER
_NUMBERS_AT = _NAMES_AT + NAMES_MAX * _NAME_BYTES

_GAUGES = [START[family.name] for family in FAMILIES if family.kind == "gauge"]
_LARGEST = [START[family.name] for family in FAMILIES if family.total == "max"]


class Counters:
    """All numbers of one server. ``fd`` is that of the memory made by the supervisor; without it there is one worker.

    ``worker`` is the row to count into; None only looks on. Requests that reach no model count for the name ``""``, and
    so does what the worker counts as a whole. Raises LoadError for a name that finds no place.
    """

    def __init__(self, models: Iterable[str] = (), worker: int | None = 0, fd: int | None = None) -> None:
        self._fd = fd
        if fd is None:
            self._memory = mmap.mmap(-1, _size(1))
        else:
            self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._header = memoryview(self._memory)[: 8 * _HEADER].cast("d")
        if fd is None:
            self._header[_ROWS] = self._header[_LIVE] = self._header[_WANTED] = 1
        rows = int(self._header[_ROWS])
        self._numbers = np.frombuffer(self._memory, np.float64, offset=_NUMBERS_AT).reshape(NAMES_MAX, rows, WIDTH)
        self._worker = worker
        self._places: dict[str, int] = {}
        self._meters: dict[str, Meter] = {}
        self._callers: dict[str, Caller] = {}
        self._one_at_a_time = threading.Lock()
        for name in ("", *models):
            self._place(name)

    @classmethod
    def memory_for(cls, workers: int) -> int:
        """A file descriptor of memory for the numbers of so many workers, to be inherited by them."""
        fd = os.memfd_create("graphpipe-counters", 0)
        os.ftruncate(fd, _size(workers))
        os.pwrite(fd, np.float64(workers).tobytes(), 8 * _ROWS)
        return fd

    # --- to count ---

    def meter(self, name: str) -> Meter:
        """Where one model's requests are counted: one and the same for a name, however often it comes. Any thread may
        ask. Raises LoadError for a name that finds no place.
        """
        meter = self._meters.get(name)
        if meter is None:
            assert self._worker is not None, "who only looks on counts nothing"
            meter = self._meters.setdefault(name, Meter(self._numbers[self._place(name), self._worker]))
        return meter

    def caller(self, name: str) -> Caller:
        """Where one caller's requests are counted: one and the same for a name. The first of a server's life each have
        numbers of their own, all others have some in common.
        """
        caller = self._callers.get(name)
        if caller is None:
            assert self._worker is not None, "who only looks on counts nothing"
            known = [each for each in self.names() if each.startswith(CALLER)]
            shown = name if len(known) < CALLERS_MAX or CALLER + name in known else _OTHERS
            caller = self._callers[name] = Caller(name, self._numbers[self._place(CALLER + shown), self._worker])
        return caller

    def gauge(self, name: str, value: float) -> None:
        """Set one of the worker's own numbers."""
        self.meter("").gauge(name, value)

    def publish(self) -> None:
        """Let the other workers see this worker's numbers."""
        for _ in self.publishing():
            pass

    def publishing(self) -> Iterator[None]:
        """The same in steps, one for each model."""
        for caller in self._callers.values():
            caller.publish()
        for meter in [*self._meters.values()]:
            meter.publish()
            yield

    # --- to read ---

    def names(self) -> list[str]:
        """The names that have a place, in the order in which they came; the first is ``""``."""
        known, count = len(self._places), int(self._header[_NAMES])
        for place in range(known, count):  # other workers came upon these
            at = _NAMES_AT + place * _NAME_BYTES
            size = int.from_bytes(self._memory[at : at + 2], "little")
            self._places.setdefault(self._memory[at + 2 : at + 2 + size].decode("utf-8", "surrogatepass"), place)
        return [*self._places]

    def totals(self) -> NDArray[np.float64]:
        """What all workers have published, together: a row for each of ``names``, as the families are laid out."""
        rows = self._numbers[: len(self.names())]
        totals: NDArray[np.float64] = rows.sum(axis=1)
        totals[:, _LARGEST] = rows[:, :, _LARGEST].max(axis=1)
        return totals

    def total(self, family: str, name: str = "") -> float:
        """One number of all workers together: a counter, a gauge, how often a histogram saw something."""
        self.publish()
        numbers = self.totals()[self._place(name)][START[family] :]
        return float(
            numbers[: len(FAMILY[family].buckets) + 1].sum() if FAMILY[family].kind == "histogram" else numbers[0]
        )

    # --- the supervisor's numbers ---

    @property
    def workers_live(self) -> int:
        """How many workers are up."""
        return int(self._header[_LIVE])

    @property
    def workers_wanted(self) -> int:
        """How many should be."""
        return int(self._header[_WANTED])

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return int(self._header[_RESTARTS])

    def supervise(self, live: int, wanted: int, restarts: int) -> None:
        """Say how the workers are."""
        self._header[_LIVE], self._header[_WANTED], self._header[_RESTARTS] = live, wanted, restarts

    def forget_gauges_of(self, worker: int) -> None:
        """A worker is gone: what it had open is closed."""
        self._numbers[: len(self.names()), worker, _GAUGES] = 0.0

    # --- places ---

    def _place(self, name: str) -> int:
        """Where a name's numbers are; the next place for a new one."""
        place = self._places.get(name)
        if place is not None:
            return place
        encoded = name.encode("utf-8", "surrogatepass")
        if len(encoded) > _NAME_BYTES - 2:
            raise LoadError(f"a model's name may have {_NAME_BYTES - 2} bytes; {name[:40]!r}... has {len(encoded)}")
        with self._one_at_a_time, self._locked():
            self.names()
            place = self._places.get(name)
            if place is None:
                place = int(self._header[_NAMES])
                if place == NAMES_MAX:
                    raise LoadError(
                        f"model {name!r} cannot be counted: this server has had {NAMES_MAX - 1} names of models, and "
                        "counts each of them to its end; start it again to serve new ones"
                    )
                at = _NAMES_AT + place * _NAME_BYTES
                self._memory[at : at + 2 + len(encoded)] = len(encoded).to_bytes(2, "little") + encoded
                # Only now: who looks on without the lock sees whole names.
                self._header[_NAMES] = place + 1
                self._places[name] = place
        return place

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other process adds a name meanwhile. The lock goes with the process that holds it."""
        if self._fd is None or sys.platform == "win32":
            yield
            return
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)


def _size(workers: int) -> int:
    return _NUMBERS_AT + NAMES_MAX * workers * WIDTH * 8
