"""A chunked body, taken apart as it comes (RFC 9112, 7.1). No sockets, and no memory of the body's size.

Strict, since a server that reads a chunk differently from the proxy before it can be made to see requests that nobody
sent: lines end in CRLF and nothing else, a size is hexadecimal digits and nothing else. What may follow a size
(extensions) and the last chunk (trailers) means nothing here: it is checked, bounded and dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from graphpipe.errors import MalformedMessage

__all__ = ["Chunks"]

# A size with its extensions; and all trailers together.
_LINE_BYTES_MAX = 1024
_TRAILER_BYTES_MAX = 16 * 1024
# Extensions of all chunks together may be this much, and as much again as the body has: else a body of single bytes costs
# a thousand times what it brings.
_EXTENSION_BYTES_MAX = 16 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t\x20-\x7e\x80-\xff]*")


class Chunks:
    """One chunked body on its way in. It is ``done`` after the last empty line.

    ``announce`` is called with each chunk's size before anything of it is taken; it may raise.
    """

    __slots__ = ("_announce", "_extensions", "_left", "_line", "_take_line", "_trailers", "done")

    def __init__(self, announce: Callable[[int], None]) -> None:
        self.done = False
        self._announce = announce
        self._left = 0  # bytes of the current chunk still to come
        self._line = b""  # what has come of the current line
        self._extensions = self._trailers = 0
        self._take_line = self._take_size

    def feed(self, data: memoryview, take: Callable[[memoryview], None]) -> int:
        """Call ``take`` with each piece of the body in ``data``; say how many bytes came after the end of all.

        Raises MalformedMessage if this is not chunked.
        """
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                take(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                at += self._feed_line(bytes(data[at : at + _LINE_BYTES_MAX + 2]))
        return end - at

    def _feed_line(self, data: bytes) -> int:
        """Take the rest of a line from the start of ``data``, or all of it, and say how much that was."""
        newline = data.find(b"\n") + 1
        taken = newline or len(data)
        line = self._line = self._line + data[:taken]
        if len(line) > _LINE_BYTES_MAX + 2:
            raise MalformedMessage(f"a line between the chunks of the body has more than {_LINE_BYTES_MAX} bytes")
        if newline:
            if not line.endswith(b"\r\n"):
                raise MalformedMessage("a line between the chunks of the body does not end in CRLF")
            self._line = b""
            self._take_line(line[:-2])
        return taken

    def _take_size(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None:
            raise MalformedMessage(f"a chunk of the body starts with {line[:40]!r}, not with its size")
        self._left = int(size[1], 16)
        self._extensions += len(line) - len(size[1]) - self._left
        if self._extensions > _EXTENSION_BYTES_MAX:
            raise MalformedMessage("the chunks of the body have more extensions than content")
        self._extensions = max(0, self._extensions)
        self._announce(self._left)
        self._take_line = self._take_end if self._left else self._take_trailer

    def _take_end(self, line: bytes) -> None:
        if line:
            raise MalformedMessage("a chunk of the body is longer than it says")
        self._take_line = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self.done = not line
        self._trailers += len(line)
        if line and (_TRAILER.fullmatch(line) is None or self._trailers > _TRAILER_BYTES_MAX):
            raise MalformedMessage(f"what follows the last chunk of the body is no field, or too many: {line[:40]!r}")
