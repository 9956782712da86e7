"""TensorProto to array and back.

A tensor's numbers come as their bytes, or as a list of values for which each kind of numbers has a field of its own. The
list may be shorter than the tensor: then its last value stands for all that are missing, so that a few bytes may mean any
amount of memory; how much of that there may be is said by whoever reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge
from graphpipe.server.protocols.protobuf import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Message,
    Reader,
    is_mostly,
    key,
    merged,
    part,
    signed,
)
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.varints import counted_varints, unpacked
from graphpipe.wire import Segment
from graphpipe.wire.dtypes import NDIM_MAX, to_bytes, to_sendable

__all__ = [
    "ReadTensor",
    "is_work",
    "number_of_dtype",
    "read_tensor",
    "shape_message",
    "tensor_head",
    "tensor_message",
    "values",
]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Kind:
    """An element type: the field that its list of values is in, the form of one of them and how many bits that has."""

    dtype: np.dtype[Any]
    field: int
    form: int
    bits: int


_KINDS: dict[int, _Kind] = {
    1: _Kind(np.dtype("<f4"), 5, FIXED32, 32),
    2: _Kind(np.dtype("<f8"), 6, FIXED64, 64),
    3: _Kind(np.dtype("<i4"), 7, VARINT, 32),
    4: _Kind(np.dtype("u1"), 7, VARINT, 32),
    5: _Kind(np.dtype("<i2"), 7, VARINT, 32),
    6: _Kind(np.dtype("i1"), 7, VARINT, 32),
    7: _Kind(np.dtype(object), 8, LENGTH, 0),
    9: _Kind(np.dtype("<i8"), 10, VARINT, 64),
    10: _Kind(np.dtype(bool), 11, VARINT, 64),
    17: _Kind(np.dtype("<u2"), 7, VARINT, 32),
    19: _Kind(np.dtype("<f2"), 13, VARINT, 32),
    22: _Kind(np.dtype("<u4"), 16, VARINT, 32),
    23: _Kind(np.dtype("<u8"), 17, VARINT, 64),
}
_NUMBERS = {kind.dtype: number for number, kind in _KINDS.items()}
# Those that no tensor of this server can be, and the forms of all lists of values.
_OTHERS = {
    8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16", 16: "quint16",
    18: "complex128", 20: "resource", 21: "variant", 24: "float8_e5m2", 25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
_LISTS = {kind.field: kind.form for kind in _KINDS.values()} | {9: FIXED32, 12: FIXED64}

_DTYPE, _SHAPE, _CONTENT = key(1, VARINT), key(2), key(4)
# What is a view of the message, however large.
_VIEWED = frozenset((_CONTENT, key(5), key(6)))
_DIM, _UNKNOWN_RANK, _SIZE = key(2), key(3, VARINT), key(1, VARINT)
# Strings have no memory that is leased, so that few of them stand for others.
_FILLED_STRINGS_BYTES_MAX = 1 << 16


@dataclass(slots=True)
class ReadTensor:
    """A TensorProto whose numbers nobody has looked at: ``content`` has their bytes, or ``parts`` their list of values."""

    dtype: np.dtype[Any]
    number: int
    shape: list[int]
    content: memoryview | None
    parts: list[Segment]


def read_tensor(parts: Sequence[memoryview], reader: Reader, what: str) -> ReadTensor:
    """What a TensorProto says, which may have come in parts. ``what`` names it.

    Raises InvalidRequest, MalformedMessage, TooLarge.
    """
    number = 0
    shape: list[memoryview] = []
    content: memoryview | None = None
    # Which type it is may be said behind its values.
    lists: dict[int, list[Segment]] = {}
    for found, value in reader.fields(*parts):
        if found == _DTYPE:
            number = signed(value, 32)
        elif found == _SHAPE:
            shape.append(value)
        elif found == _CONTENT:
            content = value
        else:
            field = found >> 3
            form = _LISTS.get(field)
            if form is not None and found & 7 in (form, LENGTH):
                lists.setdefault(field, []).append(bytes(value) if form == LENGTH else part(value, form))
    kind = _KINDS.get(number)
    if kind is None:
        raise InvalidRequest(f"{what} {_refusal(number)}")
    dims = _dims(shape, reader, what)
    listed = lists.pop(kind.field, [])
    # A packed list may have no numbers in it; an empty string is one.
    if any(_LISTS[field] == LENGTH or any(map(len, others)) for field, others in lists.items()):
        raise InvalidRequest(f"{what} is {_name(kind)}, and has values in the list of another type")
    if content is not None and not len(content):
        content = None
    if content is not None and kind.dtype.kind == "O":
        raise InvalidRequest(f"{what} has strings in tensor_content, whose form is its writer's own; send string_val")
    if content is not None and listed:
        raise InvalidRequest(f"{what} has tensor_content and a list of values; send one of both")
    return ReadTensor(kind.dtype, number, dims, content, listed)


def _name(kind: _Kind) -> str:
    return "string" if kind.dtype.kind == "O" else kind.dtype.name


def _refusal(number: int) -> str:
    if number == 0:
        return "does not say its dtype"
    name = _OTHERS.get(number)
    if name is None:
        return f"has dtype {number}, which is none that is known here"
    hint = "send it as float32" if name == "bfloat16" else "convert it first"
    return f"is {name}, which no tensor of this server can be; {hint}"


def _dims(parts: Sequence[memoryview], reader: Reader, what: str) -> list[int]:
    dims = []
    for found, value in reader.fields(*parts):
        if found == _DIM:
            size = 0
            for name, number in reader.fields(value):
                if name == _SIZE:
                    size = signed(number)
            if size < 0:
                raise InvalidRequest(f"{what} has a dimension of {size} elements; none is negative")
            dims.append(size)
            if len(dims) > NDIM_MAX:
                raise MalformedMessage(f"{what} has more than {NDIM_MAX} dimensions")
        elif found == _UNKNOWN_RANK and value:
            raise InvalidRequest(f"{what} has a shape of unknown rank; a tensor that is sent has one")
    return dims


def is_work(parts: Sequence[memoryview]) -> bool:
    """Whether a TensorProto is long to read: not so one whose bytes, or numbers of a fixed size, are all that is large."""
    return not is_mostly(parts, _VIEWED)


def values(tensor: ReadTensor, what: str, filled_bytes_max: int, room: Room) -> Array:
    """A tensor's array, a view of what came wherever it can be.

    ``filled_bytes_max`` is how many bytes may be made of a last value that stands for others, and whatever is
    no view takes ``room``. Raises InvalidRequest where the sizes do not add up, MalformedMessage, TooLarge, Overloaded.
    """
    kind = _KINDS[tensor.number]
    number = math.prod(tensor.shape)
    if tensor.content is not None:
        if len(tensor.content) != number * kind.dtype.itemsize:
            raise InvalidRequest(
                f"{what} of shape {tensor.shape} and type {_name(kind)} has {number * kind.dtype.itemsize:,} bytes; "
                f"{len(tensor.content):,} came in tensor_content"
            )
        return _shaped(tensor.content, kind.dtype, tensor.shape, what)
    listed = _listed(tensor, kind, what, room)
    came = len(listed)
    if came > number:
        raise InvalidRequest(f"{what} of shape {tensor.shape} has {number:,} elements; {came:,} came")
    if came == number:
        try:
            return listed.reshape(tensor.shape)
        except ValueError:
            raise _impossible(tensor.shape, what) from None
    size = number * kind.dtype.itemsize
    if size > (filled_bytes_max if kind.dtype.kind != "O" else min(filled_bytes_max, _FILLED_STRINGS_BYTES_MAX)):
        raise TooLarge(
            f"{what} of shape {tensor.shape} has {number:,} elements, of which {came:,} came; so many are not filled in"
        )
    # None came: then it is what a new tensor holds.
    last: Any = listed[-1] if came else (b"" if kind.dtype.kind == "O" else 0)
    filled: Array
    if kind.dtype.kind == "O":
        filled = np.empty(number, kind.dtype)
        room.hold(filled, came, size + sum(map(len, tensor.parts)))
    else:
        filled = room.numbers(number, kind.dtype, what)
    filled[:came], filled[came:] = listed, last
    return filled.reshape(tensor.shape)


def _listed(tensor: ReadTensor, kind: _Kind, what: str, room: Room) -> Array:
    parts = tensor.parts
    if kind.form == LENGTH:
        strings = room.strings(len(parts), sum(map(len, parts)))
        strings[:] = parts
        return strings
    data = merged(parts) if parts else memoryview(b"")
    if kind.form != VARINT:
        return np.ndarray(len(data) // kind.dtype.itemsize, kind.dtype, data)
    is_half = kind.dtype.kind == "f"  # their bits, as whole numbers
    found = room.numbers(counted_varints(data), np.dtype(np.uint16) if is_half else kind.dtype, what)
    unpacked(data, kind.bits, found, what)
    return found.view(kind.dtype) if is_half else found


def _shaped(data: memoryview, dtype: np.dtype[Any], shape: list[int], what: str) -> Array:
    try:
        if dtype.kind != "b":
            return np.ndarray(shape, dtype, data)
        octets: NDArray[np.uint8] = np.ndarray(shape, np.uint8, data)
    except ValueError:
        raise _impossible(shape, what) from None
    return octets != 0 if octets.size and octets.max() > 1 else octets.view(np.bool_)


def _impossible(shape: list[int], what: str) -> InvalidRequest:
    # No element comes, but with 1 in place of 0 they would be more than any memory has.
    return InvalidRequest(f"{what} has shape {shape}, which is more than a tensor can have")


def number_of_dtype(dtype: np.dtype[Any] | None) -> int:
    """The number of a model's dtype; 0 where it is unknown, or has none."""
    if dtype is None:
        return 0
    if dtype.kind in "OSU":
        return 7
    return _NUMBERS.get(dtype.newbyteorder("<"), 0)


def shape_message(shape: tuple[int, ...] | None) -> Message:
    """A TensorShapeProto; None is one of unknown rank."""
    if shape is None:
        return Message().number(3, 1)
    found = Message()
    for dim in shape:
        found.message(2, Message().number(1, dim))
    return found


def tensor_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Message:
    """A TensorProto of numbers without their bytes, which are its end."""
    size = math.prod(shape) * dtype.itemsize
    found = Message().number(1, number_of_dtype(dtype)).message(2, shape_message(shape))
    return found.head(4, size) if size else found


def tensor_message(value: object, what: str) -> Message:
    """An array as a TensorProto, whose numbers are the array's own memory. Raises InvalidRequest for what no tensor is."""
    _, array = to_sendable(value, what)
    if array.dtype.kind != "O":
        found = tensor_head(array.dtype, array.shape)
        return found.follow(array.data.cast("B")) if array.size else found
    found = Message().number(1, number_of_dtype(array.dtype)).message(2, shape_message(array.shape))
    for item in array.reshape(-1).tolist():
        found.octets(8, item if type(item) is bytes else to_bytes(item, what))
    return found
