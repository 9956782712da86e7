"""Rows on disk: an LMDB environment that all processes serving a model share. Knows bytes, no arrays.

There are two generations of rows. New rows go into the current one; when it has reached half of the limit the older one
is dropped and the roles change. A row found in the older generation is moved into the current one, so what is used
stays.

A cache may be lost at any time, but it must never be wrong, and never be the reason that a request fails: values carry
checksums (reading.py), and the file is looked at before it is trusted (file.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import lmdb

from graphpipe.server.stages.cache.file import (
    GENERATIONS,
    StoreUnavailable,
    check_trust,
    current_of,
    leave_in_order,
    limit_of,
    lock,
    make_sound,
    open_environment,
    prepare,
    set_current,
)
from graphpipe.server.stages.cache.reading import Reading, stored_values

__all__ = ["RowStore", "StoreCounts", "Written", "cache_folder", "remove", "store_folder"]

_LOCK_TIMEOUT_S = 70.0

_PAGE_BYTES = 4096
_GENERATION_SHARE = 0.42

# One transaction is not held open for more than this.
_TRANSACTION_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What a store holds."""

    rows: int
    bytes: int
    bytes_max: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """What writing some rows did."""

    stored: int
    evicted: int


def cache_folder(path: str) -> Path:
    """The folder of this name, where ~ is the user's home. Raises StoreUnavailable if the user has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise StoreUnavailable(f"{path}: this user has no home folder; set HOME, or name another folder") from None


def store_folder(cache_folder: Path, model: str) -> Path:
    """Where the rows of a model are."""
    return cache_folder / f"{quote(model, safe='')}.rows"


class RowStore:
    """Rows by key. Safe in threads; one object per folder and process, however often it is opened."""

    _open: ClassVar[dict[Path, RowStore]] = {}
    _opening = threading.Lock()

    @classmethod
    def open(cls, folder: Path, bytes_max: int = 0) -> RowStore:
        """The store in a folder, made if need be; 0 leaves the limit that it has. Raises StoreUnavailable."""
        with cls._opening:
            try:
                for part in (folder.parent, folder):
                    part.mkdir(parents=True, exist_ok=True, mode=0o700)
                    check_trust(part)
                real = folder.resolve()
                store = cls._open.get(real)
                if store is None:
                    store = cls._open[real] = cls(real, bytes_max)
                store._users += 1
                return store
            except (lmdb.Error, OSError) as error:
                raise StoreUnavailable(f"{folder}: {error}") from error

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self.folder = folder
        self._users = 0
        self._in_order = True
        self._lock_file = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if lock(self._lock_file, fcntl.LOCK_EX):
                make_sound(folder, bytes_max)
            if not lock(self._lock_file, fcntl.LOCK_SH, _LOCK_TIMEOUT_S):
                raise StoreUnavailable(f"{folder} is locked by another program")
            self.bytes_max = limit_of(folder, bytes_max)
            self._environment = open_environment(folder, self.bytes_max)
            try:
                self._environment.reader_check()
                self._generations = [self._environment.open_db(name) for name in GENERATIONS]
                prepare(self._environment, folder, self.bytes_max)
            except BaseException:
                self._environment.close()
                raise
        except BaseException:
            os.close(self._lock_file)
            raise

    def close(self) -> None:
        """Close the files, once the last user of this object has done so."""
        with self._opening:
            self._users -= 1
            if self._users:
                return
            del self._open[self.folder]
            self._environment.close()
            if self._in_order and lock(self._lock_file, fcntl.LOCK_EX):
                leave_in_order(self.folder)
            os.close(self._lock_file)

    def distrust(self) -> None:
        """Have the file checked when it is next opened by a process that has it for itself."""
        self._in_order = False

    # --- reading ---

    @contextlib.contextmanager
    def reading(self, ttl_s: float = 0) -> Iterator[Reading]:
        """A consistent look at the rows. What it gives must not be looked at after its end."""
        with self._environment.begin(buffers=True) as transaction:
            current = current_of(transaction)
            yield Reading(transaction, self._generations[current], self._generations[1 - current], ttl_s)

    def counts(self) -> StoreCounts:
        """How much there is."""
        with self._environment.begin() as transaction:
            sizes = [transaction.stat(generation) for generation in self._generations]
        size = (self.folder / "data.mdb").stat()
        return StoreCounts(
            sum(int(size["entries"]) for size in sizes),
            sum(map(_bytes_of, sizes)),
            self.bytes_max,
            size.st_blocks * 512,
        )

    # --- writing ---

    def write(self, rows: Sequence[tuple[bytes, bytes]], keep: Sequence[bytes] = ()) -> Written:
        """Store rows, and move those under the keys to ``keep`` into the current generation. Blocks for a disk's time.

        Raises lmdb.Error, after which nothing or only a part of it is stored.
        """
        now = int(time.time())
        step = min(_TRANSACTION_BYTES, self.bytes_max // 32)
        # First what is to be kept: the generation that it is in may be dropped to make room for the rest.
        self._keep(keep, step)
        evicted = 0
        # A row changes a page wherever its key falls, and pages that are replaced lie idle for a while: hence batches.
        for batch in _batches(rows, step):
            evicted += self._turn_over(step)
            batch.sort()
            values = stored_values(batch, now)
            with self._environment.begin(write=True) as transaction:
                current = current_of(transaction)
                for (key, _), value in zip(batch, values, strict=True):
                    transaction.put(key, value, db=self._generations[current])
        return Written(len(rows), evicted)

    def _keep(self, keys: Sequence[bytes], step: int) -> None:
        """Move rows from the older generation into the current one, as far as there is room for them."""
        waiting = sorted(keys)
        while waiting:
            size = 0
            with self._environment.begin(write=True) as transaction:
                if self._is_full(transaction, step):
                    return
                current = current_of(transaction)
                while waiting and size < step:
                    key = waiting.pop()
                    value = transaction.pop(key, db=self._generations[1 - current])
                    if value is not None:
                        transaction.put(key, value, db=self._generations[current])
                    size += _PAGE_BYTES + _room(value or b"")

    def fits(self, size: int) -> bool:
        """Whether a value of this size may be kept: one that takes a good part of the room would evict all others."""
        return size <= self.bytes_max // 32

    def make_room(self) -> int:
        """Drop the older generation ahead of its time; gives how many rows it had."""
        with self._environment.begin(write=True) as transaction:
            older = self._generations[1 - current_of(transaction)]
            rows = int(transaction.stat(older)["entries"])
            transaction.drop(older, delete=False)
        return rows

    def clear(self) -> int:
        """Drop all rows; gives how many there were."""
        with self._environment.begin(write=True) as transaction:
            rows = sum(int(transaction.stat(generation)["entries"]) for generation in self._generations)
            for generation in self._generations:
                transaction.drop(generation, delete=False)
        return rows

    def _turn_over(self, coming: int) -> int:
        """Change the generations' roles if the current one has no room for so much more; gives what that evicted."""
        with self._environment.begin() as transaction:
            if not self._is_full(transaction, coming):
                return 0
        # In a transaction of its own: pages that it frees can only be used by later ones.
        with self._environment.begin(write=True) as transaction:
            if not self._is_full(transaction, coming):  # another process was quicker
                return 0
            current = current_of(transaction)
            older = self._generations[1 - current]
            evicted = int(transaction.stat(older)["entries"])
            transaction.drop(older, delete=False)
            set_current(transaction, 1 - current, self.bytes_max)
        self._environment.reader_check()
        return evicted

    def _is_full(self, transaction: Any, coming: int) -> bool:
        used = _bytes_of(transaction.stat(self._generations[current_of(transaction)]))
        # Less than half: freed pages lie idle for a while, and the list of them needs some too.
        return used > 0 and used + coming > self.bytes_max * _GENERATION_SHARE


def remove(folder: Path) -> bool:
    """Delete a store's files, if no process has it open."""
    file = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not lock(file, fcntl.LOCK_EX):
            return False
        shutil.rmtree(folder)
        return True
    finally:
        os.close(file)


def _bytes_of(stat: dict[str, Any]) -> int:
    return int(stat["psize"]) * (int(stat["branch_pages"]) + int(stat["leaf_pages"]) + int(stat["overflow_pages"]))


def _room(value: bytes) -> int:
    """About what a value takes in the file: a large one has pages of its own."""
    return len(value) + 128 if len(value) < 1900 else -(-(len(value) + 24) // _PAGE_BYTES) * _PAGE_BYTES + 128


def _batches(rows: Sequence[tuple[bytes, bytes]], size_max: int) -> Iterator[list[tuple[bytes, bytes]]]:
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for row in rows:
        if batch and size >= size_max:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += _PAGE_BYTES + _room(row[1])
    if batch:
        yield batch
