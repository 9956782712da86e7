"""How much work it is to write an output down."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["OUTPUT_BYTES", "text_bytes"]

# One more output is as much work as so many bytes, however small it is.
OUTPUT_BYTES = 64
# More elements than these are work, whatever they are.
_LOOKED_AT_MAX = 4096


def text_bytes(array: NDArray[Any]) -> int:
    """How many bytes, or characters, an array of strings has; of very many at least as many as it has elements, by 8."""
    if array.dtype.kind != "O" or array.size > _LOOKED_AT_MAX:
        return array.nbytes
    return array.nbytes + sum(len(each) for each in array.ravel().tolist() if isinstance(each, (str, bytes)))
