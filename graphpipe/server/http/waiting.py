"""Descriptors that strangers have sent: whether any come at all, how many may wait, and how they are closed."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Sequence

__all__ = ["Waiting", "take_none", "take_some"]

# Whether a socket takes any (Linux from 6.16 on; Python has no name for it yet).
_SO_PASSRIGHTS = 83


def take_none(listener: socket.socket) -> None:
    """Have no descriptors come to a listener's connections, where the system can: to close what a stranger has sent may take
    as long as he likes, and nobody asked for it.
    """
    if listener.family == getattr(socket, "AF_UNIX", None):
        _set(listener, wanted=False)


def take_some(connection: socket.socket) -> None:
    """Have them come to this connection again."""
    _set(connection, wanted=True)


def _set(connection: socket.socket, *, wanted: bool) -> None:
    with contextlib.suppress(OSError):  # an older system, where they always come
        connection.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, int(wanted))


class Waiting:
    """The descriptors that have come and belong to no request: on all connections together, so that callers who send
    nothing else leave some for files and for other callers. ``count`` of them may become a request's.

    The others are closed in a thread: what a stranger has sent may make whoever closes it last wait for long. When there are
    ``most``, no more are taken in: the kernel closes them.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._unwanted: deque[int] = deque()
        self._lock = threading.Lock()
        self._closer: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more are taken in."""
        return self.count + len(self._unwanted) >= self.most

    def close(self, descriptors: Sequence[int]) -> None:
        """Close these, soon."""
        if not descriptors:
            return
        with self._lock:
            self._unwanted += descriptors
            if self._closer is None:
                closer = threading.Thread(target=self._close, name="closer", daemon=True)
                with contextlib.suppress(RuntimeError):  # the machine has none to give: the next one closes them too
                    closer.start()
                    self._closer = closer

    def _close(self) -> None:
        while True:
            while self._unwanted:
                with contextlib.suppress(OSError):  # of what it is, that something else went wrong
                    os.close(self._unwanted[0])
                self._unwanted.popleft()
            with self._lock:
                if not self._unwanted:
                    self._closer = None
                    return
