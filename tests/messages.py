"""Requests built with the official FlatBuffers runtime, field by field, so that any of them may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import flatbuffers

FLOAT32, STRING = 10, 12


@dataclass
class Tensor:
    """A tensor of float32 [2, 3] unless told otherwise."""

    type: int = FLOAT32
    shape: Sequence[int] = (2, 3)
    data: bytes = bytes(24)
    strings: Sequence[bytes] = field(default_factory=list)
    same_string: int = 0  # this many references to the first of ``strings``


def infer_request(
    tensors: Sequence[Tensor], input_names: Sequence[str] = (), output_names: Sequence[str] = (), config: str = ""
) -> bytes:
    """An InferRequest in the manner of the original clients: back to front, data aligned to 4."""
    builder = flatbuffers.Builder(1024)
    made = [_tensor(builder, tensor) for tensor in tensors]
    inputs, outputs = (
        _offsets(builder, [builder.CreateString(n) for n in names]) for names in (input_names, output_names)
    )
    listed, words = _offsets(builder, made), builder.CreateString(config)
    builder.StartObject(4)
    for slot, offset in enumerate((words, inputs, listed, outputs)):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    infer = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUint8Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(1, infer, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _tensor(builder: flatbuffers.Builder, tensor: Tensor) -> int:
    strings = [builder.CreateString(item) for item in tensor.strings]
    if tensor.same_string:
        strings = strings[:1] * tensor.same_string
    listed = _offsets(builder, strings) if strings else 0
    data = builder.CreateByteVector(tensor.data) if not strings else 0
    builder.StartVector(8, len(tensor.shape), 8)
    for dim in reversed(tensor.shape):
        builder.PrependInt64(dim)
    shape = builder.EndVector()
    builder.StartObject(4)
    builder.PrependUint8Slot(0, tensor.type, 0)
    for slot, offset in ((1, shape), (2, data), (3, listed)):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())
