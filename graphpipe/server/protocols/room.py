"""Room for what a request becomes beyond the bytes that it came in.

Numbers that came as text, or packed, are in leased memory. Strings are objects, which take many times their bytes: they are
counted with what is leased, as long as somebody looks at the array that they are in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.buffers import POOLED_FROM, BufferPool
from graphpipe.errors import Overloaded

__all__ = ["UNLIMITED", "Room"]

Array = NDArray[Any]

# A place in the array, and what an object takes beside its bytes: 33, and what is left over of 16.
_STRING_BYTES = 56
# What they leave of the pool, as a part of it: small bodies and answers that find no room keep every model from running.
_LEFT = 8


class Room:
    """What of a pool requests may take; without one, there is always room. Safe in threads."""

    def __init__(self, pool: BufferPool | None = None) -> None:
        self._pool = pool

    def numbers(self, number: int, dtype: np.dtype[Any], what: str) -> Array:
        """An empty vector of numbers. Raises Overloaded."""
        size = number * dtype.itemsize
        if self._pool is None or size < POOLED_FROM:
            return np.empty(number, dtype)
        memory = self._pool.lease(size)
        if memory is None:
            raise Overloaded(f"no room for {what}, which takes {size:,} bytes (--in-flight-bytes-max); try again")
        return np.ndarray(number, dtype, memory)

    def strings(self, number: int, octets: int = 0) -> Array:
        """An empty vector for strings that are to have so many bytes together. Raises Overloaded."""
        array = np.empty(number, object)
        self.hold(array, number, octets)
        return array

    def hold(self, array: Array, number: int, octets: int) -> None:
        """So many strings more, or bytes of them, are to be in an array that owns its memory. Raises Overloaded."""
        size = number * _STRING_BYTES + octets
        pool = self._pool
        if size and pool is not None and not pool.count(array, size, pool.bytes_max // _LEFT):
            raise Overloaded(
                f"no room for the request's strings, which take {size:,} bytes or more as objects "
                "(--in-flight-bytes-max); try again"
            )


UNLIMITED = Room()
