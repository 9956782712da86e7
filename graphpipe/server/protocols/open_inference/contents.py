"""From the bytes of a ModelInferRequest's inputs to arrays: raw ones, and contents of a type.

Numbers of a fixed size are views of the message, wherever in it they stand; others must be unpacked. Nothing is unpacked
before the number of elements is that of the shape.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, TooLarge
from graphpipe.server.protocols.open_inference.datatypes import dtype_of
from graphpipe.server.protocols.open_inference.messages import InferRequest, InputTensor
from graphpipe.server.protocols.open_inference.texts import separated
from graphpipe.server.protocols.protobuf import FIXED32, FIXED64, LENGTH, VARINT, Reader, is_mostly, key, merged, part
from graphpipe.server.protocols.room import UNLIMITED, Room
from graphpipe.server.protocols.varints import counted_varints, unpacked
from graphpipe.wire import Segment
from graphpipe.words import counted, quoted

__all__ = ["arrays", "is_work"]

Array = NDArray[Any]

# The fields of InferTensorContents: their names, the form of one value, and how many bits that has.
_FIELDS: dict[int, tuple[str, int, int]] = {
    1: ("bool_contents", VARINT, 64),
    2: ("int_contents", VARINT, 32),
    3: ("int64_contents", VARINT, 64),
    4: ("uint_contents", VARINT, 32),
    5: ("uint64_contents", VARINT, 64),
    6: ("fp32_contents", FIXED32, 32),
    7: ("fp64_contents", FIXED64, 64),
    8: ("bytes_contents", LENGTH, 0),
}
_FIELD_OF = {
    "BOOL": 1,
    **dict.fromkeys(("INT8", "INT16", "INT32"), 2),
    "INT64": 3,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), 4),
    "UINT64": 5,
    "FP32": 6,
    "FP64": 7,
    "BYTES": 8,
}
_VIEWED = frozenset((key(6), key(7)))


def is_work(request: InferRequest) -> bool:
    """Whether the inputs have to be unpacked, be it from raw bytes or from contents of a type."""
    if request.raw:
        return any(tensor.datatype == "BYTES" for tensor in request.inputs)
    return not all(is_mostly(tensor.contents, _VIEWED) for tensor in request.inputs)


def arrays(request: InferRequest, strings_max: int, room: Room = UNLIMITED) -> list[Array]:
    """The inputs of a request, in order. Raises InvalidRequest where sizes do not add up, MalformedMessage, TooLarge,
    Overloaded.

    ``strings_max`` is how many elements may come in a field of their own each: strings always do.
    """
    inputs, raw = request.inputs, request.raw
    if raw and len(raw) != len(inputs):
        raise InvalidRequest(
            f"{counted(len(inputs), 'input')} came, but {len(raw)} raw_input_contents: send one for each"
        )
    strings = sum(_elements(tensor) for tensor in inputs if tensor.datatype == "BYTES")
    if strings > strings_max:
        raise TooLarge(f"the request has {strings:,} strings; at most {strings_max:,} are taken (--strings-max)")
    if not raw:
        # Two more for a tensor: a field may be empty, and there is an end.
        reader = Reader(strings_max + 2 * len(inputs))
        return [_of_contents(tensor, reader, room) for tensor in inputs]
    found = []
    for tensor, data in zip(inputs, raw, strict=True):
        if any(map(len, tensor.contents)):
            raise InvalidRequest(
                f"input {quoted(tensor.name)} has contents beside raw_input_contents; send one of both"
            )
        found.append(_of_raw(tensor, data, room))
    return found


def _of_raw(tensor: InputTensor, data: memoryview, room: Room) -> Array:
    what = f"input {quoted(tensor.name)}"
    dtype = dtype_of(tensor.datatype, what)
    number = _elements(tensor)
    if dtype.kind == "O":
        return _reshaped(separated(data, number, what, room), tensor.shape)
    if number * dtype.itemsize != len(data):
        raise InvalidRequest(
            f"{what} of shape {tensor.shape} and datatype {tensor.datatype} has {number * dtype.itemsize:,} bytes; "
            f"{len(data):,} came"
        )
    return _viewed(data, dtype, tensor.shape)


def _elements(tensor: InputTensor) -> int:
    if any(dim < 0 for dim in tensor.shape):
        raise InvalidRequest(
            f"input {quoted(tensor.name)} has shape {tensor.shape}: a dimension counts elements, and none is negative"
        )
    return math.prod(tensor.shape)


def _viewed(data: memoryview, dtype: np.dtype[Any], shape: list[int]) -> Array:
    if dtype.kind != "b":
        return _shaped(data, dtype, shape)
    octets: NDArray[np.uint8] = _shaped(data, np.dtype(np.uint8), shape)
    return octets != 0 if octets.size and octets.max() > 1 else octets.view(np.bool_)


def _shaped(data: memoryview, dtype: np.dtype[Any], shape: list[int]) -> Array:
    try:
        return np.ndarray(shape, dtype, data)
    except ValueError:  # no bytes come, but with 1 in place of 0 they would be more than any memory has
        raise InvalidRequest(f"an input has shape {shape}, which is more than a tensor can have") from None


def _of_contents(tensor: InputTensor, reader: Reader, room: Room) -> Array:
    what = f"input {quoted(tensor.name)}"
    dtype = dtype_of(tensor.datatype, what)
    number = _elements(tensor)
    if tensor.datatype == "FP16":
        raise InvalidRequest(f"{what} is FP16, which has no contents of its own; send raw_input_contents")
    expected = _FIELD_OF[tensor.datatype]
    name, form, bits = _FIELDS[expected]
    came = sum(map(len, tensor.contents))
    # Each takes two bytes on its way: its key and its length.
    strings = room.strings(number, came) if form == LENGTH and 2 * number <= came else None
    parts: list[Segment] = []
    alone, packed = key(expected, form), key(expected)
    for found, value in reader.fields(*tensor.contents):
        if found in (alone, packed):
            parts.append(part(value, form) if form != LENGTH else bytes(value))
        elif (found >> 3) in _FIELDS and found & 7 in (LENGTH, _FIELDS[found >> 3][1]):
            raise InvalidRequest(f"{what} is {tensor.datatype}, which comes in {name}; {_FIELDS[found >> 3][0]} came")
    if form == LENGTH:
        _check_number(tensor, len(parts), number, name)
        assert strings is not None, "as many strings came as there are, in fewer bytes than they take"
        strings[:] = parts
        return _reshaped(strings, tensor.shape)
    data = merged(parts)
    if form == VARINT:
        _check_number(tensor, counted_varints(data), number, name)
        numbers = room.numbers(number, dtype, what)
        unpacked(data, bits, numbers, what)
        return _reshaped(numbers, tensor.shape)
    _check_number(tensor, len(data) // dtype.itemsize, number, name)
    return _shaped(data, dtype, tensor.shape)


def _check_number(tensor: InputTensor, came: int, number: int, name: str) -> None:
    if came != number:
        raise InvalidRequest(
            f"input {quoted(tensor.name)} of shape {tensor.shape} has {number:,} elements; {came:,} came in {name}"
        )


def _reshaped(array: Array, shape: list[int]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:
        raise InvalidRequest(f"an input has shape {shape}, which is more than a tensor can have") from None
