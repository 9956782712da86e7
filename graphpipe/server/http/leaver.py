"""A caller whose sending side is closed before he has his answer: has he only said all, or is he gone?

TCP tells both in the same way, and a caller who has only said all is owed his answer. One who is gone refuses whatever is
sent to him. So he is sent an interim answer, which every caller of HTTP/1.1 has to read over, and nothing happens to one
who is there. HTTP/1.0 knows none: what takes longer there is taken for a hang-up. A Unix socket tells the two apart.
"""

from __future__ import annotations

import asyncio
import select
import socket

__all__ = ["Leaver"]

_STILL_AT_IT = b"HTTP/1.1 100 Continue\r\n\r\n"


class Leaver:
    """Asked now and then, as long as nothing of the answer is out. ``knows_interim``: he speaks HTTP/1.1."""

    def __init__(self, transport: asyncio.Transport, knows_interim: bool) -> None:
        self._transport = transport
        self.knows_interim = knows_interim
        self._asked = False

    def is_gone(self) -> bool:
        """Whether he is known to be gone by now. Every second question is final."""
        connection = self._transport.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return True
        watched = select.poll()
        watched.register(connection.fileno(), 0)  # errors and hang-ups are told in any case
        if watched.poll(0):
            return True
        if connection.family == getattr(socket, "AF_UNIX", None):
            return False
        if self._asked:
            return not self.knows_interim
        self._asked = True
        if self.knows_interim:
            self._transport.write(_STILL_AT_IT)
        return False
