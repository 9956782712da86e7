"""``graphpipe cache``: what the row caches under a folder hold, and how to be rid of it.

Works beside servers that use the same caches. Deleting files is left to when nobody has them open; rows of a cache in use
are dropped, and its server computes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from graphpipe.server.stages.cache.file import StoreUnavailable
from graphpipe.server.stages.cache.store import RowStore, StoreCounts, remove

__all__ = ["CacheReport", "clear", "do_clear", "show_stats", "stats"]


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What is known of one model's cache: its counts, or why there are none."""

    model: str
    counts: StoreCounts | None
    problem: str = ""


def stats(folder: Path, models: tuple[str, ...] = ()) -> list[CacheReport]:
    """What the caches under a folder hold: those of some models, or all."""
    reports = []
    for model, path in _caches(folder, models):
        try:
            store = RowStore.open(path)
        except StoreUnavailable as error:
            reports.append(CacheReport(model, None, str(error)))
            continue
        try:
            reports.append(CacheReport(model, store.counts()))
        finally:
            store.close()
    return reports


def clear(folder: Path, models: tuple[str, ...] = ()) -> list[str]:
    """Drop all rows, and the files too where nobody has them open. Gives the models whose caches are empty now."""
    cleared = []
    for model, path in _caches(folder, models):
        if not remove(path):
            store = RowStore.open(path)
            try:
                store.clear()
            finally:
                store.close()
        cleared.append(model)
    return cleared


def _caches(folder: Path, models: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.glob("*.rows")) if folder.is_dir() else ():
        model = unquote(path.name.removesuffix(".rows"))
        if not models or model in models:
            yield model, path


def show_stats(folder: Path, models: tuple[str, ...] = ()) -> str:
    """``graphpipe cache stats``: a table for people."""
    reports = stats(folder, models)
    if not reports:
        return f"there is no such row cache under {folder}"
    width = max(len("model"), *(len(report.model) for report in reports))
    lines = [f"{'model':<{width}}  {'rows':>12}  {'MiB used':>10}  {'limit MiB':>10}  {'MiB on disk':>11}"]
    for report in reports:
        counts = report.counts
        if counts is None:
            lines.append(f"{report.model:<{width}}  {report.problem}")
        else:
            used, limit, disk = (size / (1 << 20) for size in (counts.bytes, counts.bytes_max, counts.file_bytes))
            lines.append(f"{report.model:<{width}}  {counts.rows:>12,}  {used:>10.1f}  {limit:>10.1f}  {disk:>11.1f}")
    return "\n".join(lines)


def do_clear(folder: Path, models: tuple[str, ...] = ()) -> str:
    """``graphpipe cache clear``: what was cleared, for people. Raises StoreUnavailable."""
    cleared = clear(folder, models)
    return f"cleared: {', '.join(cleared)}" if cleared else f"there is no such row cache under {folder}"
