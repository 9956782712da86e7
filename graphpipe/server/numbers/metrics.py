"""The numbers as Prometheus reads them: one page for all workers, whichever of them is asked.

The text is written here, without prometheus_client: it needs a millisecond for each model, and in a thread of its own
it still keeps the event loop from the interpreter. A page is made in steps of a moment, between which the loop turns.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.numbers.counters import CALLER, Counters
from graphpipe.server.numbers.families import FAMILIES, OTHER, PROTOCOLS, START, STATUS_PLACE, STATUSES, Family
from graphpipe.version import __version__

__all__ = ["CONTENT_TYPE", "Metrics", "Page"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# So long the loop waits at most for a step of the page.
_STEP_S = 0.0005
_PART_CHARS = 64 * 1024
# So many pages are kept for readers who have not taken theirs yet; a further one gets the newest of them.
_PAGES_MAX = 8
_TYPES = {"by_code": "counter"}
# Answers of a model by messages, the protocol that comes first, which are there from the start, at 0.
_WATCHED = frozenset(STATUS_PLACE[status] for status in (200, 400, 500, 502, 503, 504))


class Page:
    """The text, in parts. ``readers`` counts those who are taking it."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = parts
        self.length = sum(map(len, parts))
        self.readers = 0


class Metrics:
    """Pages over a server's counters. Belongs to one event loop."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._making: asyncio.Task[Page] | None = None
        self._taken: list[Page] = []

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """How things are now. Who asks while a page is being made gets that one. It is kept until this is left."""
        page = self._taken[-1] if len(self._taken) >= _PAGES_MAX else await self._made()
        if not page.readers:
            self._taken.append(page)
        page.readers += 1
        try:
            yield page
        finally:
            page.readers -= 1
            if not page.readers:
                self._taken.remove(page)

    async def _made(self) -> Page:
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        # The others who wait for it want it still if this one leaves.
        return await asyncio.shield(self._making)

    async def _make(self) -> Page:
        parts: list[bytes] = []
        pieces: list[str] = []
        size = 0
        try:
            until = perf_counter() + _STEP_S
            for piece in _text(self._counters):
                pieces.append(piece)
                size += len(piece)
                if size >= _PART_CHARS:
                    parts.append("".join(pieces).encode("utf-8", "replace"))
                    pieces.clear()
                    size = 0
                if perf_counter() > until:
                    await asyncio.sleep(0)
                    until = perf_counter() + _STEP_S
            return Page([*parts, "".join(pieces).encode("utf-8", "replace")])
        finally:
            self._making = None


def _text(counters: Counters) -> Iterator[str]:
    """The page, in pieces that take microseconds each."""
    for _ in counters.publishing():
        yield ""
    totals, names = counters.totals(), counters.names()
    yield ""
    callers = [name.startswith(CALLER) for name in names]
    labels = [_escaped(name.removeprefix(CALLER)) for name in names]
    for family in FAMILIES:
        yield _head(family.name, _TYPES.get(family.kind, family.kind), family.help)
        if family.per == "worker":
            yield _template(family).replace("{}", "") % totals[0, START[family.name]]
            continue
        columns, template = totals[:, START[family.name] : START[family.name] + family.width], _template(family)
        for label, is_caller, numbers in zip(labels, callers, columns, strict=False):
            if is_caller == (family.per == "caller"):
                yield _sample(family, template, label, numbers)
    yield _head("graphpipe_workers", "gauge", "Worker processes that are up.")
    yield f"graphpipe_workers {float(counters.workers_live)}\n"
    yield _head("graphpipe_workers_wanted", "gauge", "Worker processes that should be.")
    yield f"graphpipe_workers_wanted {float(counters.workers_wanted)}\n"
    yield _head("graphpipe_worker_restarts", "counter", "How often a worker was started again.")
    yield f"graphpipe_worker_restarts_total {float(counters.restarts)}\n"
    yield _head("graphpipe_build_info", "gauge", "What is running.")
    yield f'graphpipe_build_info{{python="{platform.python_version()}",version="{__version__}"}} 1.0\n'


def _head(name: str, kind: str, meaning: str) -> str:
    name += "_total" * (kind == "counter")
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"


def _template(family: Family) -> str:
    """The lines of one model, with ``{}`` for its name and ``%s`` for each number."""
    name = family.name
    if family.kind == "histogram":
        bounds = [*map(str, family.buckets), "+Inf"]
        lines = [f'{name}_bucket{{le="{bound}",model="{{}}"}} %s\n' for bound in bounds]
        return "".join([*lines, f'{name}_count{{model="{{}}"}} %s\n', f'{name}_sum{{model="{{}}"}} %s\n'])
    if family.kind == "by_code":
        return f'{name}_total{{code="%s",model="{{}}",protocol="%s"}} %s\n'
    labels = f'{{{family.per}="{{}}"}}' if family.per != "worker" else ""
    return f"{name}{'_total' * (family.kind == 'counter')}{labels} %s\n"


def _sample(family: Family, template: str, label: str, numbers: NDArray[np.float64]) -> str:
    """One model's lines. What never happened is left out of histograms, and a code that was never given, but for those that
    are watched: rate() does not see the first of a series that begins with it.
    """
    if family.kind == "histogram":
        *counts, total = numbers.tolist()
        cumulative = [*accumulate(counts)]
        if not cumulative[-1]:
            return ""
        return template.replace("{}", label) % (*cumulative, cumulative[-1], total)
    if family.kind == "by_code":
        line = template.replace("{}", label)
        return "".join(
            line % ("other" if place % len(STATUSES) == OTHER else STATUSES[place % len(STATUSES)], protocol, count)
            for place, count in enumerate(numbers.tolist())
            if count or (label and place in _WATCHED)
            for protocol in (PROTOCOLS[place // len(STATUSES)],)
        )
    return template.replace("{}", label) % float(numbers[0]) if label else ""


def _escaped(name: str) -> str:
    """A model's name between quotation marks, in a template."""
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
