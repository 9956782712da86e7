"""What heads say of memory that is passed beside the bytes (docs/wire.md, "Memory on the same host")."""

from __future__ import annotations

import re

__all__ = ["SWITCHING", "is_upgrade"]

_WORD = b"graphpipe-memory/1"

# The answer to who may pass memory from now on.
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + _WORD + b"\r\n\r\n"

_FIELD = re.compile(rb"([A-Za-z0-9-]{1,64}):[ \t]*([\x20-\x7e]*?)[ \t]*\r\n")
# What whoever asks may say beside: nothing of it asks for more.
_HARMLESS = frozenset((b"host", b"user-agent", b"accept", b"authorization", b"x-request-id"))


def is_upgrade(head: bytes) -> bool:
    """Whether a head asks to pass memory, and for nothing else. It has no body then."""
    line = b"GET / HTTP/1.1\r\n"
    if not head.startswith(line) or _WORD not in head:
        return False
    fields: dict[bytes, bytes] = {}
    at, end = len(line), len(head) - 2
    while at < end:
        field = _FIELD.match(head, at)
        if field is None or (name := field[1].lower()) in fields:
            return False
        fields[name] = field[2]
        at = field.end()
    if fields.pop(b"upgrade", b"") != _WORD or fields.pop(b"connection", b"").lower() != b"upgrade":
        return False
    return b"host" in fields and fields.keys() <= _HARMLESS
