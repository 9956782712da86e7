"""What it means that no answer came, and the words for it: the same for every client."""

from __future__ import annotations

import os
import socket
import struct

from graphpipe.client.address import Address
from graphpipe.errors import NoAnswer, TimedOut, Unreachable

__all__ = ["NotSent", "never_arrived", "not_in_time", "unanswered", "unreachable"]


class NotSent(NoAnswer):
    """A reused connection was closed before the server can have read the request: it did not run."""


def unanswered(address: Address, *, may_send_again: bool) -> NoAnswer:
    """The error of a connection that was closed without an answer.

    ``may_send_again``: the connection had been used before, and the server cannot have read the whole request.
    """
    if may_send_again:
        return NotSent(f"{address.url} closed the connection before it read the request")
    return NoAnswer(f"{address.url} closed the connection without an answer")


def unreachable(address: Address, error: OSError) -> Unreachable:
    """The error of a connection that could not be made."""
    reason = error.strerror or str(error)
    return Unreachable(f"no connection to {address.url}: {reason}; is a server running there?")


class _NotInTime(Unreachable, TimedOut):
    """No connection could be made in time."""


def not_in_time(address: Address) -> Unreachable:
    """The error of a connection that was not made in time: Unreachable, and TimedOut."""
    return _NotInTime(f"{address.url} did not accept a connection in time")


def never_arrived(fd: int, bytes_sent_before: int, error: Exception | None) -> bool:
    """Whether a server that closed a connection cannot have read the whole of its last request.

    TCP: what its kernel has not acknowledged, its program cannot have read. The kernel says how far that goes when it
    closes the connection in order; a reset (``error``) does not, and may follow a request that was read. Unix sockets:
    a reset says that something was left unread.
    """
    reset = isinstance(error, ConnectionResetError)
    if not hasattr(socket, "TCP_INFO") or fd < 0:
        return False
    try:
        with socket.socket(fileno=os.dup(fd)) as view:
            if view.family == socket.AF_UNIX or reset:
                return reset and view.family == socket.AF_UNIX
            info = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    except OSError:
        return False
    # tcpi_bytes_acked; the connection's own first acknowledgement counts as one.
    return len(info) == 128 and int(struct.unpack_from("<Q", info, 120)[0]) <= bytes_sent_before + 1
