"""Tensors whose bytes do not lie in the message: both sides see them in memory that they share.

Such a tensor is in the message with its type, its shape and no data. Which ones they are, and where their bytes lie, is
said beside the message. Without that word such a message is malformed, as any whose data is shorter than its shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge
from graphpipe.wire.dtypes import BYTES_MAX, Type
from graphpipe.wire.memory import ReadTensor
from graphpipe.wire.writer import Segment, TensorKey

__all__ = ["AWAY", "array_over", "arrays_of", "check_places", "set_apart"]

# Where a tensor starts whose bytes lie elsewhere: nowhere in the message.
AWAY = -1


def set_apart(
    keys: tuple[TensorKey, ...], payloads: list[Segment], elsewhere: Set[int]
) -> tuple[tuple[TensorKey, ...], list[Segment]]:
    """The same tensors, those of ``elsewhere`` (by their place) with no bytes.

    Raises InvalidRequest for a place that has no tensor or one of strings, TooLarge for a tensor of 2 GiB.
    """
    for i in elsewhere:
        if not 0 <= i < len(keys):
            raise InvalidRequest(f"tensor {i} is to be elsewhere, but the message has {len(keys)} tensors")
        if keys[i].type is Type.STRING:
            raise InvalidRequest(f"tensor {i} has strings, which travel in the message; only numbers can be elsewhere")
        if keys[i].length >= BYTES_MAX:
            raise TooLarge(f"tensor {i} has {keys[i].length} bytes; it may have less than {BYTES_MAX}: send fewer rows")
    apart = tuple([key._replace(length_word=0, length=0) if i in elsewhere else key for i, key in enumerate(keys)])
    return apart, [b"" if i in elsewhere else segment for i, segment in enumerate(payloads)]


def check_places(count: int, elsewhere: Mapping[int, memoryview]) -> None:
    """Raise MalformedMessage if bytes were given of a tensor that is not among the ``count`` of the message."""
    for i in elsewhere:
        if not 0 <= i < count:
            raise MalformedMessage(f"bytes of tensor {i} came beside the message, which has {count} tensors")


def arrays_of(
    tensors: Sequence[ReadTensor], message: memoryview | bytes, elsewhere: Mapping[int, memoryview]
) -> list[NDArray[Any]] | None:
    """Tensors of numbers as arrays over the bytes of the message, or over those that came beside it.

    None if others lie elsewhere than these were read to. Raises MalformedMessage where a tensor has another number of bytes.
    """
    arrays = []
    away = 0
    for i, tensor in enumerate(tensors):
        if tensor.start != AWAY:
            arrays.append(np.ndarray(tensor.shape, tensor.dtype, message, tensor.start))
        elif i not in elsewhere:
            return None
        else:
            away += 1
            arrays.append(array_over(i, tensor, elsewhere[i]))
    return arrays if away == len(elsewhere) else None


def array_over(i: int, tensor: ReadTensor, data: memoryview) -> NDArray[Any]:
    """Tensor ``i`` over its bytes, which came beside the message. Raises MalformedMessage for too many or too few."""
    needed = tensor.dtype.itemsize
    for dim in tensor.shape:
        needed *= dim
    if data.nbytes != needed:
        raise MalformedMessage(
            f"tensor {i} of shape {list(tensor.shape)} and {tensor.dtype.itemsize}-byte elements needs {needed} bytes, "
            f"but {data.nbytes} came beside the message"
        )
    return np.ndarray(tensor.shape, tensor.dtype, data)
