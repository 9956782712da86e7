"""How a no travels over gRPC: a number of gRPC's, and words, for each error."""

from __future__ import annotations

from math import ceil
from urllib.parse import quote

from graphpipe.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    MalformedMessage,
    ModelFailed,
    NotFound,
    NotReady,
    Overloaded,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
)

__all__ = ["OK", "status_of", "trailers_of"]

OK = ((b"grpc-status", b"0"),)

_INTERNAL = 13
# By gRPC's numbers. What is worth another try is UNAVAILABLE: clients know that one as such.
_BY_CLASS: dict[type[ServiceError], int] = {
    MalformedMessage: 3,
    InvalidRequest: 3,
    DeadlineExceeded: 4,
    NotFound: 5,
    Forbidden: 7,
    TooLarge: 8,
    Unsupported: 12,
    ModelFailed: _INTERNAL,
    NotReady: 14,
    Overloaded: 14,
    UpstreamFailed: 14,
    Unauthenticated: 16,
}
# Where the status says more than the class.
_BY_STATUS = {408: 4, 429: 8}

# All that is printable, but for the percent sign itself.
_PLAIN = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
# As much in UTF-8, of which each byte may take three: callers take some 8 KiB of fields.
_WORDS_BYTES_MAX = 2048


def status_of(error: ServiceError) -> int:
    """The number that gRPC has for an error."""
    by_status = _BY_STATUS.get(error.http_status)
    if by_status is not None:
        return by_status
    return next((number for kind, number in _BY_CLASS.items() if isinstance(error, kind)), _INTERNAL)


def trailers_of(error: ServiceError) -> tuple[tuple[bytes, bytes], ...]:
    """What ends a call that is refused, or failed."""
    said = error.message.encode("utf-8", "replace")[:_WORDS_BYTES_MAX].decode("utf-8", "ignore")
    words = quote(said, safe=_PLAIN)
    trailers = (b"grpc-status", b"%d" % status_of(error)), (b"grpc-message", words.encode())
    if error.safe_to_retry and error.retry_after_s is not None:
        return *trailers, (b"grpc-retry-pushback-ms", b"%d" % ceil(error.retry_after_s * 1000))
    return trailers
