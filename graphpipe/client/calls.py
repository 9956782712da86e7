"""What the bytes of a call mean: from arrays to a request's segments, from an answer's body to arrays or an error.

Shared by all clients; whoever has a socket brings it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from graphpipe.arrays import has_own_type
from graphpipe.client.address import Address
from graphpipe.client.http1 import ResponseHead
from graphpipe.errors import MalformedMessage, NoAnswer, ServiceError, service_error
from graphpipe.signature import Signature, fitted
from graphpipe.wire import MetadataResponse, decode_infer_response, decode_metadata_response
from graphpipe.wire.describe import spec_of
from graphpipe.wire.dtypes import DTYPES
from graphpipe.words import counted

__all__ = [
    "Array",
    "Reply",
    "fit",
    "metadata_of",
    "outputs_of",
    "signature_of",
]

Array = NDArray[Any]

# http.HTTPStatus has them, and loads what nobody here needs.
_REASONS = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 429: "Too Many Requests", 500: "Internal Server Error",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


@dataclass(slots=True)
class Reply:
    """An answer as it came: its head and its whole body; ``elsewhere`` has the bytes of outputs that are not in that."""

    head: ResponseHead
    body: memoryview
    elsewhere: Mapping[int, memoryview] | None = None


def fit(value: object, name: str | None, place: int, meta: MetadataResponse, cast: bool) -> object:
    """``value`` in the element type that the model declares for the input called ``name``, or at ``place``.

    Lists and numbers are converted where nothing is lost; arrays only if ``cast``. What cannot be is left as it is, for
    the server to refuse with words of its own.

    Raises InvalidRequest if a value does not fit the type.
    """
    if not cast and has_own_type(value):
        return value
    # x and x:0 are the same tensor to TensorFlow's callers.
    specs = [
        io
        for i, io in enumerate(meta.inputs)
        if (io.name.removesuffix(":0") == name.removesuffix(":0") if name else i == place)
    ]
    return fitted(value, DTYPES[specs[0].type] if specs else None, cast, name or str(place))


def outputs_of(reply: Reply, address: Address, asked: int) -> list[Array]:
    """The outputs in an answer.

    Raises the ServiceError that the server sent, or NoAnswer if its answer is not understood.
    """
    if reply.head.status != 200:
        raise error_of(reply, address)
    try:
        if reply.elsewhere is None:
            response = decode_infer_response(reply.body)
        else:
            response = decode_infer_response(reply.body, elsewhere=reply.elsewhere)
    except MalformedMessage as error:
        raise NoAnswer(f"{address.url} answered with {_no_message(reply, 'message', error)}") from None
    if response.errors:
        first = response.errors[0]
        raise service_error(first.code, 200, first.message)
    if asked and len(response.outputs) != asked:
        raise NoAnswer(
            f"{address.url} was asked for {counted(asked, 'output')} and answered with {len(response.outputs)}"
        )
    return response.outputs


def metadata_of(reply: Reply, address: Address) -> MetadataResponse:
    """The metadata in an answer; the same errors as outputs_of."""
    if reply.head.status != 200:
        raise error_of(reply, address)
    try:
        return decode_metadata_response(reply.body)
    except MalformedMessage as error:
        raise NoAnswer(f"{address.url} answered with {_no_message(reply, 'metadata', error)}") from None


def _no_message(reply: Reply, what: str, error: MalformedMessage) -> str:
    """What came in the place of a message, where that is known: a page of whoever else listens there, for one."""
    kind = reply.head.content_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind in ("application/json", "application/xml"):
        return f"{kind[:40]}, which is no GraphPipe {what}; is it a server of GraphPipe that listens there?"
    return f"what is no GraphPipe {what}: {error.message}"


def error_of(reply: Reply, address: Address) -> ServiceError:
    """The error that a status other than 200 stands for."""
    status = reply.head.status
    if reply.head.content_type.startswith("application/vnd.graphpipe"):
        try:
            errors = decode_infer_response(reply.body).errors
        except MalformedMessage:
            errors = []
        if errors:
            return service_error(errors[0].code, status, errors[0].message, reply.head.retry_after_s)
    if reply.head.content_type.lower().startswith("text/html"):
        return service_error(0, status, _of_proxy(reply.head), reply.head.retry_after_s)
    text = bytes(reply.body[:2000]).decode("utf-8", "replace").strip()
    if 300 <= status < 400 and reply.head.location:
        text = f"moved to {reply.head.location}, which is not followed; use that URL"
    words = text or f"{address.url} answered with status {status} and no words"
    return service_error(0, status, words, reply.head.retry_after_s)


def _of_proxy(head: ResponseHead) -> str:
    """What a page of HTML stands for: no server of this protocol sends one."""
    who = head.server[:40].partition("/")[0] or "something in between"
    if head.status == 413 and who == "nginx":
        return "nginx answered 413: is its client_max_body_size too small?"
    return f"{who} answered {head.status} {_REASONS.get(head.status, '')}".rstrip()


def signature_of(meta: MetadataResponse) -> Signature:
    """A model's signature as its metadata has it. Unknown types and dimensions are None."""
    return Signature(tuple(map(spec_of, meta.inputs)), tuple(map(spec_of, meta.outputs)))
