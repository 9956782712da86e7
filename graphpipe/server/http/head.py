"""The heads of hot requests, recognised.

The front serves only requests without surprises: ``POST`` to a plain path, one Host, one Content-Length or chunks and
nothing else that changes how the body is read. This file decides what is one, by a grammar much narrower than HTTP's; for
whatever does not match, None, and aiohttp takes the connection over. It refuses nothing itself, so it cannot be
smuggled past: a head is either exactly this, or somebody else's.

Callers repeat their heads to the byte, so the front remembers what it made of one: 0.3 us instead of 10. Where they do
not, it is by a few fields that are new in every request: these are cut out, and what is left is remembered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from graphpipe.errors import InvalidRequest
from graphpipe.server.http.memory_fields import MemoryRefused, Shown, shown_in
from graphpipe.server.numbers.caller import Caller
from graphpipe.server.protocols.path import path_of

__all__ = [
    "HEAD_BYTES_MAX",
    "Head",
    "Passing",
    "accepted_codings",
    "asked_in",
    "cut",
    "field_of",
    "is_host",
    "may_begin",
    "parse",
    "request_id",
    "request_id_of",
    "version_of",
]

# The largest head that is taken, on either way.
HEAD_BYTES_MAX = 16 * 1024

# Visible ASCII without what would need decoding (%), dropping (#, ?) or an absolute form.
_REQUEST_LINE = re.compile(rb"POST (/[A-Za-z0-9._~!$&'()*+,;=:@/-]*) HTTP/1\.([01])\r\n")
_FIELD = re.compile(
    rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*"
    rb"([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*\r\n"
)

# A tab behind the word belongs to no value (RFC 9110, 5.5), and programs differ in it: aiohttp's parser is one that refuses
# it. Where a body ends is no matter for two opinions.
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked *\r\n", re.IGNORECASE)

# Of a head that cannot be read, as far as it has come. Other words than these may be what was meant for nobody's eyes.
_ASKED = re.compile(rb"[\r\n]*(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE) ([/*][^ \r\n]*)")

# How a body is framed or encoded, or what the connection becomes: none of these is plain.
_ODD = frozenset((b"content-encoding", b"upgrade", b"te", b"trailer", b"http2-settings"))


# An IP address in brackets or a name, and a port; all of it may be missing.
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
# What the beginning of a request looks like, however little of it is there: a method, and what follows it.
_BEGINNING = re.compile(rb"[A-Z][A-Z-]{0,20}(?:\Z| )")
_VERSION = re.compile(rb"[^\r\n]* (HTTP/[0-9]+(?:\.[0-9]+)?)\r?\n")

# Fields that are new in every request, where there are any: who traces it, who passed it on, how long its caller waits.
# The letters in front save looking through the names at every line.
_PASSING = re.compile(
    rb"\r\n(?=[b-gtux])(traceparent|tracestate|baggage|b3|x-b3-[a-z]{1,20}|x-request-id|x-correlation-id"
    rb"|graphpipe-timeout-ms|x-amzn-trace-id|x-cloud-trace-context|uber-trace-id|forwarded|x-forwarded-for"
    rb"|x-forwarded-port|x-real-ip):([\t\x20-\x7e\x80-\xff]*)(?=\r\n)",
    re.IGNORECASE,
)


@dataclass(slots=True)  # not frozen: heads that never repeat cost one each
class Head:
    """What a hot request's head says. ``timeout_ms`` is None where the caller gave none, ``length`` -1 for a body in chunks.

    ``is_old`` is HTTP/1.0, where a connection is kept only for those who ask for it, and has to be told to them.
    ``caller`` is whose key it has, where keys are asked for; ``shown`` is memory that comes beside the body.
    """

    method: ClassVar[str] = "POST"

    path: str
    length: int
    is_old: bool
    keep_alive: bool
    expects_continue: bool
    wants_message: bool
    timeout_ms: int | None
    request_id: str
    caller: Caller | None = None
    shown: Shown | None = None


def parse(head: bytes) -> Head | None:
    """The head of a hot request, its last empty line included; None for any other."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        return None
    at, end = line.end(), len(head) - 2
    fields: dict[bytes, bytes] = {}
    while at < end:
        field = _FIELD.match(head, at)
        if field is None:
            return None
        name = field[1].lower()
        if name in _ODD or (name in fields and name in _ONCE):
            return None
        fields[name] = field[2] or b""
        at = field.end()
    is_old = line[2] == b"0"
    length, encoding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if encoding is not None:
        # With a length as well, or before HTTP/1.1, nobody knows what is meant.
        if length is not None or is_old or not _CHUNKED.search(head):
            return None
    elif length is None or not (length.isdigit() and len(length) < 16):
        return None
    if at != end or b"host" not in fields:
        return None
    connection = fields.get(b"connection", b"close" if is_old else b"keep-alive").lower()
    expect = fields.get(b"expect", b"").lower()
    timeout = fields.get(_TIMEOUT, b"")
    if not _HOST.fullmatch(fields[b"host"]):
        return None
    if connection not in (b"keep-alive", b"close") or expect not in (b"", b"100-continue"):
        return None
    if _TIMEOUT in fields and not _is_timeout(timeout):
        return None
    shown = None
    if _MEMORY in fields or _MEMORY_ANSWER in fields:
        if length is None:
            return None
        try:
            shown = shown_in(fields.get(_MEMORY), fields.get(_MEMORY_ANSWER))
        except MemoryRefused:  # who takes it over says so
            return None
    return Head(
        line[1].decode("ascii"),
        -1 if length is None else int(length),
        is_old,
        connection == b"keep-alive",
        bool(expect) and not is_old,
        b"application/vnd.graphpipe" in fields.get(b"accept", b"").lower(),
        int(timeout) if timeout else None,
        request_id(fields.get(_REQUEST_ID, b"")),
        None,
        shown,
    )


