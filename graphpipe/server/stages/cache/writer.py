"""Rows on their way to disk, behind the answers that they came with.

One thread writes what has gathered, a batch at a time. What waits is bounded: when the disk is slower than the model,
rows are left out, and nobody waits for them. A disk that fails costs a warning and the rows of a while.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import lmdb

from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.stages.cache.keys import output_key, pack, pack_all
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.stage import Outputs

__all__ = ["BROKEN", "RowWriter", "WriteCounts"]

log = logging.getLogger("graphpipe.cache")

_WAITING_BYTES_MAX = 64 << 20
# Rows gather for this long, so that a commit, which waits for the disk, serves many.
_GATHER_S = 0.02
# After a failure nothing is written for this long.
_PAUSE_S = 10.0

# A file in this state can only be given up: what is read from it may be anything.
BROKEN = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.InvalidError, lmdb.VersionMismatchError)


@dataclass(slots=True)
class WriteCounts:
    """What has happened so far, for metrics. ``left_out`` rows were not stored, for want of room, time or a disk."""

    stored: int = 0
    evicted: int = 0
    left_out: int = 0
    errors: int = 0


@dataclass(slots=True)
class _Rows:
    keys: Sequence[bytes]
    outputs: Outputs
    whole: bool
    done: Callable[[], None]


class RowWriter:
    """Writes to one store. ``broken`` says that the store's file can no longer be trusted."""

    def __init__(self, store: RowStore) -> None:
        self.counts = WriteCounts()
        self.broken = False
        self._store = store
        self._rows: list[_Rows] = []
        self._bytes = 0
        self._keep: set[bytes] = set()
        self._wake = threading.Condition()
        self._closing = False
        self._pause_until = 0.0
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)
        self._thread.start()

    def write(self, keys: Sequence[bytes], outputs: Outputs, whole: bool, done: Callable[[], None]) -> bool:
        """Take rows to write: each output for itself, or ``whole``, all outputs of a row together.

        ``done`` is called from the writing thread when they are stored or given up.

        False, and nothing is taken, if too much is waiting.
        """
        size = sum(array.nbytes for array in outputs.values())
        with self._wake:
            if self._closing or self.broken or self._bytes + size > _WAITING_BYTES_MAX:
                self.counts.left_out += len(keys)
                return False
            self._rows.append(_Rows(keys, outputs, whole, done))
            self._bytes += size
            self._wake.notify()
        return True

    def keep(self, keys: Sequence[bytes]) -> None:
        """Have rows that were found in the older generation moved into the current one."""
        with self._wake:
            if len(self._keep) < 65536:
                self._keep.update(keys)
                self._wake.notify()

    def give_up(self, error: Exception) -> None:
        """Stop using the store: what is read from it is not what was written."""
        if not self.broken:
            self.broken = True
            self._store.distrust()
            log.warning("the row cache in %s is damaged and is not used any more: %s", self._store.folder, error)

    def close(self) -> None:
        """Write what waits, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while self._next():
            pass  # no name may keep the last rows alive while this thread waits for the next

    def _next(self) -> bool:
        """Wait for rows, and write them. False when all is over."""
        with self._wake:
            while not (self._rows or self._keep or self._closing):
                self._wake.wait()
            if not self._closing:
                self._wake.wait_for(lambda: self._closing, _GATHER_S)
            rows, self._rows = self._rows, []
            keep, self._keep = self._keep, set()
            if self._closing and not rows and not keep:
                return False
        try:
            self._write(rows, keep)
        except BaseException as error:  # whatever a row is, this thread goes on
            self.counts.errors += 1
            self.counts.left_out += sum(len(part.keys) for part in rows)
            FAILURES.tell(log, "rows for %s are left out", self._store.folder, error=error, level=logging.WARNING)
        size = sum(array.nbytes for part in rows for array in part.outputs.values())
        with self._wake:
            self._bytes -= size
        for part in rows:
            part.done()
        return True

    def _write(self, rows: Sequence[_Rows], keep: set[bytes]) -> None:
        values = []
        for part in rows:
            columns = (
                [(output_key(None), pack_all(part.outputs))]
                if part.whole
                else [(output_key(name), pack(array)) for name, array in part.outputs.items()]
            )
            for suffix, packed in columns:
                if packed is not None and (not packed or self._store.fits(max(map(len, packed)))):
                    values += [(key + suffix, value) for key, value in zip(part.keys, packed, strict=True)]
                else:
                    self.counts.left_out += len(part.keys)
        if self.broken or monotonic() < self._pause_until:
            self.counts.left_out += len(values)
            return
        try:
            try:
                written = self._store.write(values, [*keep])
            except lmdb.MapFullError:
                self.counts.evicted += self._store.make_room()
                written = self._store.write(values, [*keep])
            self.counts.stored += written.stored
            self.counts.evicted += written.evicted
        except BROKEN as error:
            self.counts.errors += 1
            self.give_up(error)
        except Exception as error:
            self.counts.errors += 1
            self.counts.left_out += len(values)
            self._pause_until = monotonic() + _PAUSE_S
            log.warning("rows cannot be written to %s (%s); trying again in %g s", self._store.folder, error, _PAUSE_S)
