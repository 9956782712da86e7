"""How a no travels over HTTP: status and headers of an error, the same on the hot route and by aiohttp."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from math import ceil

from graphpipe.errors import ServiceError
from graphpipe.server.http.codings import NotTaken
from graphpipe.server.http.head import HEAD_BYTES_MAX
from graphpipe.server.http.memory_fields import MEMORY, MemoryRefused
from graphpipe.server.protocols.protocol import WrongMethod
from graphpipe.version import SERVER

__all__ = ["HEAD_TOO_LARGE", "NOT_SPOKEN", "PLAIN_TO_TLS", "TLS_TO_PLAIN", "error_headers", "response_head"]

# What is said of heads, whoever reads them: the hot route, or aiohttp's parser.
HEAD_TOO_LARGE = f"the head has more than {HEAD_BYTES_MAX} bytes; send fewer or shorter headers"
NOT_SPOKEN = (
    "only HTTP/1.1 and HTTP/1.0 are spoken here: HTTP/2 is not, nor gRPC as TF-Serving and Triton have it "
    "(which takes graphpipe-rpc[grpc] and --protocols with grpc); "
    "call with: graphpipe execute URL --input x.npy, or in Python: graphpipe.remote.execute(URL, array)"
)
# Of callers who have the wrong scheme.
TLS_TO_PLAIN = (
    "this is the beginning of TLS, and plain HTTP is spoken at this address: call http://, or start the server with "
    "--tls-cert and --tls-key"
)
PLAIN_TO_TLS = "plain HTTP came, and TLS is spoken at this address: call https://"


def error_headers(error: ServiceError) -> dict[str, str]:
    """Further headers of a refusal."""
    if error.http_status in (429, 503):
        return {"Retry-After": str(ceil(error.retry_after_s or 1))}
    if error.http_status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, WrongMethod):
        return {"Allow": error.allowed}
    if isinstance(error, MemoryRefused):
        return {MEMORY: "refused"}
    if isinstance(error, NotTaken):
        return {"Accept-Encoding": error.taken}
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
