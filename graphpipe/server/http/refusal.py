"""How a no travels over HTTP: status, headers and body of an error, the same from the front and from aiohttp."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from graphpipe.errors import ServiceError, Unsupported
from graphpipe.server.models.service import SERVER, encode_error

__all__ = ["ERROR_TYPE", "error_body", "error_headers", "response_head"]

ERROR_TYPE = "application/vnd.graphpipe"


def error_body(error: ServiceError, accept: str) -> tuple[str, bytes]:
    """Content type and body of a refusal: a message for callers that say they can read it, else text."""
    if ERROR_TYPE in accept.lower():
        return ERROR_TYPE, encode_error(error)
    return "text/plain; charset=utf-8", f"{error.message}\n".encode("utf-8", "replace")


def error_headers(error: ServiceError) -> dict[str, str]:
    """Further headers of a refusal."""
    if error.http_status == 503:
        return {"Retry-After": str(getattr(error, "retry_after_s", 1))}
    if isinstance(error, Unsupported) and error.http_status == 405:
        return {"Allow": "GET, POST"}
    return {}


def response_head(status: int, content_type: str, length: int, headers: Mapping[str, str]) -> bytes:
    """The head of an answer of ours, its last empty line included."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Error"
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\nServer: {SERVER}\r\n{more}\r\n"
    ).encode("latin-1")
