"""Rows that are already known come from the store; only the others go on.

A row's key holds everything that determines its answer (keys.py), the model's version included, so a row is never
answered for another model, config or input. What a request lacks is computed in a *flight* (flights.py), and equal rows
asked for at the same time share one. Rows that are computed but not yet on disk are answered from memory.

Whatever the cache cannot do rightly it leaves to the next stage: requests without rows, outputs that do not follow the
rows, rows whose shapes do not fit together, a flight that failed for somebody else's row, an upstream that changed
meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, replace

import lmdb

from graphpipe.errors import InvalidRequest, let_go
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.stages.cache.answer import Answer
from graphpipe.server.stages.cache.flights import Flight, Flights
from graphpipe.server.stages.cache.keys import RowKeys, output_key, unpack, unpack_alike, unpack_all
from graphpipe.server.stages.cache.reading import Reading
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.server.stages.cache.upstream import UpstreamVersion
from graphpipe.server.stages.cache.writer import BROKEN, RowWriter
from graphpipe.server.stages.rows import TEXT_REMEMBERED_MAX, Against, RowEvidence, row_count, text_of_names
from graphpipe.server.stages.stage import Outputs, Request, Stage
from graphpipe.words import first_line

__all__ = ["CacheCounts", "ModelIdentity", "RowCache"]

log = logging.getLogger("graphpipe.cache")

# Hashing this much takes 0.3 ms (large rows) to 1 ms (small ones), which the other callers would feel. Below it a thread
# costs more than it spares: it takes and gives back the interpreter's lock for each row, and has to be woken.
_OFF_LOOP_FROM = 1024 * 1024

# Of more strings than this nobody adds up the lengths on the loop.
_STRINGS_MAX = 1024

_REFUSED_MAX = 256


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What makes a model the same one: its digest, or its upstream's, and what else tells it from another: the manner in
    which it is loaded and called (manner.py), and what the user declared.
    """

    version: str | UpstreamVersion
    declared: str = ""


@dataclass(slots=True)
class CacheCounts:
    """What has happened so far, for metrics; all but ``passed`` count rows.

    ``shared`` rows were computed for somebody who asked at the same time. ``passed`` requests could not be cached.
    """

    hits: int = 0
    misses: int = 0
    shared: int = 0
    passed: int = 0
    errors: int = 0


