"""Which element types travel, and how a numpy array becomes one of them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of
from graphpipe.errors import InvalidRequest
from graphpipe.nulls import is_null

__all__ = [
    "BYTES_MAX",
    "DTYPES",
    "ENTRIES_MAX",
    "NAME_BYTES_MAX",
    "NDIM_MAX",
    "STRINGS_MAX",
    "TEXT_BYTES_MAX",
    "TYPES",
    "Type",
    "dtype_name",
    "dtype_named",
    "to_bytes",
    "to_sendable",
    "type_of",
]

# The limits of docs/wire.md. Offsets in a message have 31 bits, so no message and no tensor reaches this size.
BYTES_MAX = 2**31
# numpy held 32 axes for most of its life; nobody's tensors have more.
NDIM_MAX = 32
# More tensors, names or errors than any model has. Without a bound a message of one GiB could hold 200 million of them.
ENTRIES_MAX = 4096
# A string costs its reader about 60 bytes besides its own, and the message as few as 4.
STRINGS_MAX = 2**24
# A name that a request uses. It is looked up, compared and quoted; nobody's is longer.
NAME_BYTES_MAX = 2**16
# Names, config and other words together. As text they may take four times their bytes.
TEXT_BYTES_MAX = 2**24


class Type(IntEnum):
    """The element types of schema/graphpipe.fbs, by their number on the wire."""

    NULL = 0
    UINT8 = 1
    INT8 = 2
    UINT16 = 3
    INT16 = 4
    UINT32 = 5
    INT32 = 6
    UINT64 = 7
    INT64 = 8
    FLOAT16 = 9
    FLOAT32 = 10
    FLOAT64 = 11
    STRING = 12


# By wire number, which is quicker than Type(number).
TYPES = tuple(Type)
# None has no bytes (Null); strings are object arrays of bytes.
DTYPES: tuple[np.dtype[Any] | None, ...] = (
    None,
    *(np.dtype(code) for code in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")),
    np.dtype(object),
)

_TYPE_BY_DTYPE: dict[np.dtype[Any], Type] = {dtype: Type(i) for i, dtype in enumerate(DTYPES) if dtype is not None}
# The schema has no type for bool: a mark beside the data says so.
_TYPE_BY_DTYPE[np.dtype(bool)] = Type.UINT8

_SUPPORTED = "bool, (u)int8 to (u)int64, float16, float32, float64 and strings"


def type_of(dtype: np.dtype[Any] | None) -> Type:
    """The wire type of a model's dtype; Null where it is unknown or has none."""
    if dtype is None:
        return Type.NULL
    if dtype.kind in "SU":
        return Type.STRING
    return _TYPE_BY_DTYPE.get(dtype.newbyteorder("<"), Type.NULL)


def dtype_name(dtype: np.dtype[Any] | None) -> str:
    """A dtype as people write it: float32, string, unknown."""
    if dtype is None:
        return "unknown"
    return "string" if dtype.kind in "OSU" else dtype.name


def dtype_named(name: str) -> np.dtype[Any]:
    """The reverse of dtype_name. Raises ValueError for a name that does not travel."""
    if name in ("string", "str", "bytes", "object"):
        return np.dtype(object)
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype("V0")
    if type_of(dtype) is Type.NULL:
        raise ValueError(f"there is no tensor type {name!r}; there are {_SUPPORTED}")
    return dtype


def to_sendable(value: object, what: str) -> tuple[Type, NDArray[Any]]:
    """``value`` as a C-contiguous, little-endian array of a type that travels, copied only where it has to be.

    ``what`` names the tensor in errors. Text becomes an object array whose elements are bytes (``str`` as UTF-8).

    Raises InvalidRequest for an element type that does not travel.
    """
    array = array_of(value, what)
    known = _TYPE_BY_DTYPE.get(array.dtype)
    if known is None:
        if array.dtype.kind in "SU":
            return Type.STRING, array.astype(object)
        swapped = array.dtype.newbyteorder("<")
        if swapped not in _TYPE_BY_DTYPE:
            raise InvalidRequest(_refusal(array.dtype, what))
        array = array.astype(swapped)
        known = _TYPE_BY_DTYPE[swapped]
    if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        array = array.view(np.uint8) != 0  # true is any byte but 0 to those who made it; it travels as 1
    if not array.flags.c_contiguous:
        array = array.copy(order="C")
    return known, array


def to_bytes(item: object, what: str) -> bytes:
    """One element of a tensor of strings as it travels. Raises InvalidRequest for what is no text."""
    if isinstance(item, str):
        try:
            return item.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{what} holds text that has no UTF-8 form: {error.reason}; send it as bytes"
            ) from None
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if isinstance(item, memoryview):
        return item.tobytes()
    hint = "; it has nulls, which a tensor cannot have; fill them first" if is_null(item) else ""
    raise InvalidRequest(
        f"{what} is an object array with an element of type {type(item).__name__}; only str and bytes travel in one{hint}"
    )


def _refusal(dtype: np.dtype[Any], what: str) -> str:
    if dtype.name == "bfloat16":
        return f"{what} is bfloat16, which has no type on the wire; send it as float32 (or float16)"
    hint = "send real and imaginary parts as two tensors" if dtype.kind == "c" else "convert it first"
    return f"{what} has dtype {dtype}, which does not travel; these do: {_SUPPORTED}; {hint}"
