"""Bytes to messages and back. Knows no socket, no server and no model.

``dtypes`` says which element types travel, ``reader`` checks foreign bytes, ``memory`` spares it the same work twice,
``writer`` lays ours out, ``messages`` is what the rest of the package uses, ``describe`` says in a description what the
fields of metadata cannot. docs/wire.md is the normative text.
"""

from graphpipe.wire.dtypes import Type
from graphpipe.wire.messages import (
    ErrorInfo,
    InferRequest,
    InferResponse,
    IOMetadata,
    MetadataRequest,
    MetadataResponse,
    RequestHead,
    decode_infer_response,
    decode_metadata_response,
    decode_request,
    encode_infer_response,
    encode_metadata_response,
    encode_request,
    recall_request,
)
from graphpipe.wire.writer import Segment

__all__ = [
    "ErrorInfo",
    "IOMetadata",
    "InferRequest",
    "InferResponse",
    "MetadataRequest",
    "MetadataResponse",
    "RequestHead",
    "Segment",
    "Type",
    "decode_infer_response",
    "decode_metadata_response",
    "decode_request",
    "encode_infer_response",
    "encode_metadata_response",
    "encode_request",
    "recall_request",
]
