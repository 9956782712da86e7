"""What the bytes of a call mean: from arrays to a request's segments, from an answer's body to arrays or an error.

Shared by all clients; whoever has a socket brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.client.address import Address
from graphpipe.client.http1 import ResponseHead
from graphpipe.errors import InvalidRequest, MalformedMessage, NoAnswer, ServiceError, service_error
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import (
    IOMetadata,
    MetadataResponse,
    Segment,
    Type,
    decode_infer_response,
    decode_metadata_response,
    encode_request,
)
from graphpipe.wire.dtypes import DTYPES

__all__ = ["Array", "Reply", "fit", "metadata_of", "needs_metadata", "outputs_of", "request_segments", "signature_of"]

Array = NDArray[Any]


class Reply:
    """An answer as it came: its head and its whole body."""

    __slots__ = ("body", "head")

    def __init__(self, head: ResponseHead, body: memoryview) -> None:
        self.head = head
        self.body = body


def needs_metadata(value: object) -> bool:
    """Whether only the model knows the element type of ``value``: lists and numbers have none of their own."""
    return not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__")


def fit(value: object, name: str | None, place: int, meta: MetadataResponse, cast: bool) -> object:
    """``value`` in the element type that the model declares for the input called ``name``, or at ``place``.

    Lists and numbers are converted where nothing is lost; arrays only if ``cast``.
    """
    specs = [io for i, io in enumerate(meta.inputs) if (io.name == name if name else i == place)]
    dtype = DTYPES[specs[0].type] if specs else None
    array = np.asarray(value)
    if array.dtype.kind == "U":
        array = array.astype(object)
    if dtype is None or array.dtype == dtype or (array.dtype == np.bool_ and dtype == np.uint8):
        return array
    if (cast or needs_metadata(value)) and "O" not in (dtype.kind, array.dtype.kind):
        if np.can_cast(array.dtype, dtype, "same_kind"):
            return array.astype(dtype)
        if array.size == 0:
            return array.astype(dtype)  # numpy makes float64 of []
        if array.dtype.kind in "iu" and dtype.kind in "iu" and needs_metadata(value):
            limits = np.iinfo(dtype)
            if limits.min <= int(array.min()) and int(array.max()) <= limits.max:
                return array.astype(dtype)
    return array


def request_segments(
    inputs: Sequence[object],
    input_names: Sequence[str | None] | None,
    output_names: Sequence[str | None] | None,
    config: str | None,
) -> list[Segment]:
    """A request as segments. None among the names stands for the server's default at that place.

    Raises InvalidRequest or TooLarge if it cannot travel.
    """
    for what, names in (("input_names", input_names), ("output_names", output_names)):
        if isinstance(names, str):
            raise InvalidRequest(f"{what} is a list of names; a single string came: [{names!r}]")
    return encode_request(
        inputs, [name or "" for name in input_names or ()], [name or "" for name in output_names or ()], config or ""
    )


def outputs_of(reply: Reply, address: Address, asked: int) -> list[Array]:
    """The outputs in an answer.

    Raises the ServiceError that the server sent, or NoAnswer if its answer is not understood.
    """
    if reply.head.status != 200:
        raise error_of(reply, address)
    try:
        response = decode_infer_response(reply.body)
    except MalformedMessage as error:
        raise NoAnswer(f"{address.url} answered with what is no GraphPipe message: {error.message}") from None
    if response.errors:
        first = response.errors[0]
        raise service_error(first.code, 200, first.message)
    if asked and len(response.outputs) != asked:
        raise NoAnswer(f"{address.url} was asked for {asked} outputs and answered with {len(response.outputs)}")
    return response.outputs


def metadata_of(reply: Reply, address: Address) -> MetadataResponse:
    """The metadata in an answer; the same errors as outputs_of."""
    if reply.head.status != 200:
        raise error_of(reply, address)
    try:
        return decode_metadata_response(reply.body)
    except MalformedMessage as error:
        raise NoAnswer(f"{address.url} answered with what is no GraphPipe metadata: {error.message}") from None


def error_of(reply: Reply, address: Address) -> ServiceError:
    """The error that a status other than 200 stands for."""
    status = reply.head.status
    if reply.head.content_type.startswith("application/vnd.graphpipe"):
        try:
            errors = decode_infer_response(reply.body).errors
        except MalformedMessage:
            errors = []
        if errors:
            return service_error(errors[0].code, status, errors[0].message)
    text = bytes(reply.body[:2000]).decode("utf-8", "replace").strip()
    if 300 <= status < 400 and reply.head.location:
        text = f"moved to {reply.head.location}, which is not followed; use that URL"
    return service_error(0, status, text or f"{address.url} answered with status {status} and no words")


def signature_of(meta: MetadataResponse) -> Signature:
    """A model's signature as its metadata has it. Unknown types and dimensions are None."""
    return Signature(tuple(map(_spec, meta.inputs)), tuple(map(_spec, meta.outputs)))


def _spec(io: IOMetadata) -> TensorSpec:
    any_rank = not io.shape and "any shape" in io.description
    shape = None if any_rank else tuple(d if d >= 0 else None for d in io.shape)
    return TensorSpec(io.name, DTYPES[Type(io.type)], shape, io.description)
