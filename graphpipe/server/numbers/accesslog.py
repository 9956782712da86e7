"""A line for each request, as long as somebody can read them: under load a sample, and how many were left out."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Protocol

from graphpipe.server.numbers.caller import Caller
from graphpipe.words import counted, visible

__all__ = ["NOBODY_KNOWS", "Access", "AccessLog", "Asked", "Question", "shown_path"]

log = logging.getLogger("graphpipe.access")


# Enough of a path for a line.
_PATH_MAX = 200


class Asked(Protocol):
    """What a line says of a request's head: the head itself is one, on the hot route."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def request_id(self) -> str: ...

    @property
    def caller(self) -> Caller | None: ...


@dataclass(frozen=True, slots=True)
class Question:
    """The same, of a head that was read in another way."""

    method: str = ""
    path: str = ""
    request_id: str = ""
    caller: Caller | None = None


NOBODY_KNOWS = Question()


def shown_path(path: str) -> str:
    """A path that fits into a line: escaped as it came, without what follows a question mark, and not all of a long one."""
    path = path.partition("?")[0]
    return visible(path if len(path) <= _PATH_MAX else f"{path[:_PATH_MAX]}...")


@dataclass(slots=True)
class Access:
    """What a line says. Never anything of a tensor's contents."""

    status: int
    method: str
    path: str
    model: str
    rows: int
    bytes_in: int
    bytes_out: int
    seconds: float
    peer: str
    request_id: str
    caller: str


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
            "%s %s %s %s rows=%d in=%d out=%d %.3f ms %s%s%s",
            access.status,
            access.method or "-",
            access.path or "-",
            access.model or "-",
            access.rows,
            access.bytes_in,
            access.bytes_out,
            access.seconds * 1000,
            access.peer,
            f" id={access.request_id}" if access.request_id else "",
            f" caller={_shown(access.caller)}" if access.caller else "",
            extra={"access": access},
        )

    def next_second(self) -> None:
        """A new second begins: new lines may be written, and what was left out is told."""
        if self._omitted:
            log.info("and %s in this second", counted(self._omitted, "more request"))
        self._left, self._omitted = self._lines_per_s, 0


def _shown(caller: str) -> str:
    """A name as one word of a line: in quotes if it has more than one, or might be taken for more."""
    return json.dumps(caller, ensure_ascii=False) if any(char in ' ="\\' for char in caller) else caller
