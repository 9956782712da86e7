"""The bytes of HTTP/1.1 that a client of ours sends and understands. No sockets here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from graphpipe.errors import NoAnswer

__all__ = ["HEAD_BYTES_MAX", "Chunks", "ResponseHead", "parse_head", "request_head"]

HEAD_BYTES_MAX = 64 * 1024

_REMEMBERED_BYTES_MAX = 1024
_RETRY_AFTER_S_MAX = 86400.0

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n]*)?\r?$")


def request_head(start: bytes, length: int, timeout_ms: int) -> bytes:
    """The head of a POST of ``length`` bytes; ``start`` is what all requests of a client begin with."""
    return b"%bGraphPipe-Timeout-Ms: %d\r\nContent-Length: %d\r\n\r\n" % (start, timeout_ms, length)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What the head of an answer says. ``length`` is None where the body is chunked or ends with the connection.

    ``memory`` and ``kept`` say what has become of memory that a request showed (client/memory.py); ``upgrade`` is the
    protocol that a connection goes on with.
    """

    status: int
    content_type: str
    length: int | None
    chunked: bool
    keep_alive: bool
    location: str
    server: str
    retry_after_s: float | None
    memory: str = ""
    kept: str = ""
    upgrade: str = ""


def parse_head(head: bytes) -> ResponseHead:
    """The head of an answer, its last empty line included.

    Raises NoAnswer if these are not the bytes of HTTP/1.
    """
    # A server's answers to one kind of call begin alike, but for the second they were sent in.
    return _remembered(head) if len(head) <= _REMEMBERED_BYTES_MAX else _parse(head)


def _parse(head: bytes) -> ResponseHead:
    lines = head.split(b"\n")
    status_line = _STATUS_LINE.match(lines[0])
    if status_line is None:
        raise NoAnswer(f"what came is not HTTP: {lines[0][:60]!r}")
    status = int(status_line[2])
    length: int | None = None
    chunked, content_type, location, server = False, "", "", ""
    retry_after = date = memory = kept = upgrade = b""
    keep_alive = status_line[1] == b"1"
    for line in lines[1:-2]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise NoAnswer(f"what came is not HTTP: header line {line[:60]!r}")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18 or (length is not None and length != int(value)):
                raise NoAnswer(f"the answer's Content-Length is {value[:40]!r}")
            length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise NoAnswer(f"the answer's Transfer-Encoding is {value[:40]!r}; only chunked is understood")
            chunked = True
        elif name == b"content-encoding":
            if value.lower() not in (b"identity", b""):
                raise NoAnswer(f"the answer is compressed ({value[:40]!r}), which was not asked for")
        elif name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"connection":
            words = value.lower().replace(b" ", b"").split(b",")
            keep_alive = (keep_alive or b"keep-alive" in words) and b"close" not in words
        elif name == b"location":
            location = value.decode("latin-1")
        elif name == b"server":
            server = value.decode("latin-1")
        elif name == b"retry-after":
            retry_after = value
        elif name == b"date":
            date = value
        elif name == b"graphpipe-memory":
            memory = value
        elif name == b"graphpipe-memory-kept":
            kept = value
        elif name == b"upgrade":
            upgrade = value
    if status in (101, 204, 304):
        length, chunked = 0, False
    elif chunked:
        # With both lengths there, only one of them is right: nobody knows where the next answer would begin.
        keep_alive = keep_alive and length is None
        length = None
    elif length is None:
        keep_alive = False
    retry_after_s = _retry_after_s(retry_after, date) if retry_after else None
    return ResponseHead(
        status, content_type, length, chunked, keep_alive, location, server, retry_after_s,
        memory.decode("latin-1"), kept.decode("latin-1"), upgrade.decode("latin-1").lower(),
    )  # fmt: skip


def _retry_after_s(value: bytes, date: bytes) -> float | None:
    """Seconds from a Retry-After, which has seconds or a date by the server's own clock; None if it has neither."""
    if re.fullmatch(rb"[0-9]{1,15}", value):
        return min(float(value), _RETRY_AFTER_S_MAX)
    from email.utils import parsedate_to_datetime  # heavy, and rarely needed

    try:
        then, now = (parsedate_to_datetime(text.decode("latin-1")) for text in (value, date))
        return min(max((then - now).total_seconds(), 0.0), _RETRY_AFTER_S_MAX)
    except (ValueError, TypeError, OverflowError):
        return None


_remembered = lru_cache(maxsize=64)(_parse)


class Chunks:
    """Takes a chunked body apart as it comes. ``left`` bytes of the current chunk are still to come."""

    def __init__(self) -> None:
        self.done = False
        self.left = 0
        self._line = b""  # what has come of the current line
        self._take_line = self._take_size

    def feed(self, data: memoryview, body: bytearray) -> int:
        """Append to ``body`` what is the body's in ``data``, and say how many bytes came after the end of all.

        Raises NoAnswer if this is not chunked.
        """
        raw, at = bytes(data), 0
        while at < len(raw) and not self.done:
            if self.left:
                taken = data[at : at + self.left]
                body += taken
                self.left -= len(taken)
                at += len(taken)
                continue
            newline = raw.find(b"\n", at)
            self._line += raw[at : newline if newline >= 0 else None]
            if len(self._line) > HEAD_BYTES_MAX:
                raise NoAnswer("a chunk of the answer has an endless first line")
            if newline < 0:
                return 0
            at = newline + 1
            line, self._line = self._line.strip(b"\r"), b""
            self._take_line(line)
        return len(raw) - at

    def _take_size(self, line: bytes) -> None:
        size = line.partition(b";")[0].strip(b" \t")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size):
            raise NoAnswer(f"a chunk of the answer starts with {line[:40]!r}, not with its size")
        self.left = int(size, 16)
        self._take_line = self._take_end if self.left else self._take_trailer

    def _take_end(self, line: bytes) -> None:
        if line:
            raise NoAnswer("a chunk of the answer is longer than it says")
        self._take_line = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self.done = not line