@dataclass(slots=True)
class Passing:
    """What the fields said that were cut out of a head."""

    timeout_ms: int | None = None
    request_id: str = ""

    def joined(self, head: Head) -> Head:
        """What a head says, with what it said before it was cut."""
        return Head(
            head.path,
            head.length,
            head.is_old,
            head.keep_alive,
            head.expects_continue,
            head.wants_message,
            self.timeout_ms,
            self.request_id,
            head.caller,
            head.shown,
        )


def cut(head: bytes) -> tuple[bytes, Passing | None]:
    """A head without the fields that never repeat, and what they said that matters.

    A head without such fields, and one in which such a field is odd, comes back as it is, with None.
    """
    pieces = _PASSING.split(head)
    if len(pieces) == 1:
        return head, None
    passing = Passing()
    for at in range(1, len(pieces), 3):
        name = pieces[at].lower()
        if name == _REQUEST_ID:
            value = pieces[at + 1].strip(b" \t")
            if passing.request_id or not value:
                return head, None
            passing.request_id = request_id(value)
        elif name == _TIMEOUT:
            value = pieces[at + 1].strip(b" \t")
            if passing.timeout_ms is not None or not _is_timeout(value):
                return head, None
            passing.timeout_ms = int(value)
    return b"".join(pieces[::3]), passing


def request_id(value: bytes) -> str:
    """What a caller calls his request, as far as it is sent back and logged: so many characters, all of them visible."""
    return value[:_REQUEST_ID_MAX].translate(_VISIBLE).decode("ascii")


def request_id_of(head: bytes) -> str:
    """The same from a head that is no hot one; empty if there is none."""
    found = _REQUEST_ID_FIELD.search(head)
    return "" if found is None else request_id(found[1].strip(b" \t"))


def accepted_codings(head: bytes) -> str:
    """What the ``Accept-Encoding`` fields of a head say, all together; empty if there is none."""
    return b",".join(_ACCEPT_ENCODING.findall(head)).decode("latin-1")


def field_of(head: bytes, name: str) -> str | None:
    """What a field of a head says that ``parse`` has read; None where there is none.

    Raises InvalidRequest for one that came more than once.
    """
    found = re.findall(rb"\r\n%b:[ \t]*([^\r\n]*)(?=\r\n)" % re.escape(name.encode()), head, re.IGNORECASE)
    if len(found) > 1:
        raise InvalidRequest(f"one field {name} is expected, and {len(found)} came")
    return found[0].rstrip(b" \t").decode("latin-1") if found else None


def is_host(value: bytes) -> bool:
    """Whether a Host field can have this value. It may be empty: a Unix socket has no name."""
    return _HOST.fullmatch(value) is not None


def may_begin(data: bytes) -> bool:
    """Whether a request can begin with these bytes, which hold no whole head."""
    return _BEGINNING.match(data) is not None


def version_of(head: bytes) -> str:
    """The protocol that the first line names, as in ``HTTP/1.1``; empty if it names none."""
    line = _VERSION.match(head)
    return "" if line is None else line[1].decode("ascii")


def _is_timeout(value: bytes) -> bool:
    return value.isdigit() and len(value) < 13


_TIMEOUT = b"graphpipe-timeout-ms"
_REQUEST_ID = b"x-request-id"
_MEMORY, _MEMORY_ANSWER = b"graphpipe-memory", b"graphpipe-memory-answer"
_REQUEST_ID_FIELD = re.compile(rb"\r\nx-request-id:([^\r\n]*)\r\n", re.IGNORECASE)
_REQUEST_ID_MAX = 128
_ACCEPT_ENCODING = re.compile(rb"\r\naccept-encoding:([^\r\n]*)(?=\r\n)", re.IGNORECASE)
# Anything but visible ASCII is a question mark.
_VISIBLE = bytes(byte if 0x21 <= byte <= 0x7E else ord("?") for byte in range(256))
_ONCE = frozenset(
    (
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"connection",
        b"expect",
        b"accept",
        _TIMEOUT,
        _REQUEST_ID,
        _MEMORY,
        _MEMORY_ANSWER,
    )
)


def asked_in(head: bytes) -> tuple[str, str]:
    """The method and the path of a head that cannot be read, for the log; empty where its first line has none."""
    match = _ASKED.match(head)
    return (match[1].decode(), path_of(match[2].decode("utf-8", "surrogateescape"))) if match else ("", "")
