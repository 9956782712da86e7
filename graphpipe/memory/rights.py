"""Whether the other end of a socket may pass descriptors by it.

Who receives one that he did not look for closes it, and what a stranger has passed may make whoever closes it last wait for
as long as the stranger likes.
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["take_none", "take_some"]

# Linux has it from 6.16 on; Python has no name for it yet.
_SO_PASSRIGHTS = 83


def take_none(sock: socket.socket) -> None:
    """Have none come by a Unix socket, where the system can, nor by the connections of one that listens."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        _set(sock, wanted=False)


def take_some(sock: socket.socket) -> None:
    """Have them come by this connection again."""
    _set(sock, wanted=True)


def _set(sock: socket.socket, *, wanted: bool) -> None:
    with contextlib.suppress(OSError):  # an older system, where they always come
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, int(wanted))
