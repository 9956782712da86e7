"""Rows on disk: an LMDB environment that all processes serving a model share. Knows bytes, no arrays.

There are two generations of rows. New rows go into the current one; when it has reached half of the limit the older one
is dropped and the roles change. A row found in the older generation is moved into the current one, so what is used
stays.

A cache may be lost at any time, but it must never be wrong, and never be the reason that a request fails. Values carry a
checksum over key and value (store_check.py). LMDB survives a killed process by its design, but not a file that something
else wrote to: so whoever opens a folder that nobody else has open, and that was not left in order, has its file checked
by a process of its own, and starts anew if that fails. A shared file lock tells who is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import lmdb
import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import GraphPipeError
from graphpipe.server.stages.store_check import checksums, checksums_of

__all__ = ["RowStore", "StoreCounts", "StoreUnavailable", "UntrustedFolder", "Written", "cache_folder", "store_folder"]

log = logging.getLogger("graphpipe.cache")

_FORMAT = b"graphpipe rows 2"
_META = struct.Struct("<16sBQ")  # format, current generation, limit in bytes
# In front of a value: a checksum of key and all that follows, seconds since 1970, and how many bytes at the end are none.
_HEAD = np.dtype([("checksum", "<u8"), ("stamp", "<u4"), ("padding", "<u4")])
_STAMP = struct.Struct("<II")
_GENERATIONS = (b"rows0", b"rows1")
_CHECK_TIMEOUT_S = 60.0
_LOCK_TIMEOUT_S = 70.0

_PAGE_BYTES = 4096
_BYTES_MAX_LEAST = 1 << 20
_GENERATION_SHARE = 0.42

# One transaction is not held open for more than this.
_TRANSACTION_BYTES = 16 << 20


class StoreUnavailable(GraphPipeError):
    """The store cannot be used; the message says why."""


class UntrustedFolder(StoreUnavailable):
    """Somebody else may have written what is in the folder; the message says how to mend it."""


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
                    _check_trust(part)
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
            if _lock(self._lock_file, fcntl.LOCK_EX):
                _make_sound(folder, bytes_max)
            if not _lock(self._lock_file, fcntl.LOCK_SH, _LOCK_TIMEOUT_S):
                raise StoreUnavailable(f"{folder} is locked by another program")
            self.bytes_max = _limit_of(folder, bytes_max)
            self._environment = _environment(folder, self.bytes_max)
            try:
                self._environment.reader_check()
                self._generations = [self._environment.open_db(name) for name in _GENERATIONS]
                self._prepare()
            except BaseException:
                self._environment.close()
                raise
        except BaseException:
            os.close(self._lock_file)
            raise

    def _prepare(self) -> None:
        with self._environment.begin(write=True) as transaction:
            meta = transaction.get(b"meta")
            if meta is None:
                transaction.put(b"meta", _META.pack(_FORMAT, 0, self.bytes_max))
            elif _META.unpack(meta)[0] != _FORMAT:
                raise StoreUnavailable(f"{self.folder} is in use by another version of this program")

    def close(self) -> None:
        """Close the files, once the last user of this object has done so."""
        with self._opening:
            self._users -= 1
            if self._users:
                return
            del self._open[self.folder]
            self._environment.close()
            if self._in_order and _lock(self._lock_file, fcntl.LOCK_EX):
                _leave_in_order(self.folder)
            os.close(self._lock_file)

    def distrust(self) -> None:
        """Have the file checked when it is next opened by a process that has it for itself."""
        self._in_order = False

    # --- reading ---

    @contextlib.contextmanager
    def reading(self, ttl_s: float = 0) -> Iterator[Reading]:
        """A consistent look at the rows. What it gives must not be looked at after its end."""
        with self._environment.begin(buffers=True) as transaction:
            current = _META.unpack(transaction.get(b"meta"))[1]
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
            values = _values(batch, now)
            with self._environment.begin(write=True) as transaction:
                current = self._current(transaction)
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
                current = self._current(transaction)
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
            older = self._generations[1 - _META.unpack(transaction.get(b"meta"))[1]]
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

    def _current(self, transaction: Any) -> int:
        return int(_META.unpack(transaction.get(b"meta"))[1])

    def _turn_over(self, coming: int) -> int:
        """Change the generations' roles if the current one has no room for so much more; gives what that evicted."""
        with self._environment.begin() as transaction:
            if not self._is_full(transaction, coming):
                return 0
        # In a transaction of its own: pages that it frees can only be used by later ones.
        with self._environment.begin(write=True) as transaction:
            if not self._is_full(transaction, coming):  # another process was quicker
                return 0
            current = self._current(transaction)
            older = self._generations[1 - current]
            evicted = int(transaction.stat(older)["entries"])
            transaction.drop(older, delete=False)
            transaction.put(b"meta", _META.pack(_FORMAT, 1 - current, self.bytes_max))
        self._environment.reader_check()
        return evicted

    def _is_full(self, transaction: Any, coming: int) -> bool:
        used = _bytes_of(transaction.stat(self._generations[self._current(transaction)]))
        # Less than half: freed pages lie idle for a while, and the list of them needs some too.
        return used > 0 and used + coming > self.bytes_max * _GENERATION_SHARE


