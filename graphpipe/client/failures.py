"""What it means that no answer came, and the words for it: the same for every client."""

from __future__ import annotations

import os
import socket
import struct

from graphpipe.client.address import Address
from graphpipe.errors import NoAnswer, Unreachable

__all__ = ["NotSent", "bytes_acknowledged", "unanswered", "unreachable"]


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


def bytes_acknowledged(fd: int) -> int | None:
    """How many bytes the other side's kernel has acknowledged over a TCP socket; None where nobody can say.

    What it has not acknowledged, its program cannot have read.
    """
    if not hasattr(socket, "TCP_INFO") or fd < 0:
        return None
    try:
        with socket.socket(fileno=os.dup(fd)) as view:
            if view.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            info = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    except OSError:
        return None
    # tcpi_bytes_acked; the connection's own first acknowledgement counts as one.
    return int(struct.unpack_from("<Q", info, 120)[0]) - 1 if len(info) == 128 else None
