"""The head of a gRPC call: what is asked of whom, how long its caller waits, in which coding its message comes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphpipe.errors import InvalidRequest, Unsupported
from graphpipe.server.http.codings import takes_gzip
from graphpipe.server.http.head import request_id
from graphpipe.server.numbers.accesslog import Question
from graphpipe.server.numbers.caller import Caller
from graphpipe.words import visible

__all__ = ["CODINGS", "CallHead", "CallHeads", "NotGrpc", "coding_of", "timeout_ms"]

# What a message may come in.
CODINGS = "identity,gzip,deflate"

# Fields that are new in every call, where there are any.
_PASSING = frozenset((b"grpc-timeout", b"x-request-id", b"traceparent", b"tracestate", b"grpc-trace-bin"))
# So many heads are remembered, none of them longer than this.
_REMEMBERED_MAX = 256
_REMEMBERED_BYTES = 2048

# A field counts as so many bytes more, as HTTP/2 has it.
_FIELD_BYTES = 32
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?[ \t]*(;.*)?", re.IGNORECASE)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_MS = {b"H": 3_600_000.0, b"M": 60_000.0, b"S": 1000.0, b"m": 1.0, b"u": 1e-3, b"n": 1e-6}
# Some thirty years: as long as a clock can be set for.
_TIMEOUT_MS_MAX = 10**12


class NotGrpc(Exception):
    """A request that is no call. ``status`` and words, for HTTP, and what was ``asked``."""

    def __init__(self, status: int, words: str, asked: Question) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.asked = asked


@dataclass(slots=True, eq=False)
class CallHead:
    """What a call's head says. ``service`` and ``path`` are as in ``/package.Service/Name``, ``authorizations`` what its
    caller shows of keys, ``size`` its bytes as HTTP/2 counts them. ``timeout`` and ``coding`` are as they came. A head
    that ``is_plain`` was looked at before, has no deadline, and its message is not compressed.
    """

    method: str
    path: str
    service: str
    size: int
    authorizations: Sequence[bytes]
    coding: bytes
    takes_gzip: bool
    is_plain: bool = False
    timeout: bytes = b""
    request_id: str = ""
    caller: Caller | None = None

    def with_passing(self, passing: dict[bytes, bytes]) -> CallHead:
        """A head with these fields besides."""
        return CallHead(
            self.method,
            self.path,
            self.service,
            self.size + sum([len(name) + len(value) + _FIELD_BYTES for name, value in passing.items()]),
            self.authorizations,
            self.coding,
            self.takes_gzip,
            False,
            passing.get(b"grpc-timeout", b""),
            request_id(passing.get(b"x-request-id", b"")),
        )


class CallHeads:
    """Heads of calls. What callers repeat is remembered: all of a head but the fields that are new in every call."""

    def __init__(self) -> None:
        self._known: dict[Sequence[tuple[bytes, bytes]], CallHead] = {}

    def read(self, headers: tuple[tuple[bytes, bytes], ...]) -> CallHead:
        """The head of a call. Raises NotGrpc for another request's."""
        known = self._known.get(headers)
        if known is not None:
            return known
        passing = {name: value for name, value in headers if name in _PASSING}
        core = tuple([field for field in headers if field[0] not in _PASSING]) if passing else headers
        known = self._known.get(core)
        if known is None:
            known = _read(core)
            if known.size <= _REMEMBERED_BYTES:
                if len(self._known) >= _REMEMBERED_MAX:
                    self._known.clear()
                self._known[core] = known
        return known.with_passing(passing) if passing else known


def _read(headers: tuple[tuple[bytes, bytes], ...]) -> CallHead:
    fields = dict(headers)
    method = fields.get(b":method", b"").decode("latin-1")
    path = fields.get(b":path", b"").decode("utf-8", "replace")
    asked = Question(method[:20], path)
    if not _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"")):
        raise NotGrpc(
            415, "HTTP/2 is spoken here for gRPC alone (Content-Type: application/grpc); call over HTTP/1.1", asked
        )
    if method != "POST":
        raise NotGrpc(405, f"gRPC calls are POST, and {visible(method[:20])} came", asked)
    if fields.get(b"te") != b"trailers":
        raise NotGrpc(
            400, "te: trailers is missing: what is on the way from the caller to here does not pass on gRPC", asked
        )
    return CallHead(
        method,
        path,
        path[1 : path.rfind("/")],
        sum(len(name) + len(value) + _FIELD_BYTES for name, value in headers),
        [value for name, value in headers if name == b"authorization"],
        fields.get(b"grpc-encoding", b"identity"),
        takes_gzip(fields.get(b"grpc-accept-encoding", b"").decode("latin-1")),
    )


def timeout_ms(value: bytes) -> int:
    """How long the caller waits, rounded up. Raises InvalidRequest."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise InvalidRequest(
            f"grpc-timeout is a number of at most 8 digits and a unit (HMSmun); {visible(value[:40].decode('latin-1'))} came"
        )
    return min(_TIMEOUT_MS_MAX, -int(-int(match[1]) * _MS[match[2]] // 1))


def coding_of(value: bytes) -> str:
    """What a message that says it is compressed is compressed with; empty for nothing. Raises Unsupported."""
    if value == b"identity":
        return ""
    if value in (b"gzip", b"deflate"):
        return value.decode()
    raise Unsupported(
        f"messages are taken in {CODINGS}; grpc-encoding {visible(value[:40].decode('latin-1'))} came", 501
    )
