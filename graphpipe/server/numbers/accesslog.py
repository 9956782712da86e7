"""A line for each request, as long as somebody can read them: under load a sample, and how many were left out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

__all__ = ["Access", "AccessLog"]

log = logging.getLogger("graphpipe.access")


@dataclass(slots=True)
class Access:
    """What a line says. Never anything of a tensor's contents."""

    status: int
    model: str
    rows: int
    bytes_in: int
    bytes_out: int
    seconds: float
    peer: str
    request_id: str


class AccessLog:
    """Lets ``lines_per_s`` lines through. The caller asks ``wanted`` first: what is left out should cost nothing."""

    def __init__(self, lines_per_s: int) -> None:
        self._lines_per_s = lines_per_s
        self._left = lines_per_s
        self._omitted = 0

    def wanted(self) -> bool:
        """Whether the next request gets a line; if not, it is counted."""
        if self._left > 0:
            return True
        self._omitted += self._lines_per_s > 0
        return False

    def write(self, access: Access) -> None:
        """One line."""
        self._left -= 1
        log.info(
            "%s %s rows=%d in=%d out=%d %.3f ms %s%s",
            access.status,
            access.model or "-",
            access.rows,
            access.bytes_in,
            access.bytes_out,
            access.seconds * 1000,
            access.peer,
            f" id={access.request_id}" if access.request_id else "",
            extra={"access": access},
        )

    def next_second(self) -> None:
        """A new second begins: new lines may be written, and what was left out is told."""
        if self._omitted:
            log.info("and %d more requests in this second", self._omitted)
        self._left, self._omitted = self._lines_per_s, 0
