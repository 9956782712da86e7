"""The protocol's names of element types."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphpipe.errors import InvalidRequest
from graphpipe.wire.dtypes import type_of
from graphpipe.words import quoted

__all__ = ["NUMBERS", "datatype_of", "dtype_of"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
# What travels as it lies in memory. A truth may lie there as any byte but 0.
NUMBERS = frozenset(dtype for dtype in _DTYPES.values() if dtype.kind in "iuf")
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_NAME_BY_TYPE = {type_of(dtype): name for name, dtype in _DTYPES.items() if name != "BOOL"}


def dtype_of(datatype: str, what: str) -> np.dtype[Any]:
    """The dtype that a name stands for; object for BYTES. ``what`` is the tensor's. Raises InvalidRequest."""
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        if datatype == "BF16":
            raise InvalidRequest(f"{what} is BF16, which no tensor of this server can be; send it as FP32")
        raise InvalidRequest(f"{what} has datatype {quoted(datatype)}; there are {', '.join(_DTYPES)}")
    return dtype


def datatype_of(dtype: np.dtype[Any] | None) -> str:
    """The name of a model's dtype; empty where it is unknown, or has none."""
    name = _NAMES.get(dtype) if dtype is not None else None
    return name or _NAME_BY_TYPE.get(type_of(dtype), "")