class Reading:
    """One look at the rows. ``old``: keys of rows found in the older generation; ``bad``: how many were damaged."""

    __slots__ = ("_current", "_get", "_newest", "_older", "_oldest", "bad", "old")

    def __init__(self, transaction: Any, current: Any, older: Any, ttl_s: float) -> None:
        self._get = transaction.get
        self._current = current
        self._older = older
        # A clock that was set back must not make rows live longer.
        now = int(time.time())
        self._oldest = now - ttl_s if ttl_s else 0.0
        self._newest = now + 60 if ttl_s else 1 << 32
        self.old: list[bytes] = []
        self.bad = 0

    def get_alike(self, keys: Sequence[bytes]) -> NDArray[np.uint8] | None:
        """The values under all keys, a copy, one in each line; None unless all are there, equally long and in order."""
        get, current = self._get, self._current
        values = [get(key, None, current) for key in keys]
        if any(value is None for value in values) or len(set(map(len, values))) > 1:
            return None
        block = b"".join(values)
        size = len(block) // len(keys)
        if size < 16 or size % 8:
            return None
        words = np.frombuffer(block, "<u8").reshape(len(keys), -1)
        heads = np.ndarray(len(keys), _HEAD, block, 0, (size,))
        stamps, padding = heads["stamp"], heads["padding"]
        if (
            (
                words[:, 0] != checksums_of(np.frombuffer(b"".join(keys), "<u8").reshape(len(keys), -1), words[:, 1:])
            ).any()
            or int(stamps.min()) < self._oldest
            or int(stamps.max()) > self._newest
            or (padding != padding[0]).any()
        ):
            return None
        return np.frombuffer(block, np.uint8).reshape(len(keys), size)[:, 16 : size - int(padding[0])]

    def get(self, keys: Sequence[bytes]) -> list[memoryview | None]:
        """The value under each key; None where there is none, or it is too old or damaged."""
        get, current, older = self._get, self._current, self._older
        values: list[memoryview | None] = [get(key, None, current) for key in keys]
        old = []
        for i, value in enumerate(values):
            if value is None:
                values[i] = value = get(keys[i], None, older)
                if value is not None:
                    old.append(i)
        there = [i for i, value in enumerate(values) if value is not None and len(value) >= 16 and not len(value) % 8]
        if not there:
            return [None] * len(keys)
        found = [value for i in there if (value := values[i]) is not None]
        heads = np.frombuffer(b"".join([value[:16] for value in found]), _HEAD)
        right = heads["checksum"] == checksums([keys[i] for i in there], [value[8:] for value in found])
        self.bad += len(there) - int(right.sum())
        stamps = heads["stamp"]
        good = (right & (stamps >= self._oldest) & (stamps <= self._newest)).tolist()
        rows: list[memoryview | None] = [None] * len(keys)
        for i, value, padding, ok in zip(there, found, heads["padding"].tolist(), good, strict=True):
            if ok:
                rows[i] = value[16 : len(value) - padding]
        self.old += [keys[i] for i in old if rows[i] is not None]
        return rows


def _values(rows: Sequence[tuple[bytes, bytes]], stamp: int) -> list[bytes]:
    """What is stored for some rows: checksum, time, how much padding there is at the end, and the value."""
    bodies = []
    for _, value in rows:
        padding = -len(value) % 8
        bodies.append(_STAMP.pack(stamp, padding) + value + bytes(padding))
    sums = checksums([key for key, _ in rows], bodies).astype("<u8").tobytes()
    return [sums[8 * i : 8 * i + 8] + body for i, body in enumerate(bodies)]


