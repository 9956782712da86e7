"""The file of a store: whose it is, who has it open, how large it may grow, and whether it is as it was left.

LMDB survives a killed process by its design, but not a file that something else wrote to: so whoever opens a folder that
nobody else has open, and that was not left in order, has its file checked by a process of its own, and starts anew if that
fails. A shared file lock tells who is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lmdb

from graphpipe.errors import GraphPipeError

__all__ = [
    "GENERATIONS",
    "StoreUnavailable",
    "UntrustedFolder",
    "check_trust",
    "current_of",
    "leave_in_order",
    "limit_of",
    "lock",
    "make_sound",
    "open_environment",
    "prepare",
    "set_current",
]

log = logging.getLogger("graphpipe.cache")

_FORMAT = b"graphpipe rows 2"
_META = struct.Struct("<16sBQ")  # format, current generation, limit in bytes
GENERATIONS = (b"rows0", b"rows1")
_CHECK_TIMEOUT_S = 60.0
_BYTES_MAX_LEAST = 1 << 20


class StoreUnavailable(GraphPipeError):
    """The store cannot be used; the message says why."""


class UntrustedFolder(StoreUnavailable):
    """Somebody else may have written what is in the folder; the message says how to mend it."""


def check_trust(folder: Path) -> None:
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


def lock(file: int, how: int, timeout_s: float = 0) -> bool:
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


def open_environment(folder: Path, bytes_max: int, **options: Any) -> Any:
    """LMDB's environment in a folder, for a store of this limit."""
    # Twice the limit: the map cannot grow while others use it, and a full one could not even drop a generation. Pages
    # are written and not mapped for writing, so a full disk is an error and not a signal.
    return lmdb.open(
        str(folder),
        map_size=2 * bytes_max + (1 << 20),
        max_dbs=len(GENERATIONS),
        max_readers=1024,
        metasync=False,
        readahead=False,
        mode=0o600,
        max_spare_txns=8,
        **options,
    )


def prepare(environment: Any, folder: Path, bytes_max: int) -> None:
    """Note this program's version and the limit in a fresh file. Raises StoreUnavailable for one of another version."""
    with environment.begin(write=True) as transaction:
        meta = transaction.get(b"meta")
        if meta is None:
            set_current(transaction, 0, bytes_max)
        elif _META.unpack(meta)[0] != _FORMAT:
            raise StoreUnavailable(f"{folder} is in use by another version of this program")


def current_of(transaction: Any) -> int:
    """Which of the GENERATIONS is the current one."""
    return int(_META.unpack(transaction.get(b"meta"))[1])


def set_current(transaction: Any, current: int, bytes_max: int) -> None:
    """Make it this one."""
    transaction.put(b"meta", _META.pack(_FORMAT, current, bytes_max))


def limit_of(folder: Path, bytes_max: int) -> int:
    """The limit that holds: of those who have the store open the first decided, since all must map the same size."""
    if not (folder / "data.mdb").exists():
        return bytes_max or _BYTES_MAX_LEAST
    with (
        lmdb.open(str(folder), readonly=True, max_dbs=len(GENERATIONS), max_readers=1024) as environment,
        environment.begin() as transaction,
    ):
        meta = transaction.get(b"meta")
    if meta is None or len(meta) != _META.size or _META.unpack(meta)[0] != _FORMAT:
        return bytes_max or _BYTES_MAX_LEAST
    held = int(_META.unpack(meta)[2])
    if bytes_max not in (0, held):
        log.warning("%s is in use with a limit of %d bytes, which holds instead of %d", folder, held, bytes_max)
    return held


def make_sound(folder: Path, bytes_max: int) -> None:
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
        program = Path(__file__).with_name("soundness.py")
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
    with open_environment(folder, bytes_max or _BYTES_MAX_LEAST) as environment:
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


def leave_in_order(folder: Path) -> None:
    """Note what the file looks like, which nobody has open any more: so far nobody else has written to it."""
    with contextlib.suppress(OSError):
        (folder / "in-order").write_text(_signature_of(folder))


def _was_left_in_order(folder: Path) -> bool:
    try:
        return (folder / "in-order").read_text() == _signature_of(folder)
    except OSError:
        return False
