"""A row as it is stored: a checksum of all the rest, when it was written, and its bytes. And a look at them."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.stages.cache.soundness import checksums, checksums_of

__all__ = ["Reading", "stored_values"]

# In front of a value: a checksum of key and all that follows, seconds since 1970, and how many bytes at the end are none.
_HEAD = np.dtype([("checksum", "<u8"), ("stamp", "<u4"), ("padding", "<u4")])
_STAMP = struct.Struct("<II")


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


def stored_values(rows: Sequence[tuple[bytes, bytes]], stamp: int) -> list[bytes]:
    """What is stored for some rows: checksum, time, how much padding there is at the end, and the value."""
    bodies = []
    for _, value in rows:
        padding = -len(value) % 8
        bodies.append(_STAMP.pack(stamp, padding) + value + bytes(padding))
    sums = checksums([key for key, _ in rows], bodies).astype("<u8").tobytes()
    return [sums[8 * i : 8 * i + 8] + body for i, body in enumerate(bodies)]
