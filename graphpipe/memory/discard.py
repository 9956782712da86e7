"""Letting go of what strangers gave us, in a thread, since it can take as long as they like.

To close a socket can mean to wait until its last bytes are sent, to close a file can mean to ask the program behind its
file system, and to give back memory takes longer the more it is. Whoever serves others must not wait for any of it.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import threading
from collections import deque
from time import monotonic

__all__ = ["discard", "waiting"]

# Behind one that waits for a stranger so long, others do not wait: another thread goes on with them.
_LONG_S = 0.5
_THREADS_MAX = 8
# As many as the kernel passes at once.
_PASSED_MAX = 253
_NOT_AT_ALL = struct.pack("ii", 0, 0)


def discard(things: list[object]) -> None:
    """Close descriptors (numbers) and connections (sockets), and drop references (all else), soon, and elsewhere. The list
    is empty then.

    What a connection has not read is read first: descriptors may be among it, which are closed like all others.
    """
    if things:
        _bin.take(things)


def waiting() -> int:
    """How many things wait for their end. If they are many, somebody's cannot be closed: take no more of them."""
    return _bin.waiting()


class _Bin:
    """Its threads live only while there is something to do."""

    def __init__(self) -> None:
        self._things: deque[object] = deque()
        self._lock = threading.Lock()
        # What each is at since when. Only its own thread takes it away, and so a child of a fork starts anew.
        self._since: dict[threading.Thread, float] = {}

    def take(self, things: list[object]) -> None:
        with self._lock:
            while things:
                self._things.append(things.pop())
            self._have_a_thread()

    def waiting(self) -> int:
        count = len(self._things) + len(self._since)
        if self._things and count > 1:
            with self._lock:
                self._have_a_thread()
        return count

    def forked(self) -> None:
        """In a child there is no thread, whatever its parent had, and nobody who has the lock."""
        self._lock = threading.Lock()
        self._since.clear()

    def _have_a_thread(self) -> None:
        long_ago = monotonic() - _LONG_S
        if len(self._since) >= _THREADS_MAX or any(since > long_ago for since in self._since.values()):
            return
        thread = threading.Thread(target=self._empty, name="graphpipe-discard", daemon=True)
        self._since[thread] = monotonic()
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: they wait for the next one
            del self._since[thread]

    def _empty(self) -> None:
        me = threading.current_thread()
        while True:
            with self._lock:
                if not self._things:
                    del self._since[me]
                    return
                thing = self._things.popleft()
                self._since[me] = monotonic()
            with contextlib.suppress(OSError):  # its last bytes could not be written: they are not ours
                if isinstance(thing, int):
                    _close(thing)
                elif isinstance(thing, socket.socket):
                    _close_connection(thing)
            del thing


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # it is no socket
        sock = socket.socket(fileno=descriptor)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOT_AT_ALL)  # its bytes are sent without us
        finally:
            sock.detach()
    os.close(descriptor)


def _close_connection(connection: socket.socket) -> None:
    try:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # nothing is left
            while True:
                data, control, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4 * _PASSED_MAX))
                for level, kind, passed in control:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        for descriptor in array.array("i", passed[: len(passed) // 4 * 4]):
                            with contextlib.suppress(OSError):
                                _close(descriptor)
                if not data:
                    break
    finally:
        connection.close()


_bin = _Bin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_bin.forked)