class RowCache:
    """Answers known rows. Belongs to one event loop."""

    def __init__(
        self,
        store: RowStore,
        following: Stage,
        identity: ModelIdentity,
        keys: RowKeys,
        evidence: RowEvidence,
        *,
        ttl_s: float = 0.0,
        whole_requests: bool = False,
        meter: Meter | None = None,
    ) -> None:
        self.counts = CacheCounts()
        self.writer = RowWriter(store)
        self._store = store
        self._next = following
        self._identity = identity
        self._keys = keys
        self._evidence = evidence
        self._ttl_s = ttl_s
        # A model that takes one number of rows only cannot be asked for the missing ones alone.
        self._whole_requests = whole_requests
        self._refused: set[tuple[str, ...]] = set()
        self._proving: set[tuple[str, ...]] = set()
        self._suffixes: dict[str, bytes] = {}
        self._flights = Flights()
        self._fresh: dict[bytes, tuple[Outputs, int]] = {}
        self._forgotten = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._meter = meter
        if meter is not None:
            meter.follow(self.numbers)

    async def infer(self, request: Request) -> Outputs:
        """What the next stage would give, of which as much as possible is already known."""
        rows = row_count(request.inputs)
        if (
            not rows
            or self.writer.broken
            or self._evidence.rules_out(request)
            or text_of_names(request) > TEXT_REMEMBERED_MAX
        ):
            return await self._pass(request)
        version = self._identity.version
        if not isinstance(version, str):
            version = await version.now()
            if not version:
                return await self._pass(request)
        asked = tuple(dict.fromkeys(request.outputs))
        if asked in self._refused:
            return await self._pass(request)
        if rows > 1 and not self._evidence.holds(request):
            return await self._prove(request, asked, rows, version)
        found = await self._look(request, asked, rows, version)
        if found is None:
            return await self._pass(request)
        if not found.missing:
            self.counts.hits += rows
            return found.outputs
        return await self._complete(request, asked, version, found)

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return self._next.waiting

    def numbers(self) -> dict[str, float]:
        """What it has counted, as metrics."""
        counts, written = self.counts, self.writer.counts
        return {
            "graphpipe_cache_hits": counts.hits,
            "graphpipe_cache_misses": counts.misses,
            "graphpipe_cache_shared": counts.shared,
            "graphpipe_cache_passed": counts.passed,
            "graphpipe_cache_stored": written.stored,
            "graphpipe_cache_evicted": written.evicted,
            "graphpipe_cache_left_out": written.left_out,
            "graphpipe_cache_errors": counts.errors + written.errors,
        }

    def admit(self) -> None:
        """Nobody is refused unread: it may all be known."""

    def close(self) -> None:
        """Write what waits, and close the store."""
        self.writer.close()
        self._store.close()
        self._next.close()
        if self._meter is not None:
            self._meter.leave(self.numbers)

    # --- what is known ---

    async def _look(self, request: Request, asked: tuple[str, ...], rows: int, version: str) -> _Found | None:
        def look() -> _Found | None:
            keys = self._keys_of(request, asked, rows, version)
            return None if keys is None else self._read(keys, asked)

        if _is_little(request):
            return look()
        forgotten = self._forgotten
        found = await asyncio.get_running_loop().run_in_executor(None, look)
        if found is not None and found.missing and self._forgotten != forgotten:
            # Rows that were still in memory then may be in the store alone now.
            found = self._read(found.keys, asked)
        return found

    def _keys_of(self, request: Request, asked: tuple[str, ...], rows: int, version: str) -> list[bytes] | None:
        # Where the model decides what to answer, its rows are kept as wholes, apart from those of named outputs.
        identity = (version, self._identity.declared, *(() if asked else ("all outputs",)))
        return self._keys.of(identity, request.config, request.inputs, rows)

    def _read(self, keys: list[bytes], asked: tuple[str, ...]) -> _Found:
        hits: list[int] = []
        outputs: Outputs = {}
        try:
            with self._store.reading(self._ttl_s) as reading:
                outputs = self._read_all(reading, keys, asked)
                if outputs:
                    return _Found(keys, list(range(len(keys))), [], outputs)
                hits, outputs = self._read_some(reading, keys, asked)
                self.counts.errors += reading.bad
            if reading.old:
                self.writer.keep(reading.old)
        except BROKEN as error:
            self.counts.errors += 1
            self.writer.give_up(error)
        except (lmdb.Error, ValueError, TypeError, LookupError, struct.error) as error:
            self.counts.errors += 1
            FAILURES.tell(log, "the row cache could not be read", error=error, level=logging.WARNING)
        known = set(hits)
        return _Found(keys, hits, [i for i in range(len(keys)) if i not in known], outputs)

    def _read_all(self, reading: Reading, keys: list[bytes], asked: tuple[str, ...]) -> Outputs:
        """The usual case made quick: everything is there, numbers of one shape. Nothing if it is not so."""
        outputs: Outputs = {}
        for name in asked:
            suffix = self._suffix(name)
            block = reading.get_alike([key + suffix for key in keys])
            array = None if block is None else unpack_alike(block)
            if array is None:
                return {}
            outputs[name] = array
        return outputs

    def _read_some(self, reading: Reading, keys: list[bytes], asked: tuple[str, ...]) -> tuple[list[int], Outputs]:
        """The rows whose outputs are all there, and these outputs."""
        columns = []
        for name in asked or ("",):
            suffix = self._suffix(name)
            columns.append(reading.get([key + suffix for key in keys]))
        hits = [i for i, row in enumerate(zip(*columns, strict=True)) if all(value is not None for value in row)]
        outputs: Outputs = {}
        for name, column in zip(asked or ("",), columns, strict=True):
            values = [value for i in hits if (value := column[i]) is not None]
            if not asked:
                outputs = unpack_all(values) or {}
            elif values and (array := unpack(values)) is not None:
                outputs[name] = array
        return (hits, outputs) if len(outputs) >= max(len(asked), 1) else ([], {})

    def _suffix(self, name: str) -> bytes:
        suffix = self._suffixes.get(name)
        if suffix is None:
            if len(self._suffixes) >= _REFUSED_MAX:
                self._suffixes.clear()
            suffix = self._suffixes[name] = output_key(name or None)
        return suffix

    # --- what is not ---

    async def _complete(self, request: Request, asked: tuple[str, ...], version: str, found: _Found) -> Outputs:
        keys = found.keys
        rows = len(keys)
        answer = Answer(rows)
        answer.add(found.outputs, found.hits, range(len(found.hits)))
        flights: dict[Flight, list[int]] = {}
        mine: dict[bytes, list[int]] = {}
        for i in found.missing:
            key = keys[i]
            fresh = self._fresh.get(key)
            flight = self._flights.find(key, asked)
            if key in mine:
                mine[key].append(i)
            elif fresh is not None and all(name in fresh[0] for name in asked):
                answer.add(fresh[0], [i], [fresh[1]])
                self.counts.hits += 1
            elif flight is not None:
                flights.setdefault(flight, []).append(i)
                self.counts.shared += 1
            else:
                mine[key] = [i]
        self.counts.hits += len(found.hits)
        own: Flight | None = None
        if mine:
            self.counts.misses += len(mine)
            indices = [places[0] for places in mine.values()]
            if self._whole_requests:
                indices = list(range(rows))
            own = Flight([keys[i] for i in indices], frozenset(asked), version)
            work = self._compute(own, request, asked, None if len(indices) == rows else indices)
            self._flights.begin(own, mine, self._begin(work))
        waiting = [*flights, *([own] if own else [])]
        if waiting:
            await self._flights.wait(waiting)
        if own is not None and own.error is not None and not own.moved:
            error, own.error = own.error, None
            try:
                raise error
            finally:
                del error  # it remembers this frame
        if any(flight.outputs is None for flight in waiting):
            # Outputs do not follow the rows, or somebody else's row or deadline ended the flight that had mine too.
            return await self._pass(request)
        if own is not None and own.outputs is not None:
            if len(own.keys) == rows and not answer.rows and not flights:
                return own.outputs
            for place, indices in zip(self._places(own, mine), mine.values(), strict=True):
                answer.add(own.outputs, indices, [place] * len(indices))
        for flight, indices in flights.items():
            if flight.outputs is not None:
                answer.add(flight.outputs, indices, [flight.keys.index(keys[i]) for i in indices])
        if any(flight.moved for flight in waiting):
            return await self._pass(request)  # rows of two models must not meet in one answer
        outputs = answer.put_together(asked)
        return outputs if outputs is not None else await self._pass(request)

    @staticmethod
    def _places(flight: Flight, keys: dict[bytes, list[int]]) -> list[int]:
        at = {key: i for i, key in enumerate(flight.keys)}
        return [at[key] for key in keys]

    async def _compute(
        self, flight: Flight, request: Request, asked: tuple[str, ...], indices: list[int] | None
    ) -> None:
        try:
            if indices is not None:
                request = await self._rows_of(request, indices)
            outputs = await self._next.infer(request)
            against = self._evidence.add(request, outputs, len(flight.keys))
            if against is not None:
                self._refuse(asked, against)
                return
            flight.outputs = outputs
            flight.moved = await self._has_moved(flight.version)
            if not flight.moved:
                self._store_rows(flight.keys, outputs, asked)
        except Exception as error:
            flight.error = let_go(error)
            # The names that it was asked for may be those of the model before.
            flight.moved = isinstance(error, InvalidRequest) and await self._has_moved(flight.version)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _has_moved(self, since: str) -> bool:
        version = self._identity.version
        return not isinstance(version, str) and await version.now() != since

    async def _rows_of(self, request: Request, indices: list[int]) -> Request:
        def cut() -> Outputs:
            return {name: array[indices] for name, array in request.inputs.items()}

        size = sum(array.nbytes for array in request.inputs.values())
        inputs = cut() if size < _OFF_LOOP_FROM else await asyncio.get_running_loop().run_in_executor(None, cut)
        return replace(request, inputs=inputs, run_s=0.0)

    def _store_rows(self, keys: list[bytes], outputs: Outputs, asked: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        outputs = {name: outputs[name] for name in asked or outputs}

        def forget() -> None:
            self._forgotten += 1
            for key in keys:
                fresh = self._fresh.get(key)
                if fresh is not None and fresh[0] is outputs:
                    del self._fresh[key]

        def done() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it all this
                loop.call_soon_threadsafe(forget)

        if self.writer.write(keys, outputs, not asked, done):
            for i, key in enumerate(keys):
                self._fresh[key] = (outputs, i)

    # --- what cannot be known by rows ---

    async def _pass(self, request: Request) -> Outputs:
        self.counts.passed += 1
        return await self._next.infer(request)

    async def _prove(self, request: Request, asked: tuple[str, ...], rows: int, version: str) -> Outputs:
        """The plain answer, and what it says about outputs and rows; one more call if only that can tell.

        Once they are known to follow the rows, those of this request are known too.
        """
        outputs = await self._pass(request)
        against = self._evidence.add(request, outputs, rows)
        if against is not None:
            self._refuse(asked, against)
        elif self._evidence.holds(request):
            self._begin(self._keep(request, asked, rows, version, outputs))
        elif asked not in self._proving:
            self._proving.add(asked)
            task = self._begin(self._probe(request, asked, rows, version, outputs))
            task.add_done_callback(lambda _: self._proving.discard(asked))
        return outputs

    async def _probe(self, request: Request, asked: tuple[str, ...], rows: int, version: str, outputs: Outputs) -> None:
        try:
            one = await self._rows_of(request, [0])
            against = self._evidence.add(one, await self._next.infer(one), 1)
        except Exception as error:
            log.info("one row alone could not be computed: %s", first_line(error))
            return
        if against is not None:
            self._refuse(asked, against)
        elif self._evidence.holds(request):
            await self._keep(request, asked, rows, version, outputs)

    async def _keep(self, request: Request, asked: tuple[str, ...], rows: int, version: str, outputs: Outputs) -> None:
        """Store the rows of a request that was answered before anybody knew that it has rows."""
        loop = asyncio.get_running_loop()
        if _is_little(request):
            keys = self._keys_of(request, asked, rows, version)
        else:
            keys = await loop.run_in_executor(None, self._keys_of, request, asked, rows, version)
        if keys is not None and not await self._has_moved(version):
            self._store_rows(keys, outputs, asked)

    def _refuse(self, asked: tuple[str, ...], against: Against) -> None:
        if asked not in self._refused and len(self._refused) < _REFUSED_MAX:
            self._refused.add(asked)
            log.warning("output %r %s; it is not cached", against.output, against.why)


def _is_little(request: Request) -> bool:
    """Whether the keys of its rows are a moment's work."""
    size = 0
    for array in request.inputs.values():
        if array.dtype.kind != "O":
            size += array.nbytes
        elif array.size > _STRINGS_MAX:
            return False
        else:
            size += sum([len(item) for item in array.ravel().tolist() if isinstance(item, bytes | str)])
    return size < _OFF_LOOP_FROM


@dataclass(slots=True)
class _Found:
    """What the store has: outputs of the rows ``hits``, in that order; the rows ``missing`` are not there."""

    keys: list[bytes]
    hits: list[int]
    missing: list[int]
    outputs: Outputs