# --- files ------------------------------------------------------------------------------------------------------------


def _check_trust(folder: Path) -> None:
    """Rows are answers: whoever may write them answers our callers. Raises UntrustedFolder."""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise UntrustedFolder(
            f"the cache folder {folder} belongs to user {status.st_uid}, and this server runs as user {os.geteuid()}: "
            f"chown -R {os.geteuid()} it, or choose another with --cache-dir"
        )
    if status.st_mode & stat.S_IWOTH:
        raise UntrustedFolder(
            f"anybody may write to the cache folder {folder}: chmod o-w it, or choose another with --cache-dir"
        )
    if status.st_mode & stat.S_IWGRP:
        log.warning("group %d may write to the cache folder %s, and so change answers", status.st_gid, folder)


def _lock(file: int, how: int, timeout_s: float = 0) -> bool:
    """Take a lock, waiting for at most so long."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(0.05)


def _environment(folder: Path, bytes_max: int, **options: Any) -> Any:
    # Twice the limit: the map cannot grow while others use it, and a full one could not even drop a generation. Pages
    # are written and not mapped for writing, so a full disk is an error and not a signal.
    return lmdb.open(
        str(folder),
        map_size=2 * bytes_max + (1 << 20),
        max_dbs=len(_GENERATIONS),
        max_readers=1024,
        metasync=False,
        readahead=False,
        mode=0o600,
        max_spare_txns=8,
        **options,
    )


def _limit_of(folder: Path, bytes_max: int) -> int:
    """The limit that holds: of those who have the store open the first decided, since all must map the same size."""
    if not (folder / "data.mdb").exists():
        return bytes_max or _BYTES_MAX_LEAST
    with (
        lmdb.open(str(folder), readonly=True, max_dbs=len(_GENERATIONS), max_readers=1024) as environment,
        environment.begin() as transaction,
    ):
        meta = transaction.get(b"meta")
    if meta is None or len(meta) != _META.size or _META.unpack(meta)[0] != _FORMAT:
        return bytes_max or _BYTES_MAX_LEAST
    held = int(_META.unpack(meta)[2])
    if bytes_max not in (0, held):
        log.warning("%s is in use with a limit of %d bytes, which holds instead of %d", folder, held, bytes_max)
    return held


def _make_sound(folder: Path, bytes_max: int) -> None:
    """With nobody else there: start anew unless the file is as this program left it, or can be read as a whole."""
    data = folder / "data.mdb"
    if not data.exists():
        return
    reason = _unsound(folder, bytes_max)
    if reason:
        log.warning("the row cache in %s %s; it starts anew", folder, reason)
        for name in ("data.mdb", "lock.mdb"):
            (folder / name).unlink(missing_ok=True)
    (folder / "in-order").unlink(missing_ok=True)


def _unsound(folder: Path, bytes_max: int) -> str:
    data = folder / "data.mdb"
    if not _was_left_in_order(folder):
        program = Path(__file__).with_name("store_check.py")
        try:
            check = subprocess.run(
                [sys.executable, "-I", str(program), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"could not be checked within {_CHECK_TIMEOUT_S:g} s"
        if check.returncode:
            return "is damaged, or of another version"
    with _environment(folder, bytes_max or _BYTES_MAX_LEAST) as environment:
        with environment.begin() as transaction:
            meta = transaction.get(b"meta")
        if meta is None or len(meta) != _META.size or _META.unpack(meta)[0] != _FORMAT:
            return "was written by another version of this program"
        _, current, held = _META.unpack(meta)
        bytes_max = bytes_max or held
        if data.stat().st_size > 2 * bytes_max:
            return f"has grown larger than its limit of {bytes_max} bytes allows"
        with environment.begin(write=True) as transaction:
            transaction.put(b"meta", _META.pack(_FORMAT, current, bytes_max))
    return ""


def _signature_of(folder: Path) -> str:
    status = (folder / "data.mdb").stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _leave_in_order(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / "in-order").write_text(_signature_of(folder))


def _was_left_in_order(folder: Path) -> bool:
    try:
        return (folder / "in-order").read_text() == _signature_of(folder)
    except OSError:
        return False


def remove(folder: Path) -> bool:
    """Delete a store's files, if no process has it open."""
    file = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(file, fcntl.LOCK_EX):
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
