"""Letting go of what strangers gave us, in a thread, since it can take as long as they like.

To close a socket can mean to wait until its last bytes are sent, to close a file can mean to ask the program behind its
file system, and to give back memory takes longer the more it is. Whoever serves others must not wait for any of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque

__all__ = ["discard", "waiting"]


def discard(things: list[object]) -> None:
    """Close descriptors (numbers) and drop references (all else), soon, and elsewhere. The list is empty then."""
    if things:
        _bin.take(things)


def waiting() -> int:
    """How many things wait for their end. If they are many, somebody's cannot be closed: take no more of them."""
    return _bin.waiting()


class _Bin:
    """Its thread lives only while there is something to do."""

    def __init__(self) -> None:
        self._things: deque[object] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, things: list[object]) -> None:
        with self._lock:
            while things:
                self._things.append(things.pop())
            # In a child of a fork there is none, whatever its parent had.
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._empty, name="graphpipe-discard", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread is to be had: they wait for the next one
                self._thread = None

    def waiting(self) -> int:
        return len(self._things)

    def _empty(self) -> None:
        while True:
            with self._lock:
                if not self._things:
                    self._thread = None
                    return
                thing = self._things[0]  # it counts until it is gone
            if isinstance(thing, int):
                with contextlib.suppress(OSError):  # its last bytes could not be written: they are not ours
                    os.close(thing)
            with self._lock:
                self._things.popleft()
            del thing


_bin = _Bin()
