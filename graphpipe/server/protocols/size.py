"""How much an array is to encode: one of strings holds references, and says nothing of how long they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["has_bytes"]

# Nothing of a model's own is asked for its length here.
_STRINGS = frozenset((str, bytes, np.str_, np.bytes_))


def has_bytes(array: NDArray[Any], least: int) -> bool:
    """Whether an array has so many bytes, those of its strings included."""
    if array.nbytes >= least or array.dtype.kind != "O":
        return array.nbytes >= least
    lengths = [len(item) for item in array.reshape(-1).tolist() if type(item) in _STRINGS]
    return array.nbytes + sum(lengths) >= least
