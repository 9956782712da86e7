"""Whether two answers are the same: the recorded pipeline's and the function's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of
from graphpipe.backends.loaded import as_it_would_arrive
from graphpipe.errors import InvalidRequest

__all__ = ["difference"]

# A framework adds up in another order in another call.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5


def difference(value: Any, other: NDArray[Any]) -> str:
    """In what a value differs from an array, in words; empty if it does not."""
    try:
        array = as_it_would_arrive(array_of(value, "it"), "it")
    except InvalidRequest as error:
        return error.message
    if array.shape != other.shape:
        return f"the shapes are {list(array.shape)} and {list(other.shape)}"
    if array.dtype != other.dtype and isinstance(value, np.ndarray):
        return f"the types are {array.dtype} and {other.dtype}"
    if array.dtype.kind in "fc":
        scale = float(np.max(np.abs(other[np.isfinite(other)]), initial=0))
        same = np.allclose(array, other, rtol=_RELATIVE, atol=_ABSOLUTE * max(scale, 1e-30), equal_nan=True)
    else:
        same = array.tolist() == other.tolist()
    return "" if same else "the values are different"
