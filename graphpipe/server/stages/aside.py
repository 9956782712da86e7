"""What may be much work is done in a thread: the event loop has others to serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from numpy.typing import NDArray

__all__ = ["aside"]

T = TypeVar("T")

# Looking through more strings than these, or copying more bytes, would be felt by other callers.
_STRINGS_MAX = 1024
_BYTES_MAX = 256 * 1024


async def aside(call: Callable[[dict[str, NDArray[Any]]], T], arrays: dict[str, NDArray[Any]]) -> T:
    """What a call gives that looks at each string, and copies what is not contiguous: made here where that is a moment."""
    if _is_work(arrays):
        return await asyncio.get_running_loop().run_in_executor(None, call, arrays)
    return call(arrays)


def _is_work(arrays: Mapping[str, NDArray[Any]]) -> bool:
    for array in arrays.values():
        if array.dtype.kind in "OSU":
            if array.size > _STRINGS_MAX:
                return True
        elif array.nbytes > _BYTES_MAX and not array.flags.c_contiguous:
            return True
    return False
