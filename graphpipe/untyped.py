"""What of an array of objects has no type on the wire, and what its owner can make of it."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.nulls import is_null
from graphpipe.words import listed

__all__ = ["untyped_in"]

_TEXT = (str, bytes, bytearray, memoryview)
_TIMES = (datetime.date, datetime.time, datetime.timedelta)


def untyped_in(array: NDArray[Any]) -> str:
    """What an array of objects holds that does not travel, to be put behind its name; nothing if all of it is text.

    Nothing either if it has nulls: whoever makes bytes of the elements has the words for those.
    """
    kinds = {type(item): item for item in array.ravel().tolist()}
    odd = {kind: item for kind, item in kinds.items() if not issubclass(kind, _TEXT)}
    if not odd or any(map(is_null, odd.values())):
        return ""
    if all(issubclass(kind, bool | int | float | np.generic) for kind in odd):
        if len(odd) < len(kinds):
            return (
                f"holds text and numbers ({listed(sorted(kind.__name__ for kind in odd))}), and a tensor has one type: "
                "make the ones of the others"
            )
        if int in odd:
            return "holds whole numbers that 64 bits cannot hold, and no type on the wire has more"
    first = next((kind for kind in odd if not issubclass(kind, bool | int | float)), next(iter(odd)))
    return f"holds values of {first.__name__}, which have no type on the wire{_way(first)}"


def _way(kind: type) -> str:
    if issubclass(kind, _TIMES):
        return ": send the number that the model was trained with"
    if issubclass(kind, Decimal | Fraction):
        return ": float() makes numbers of them"
    if hasattr(kind, "toarray"):
        return ": .toarray() makes an array of one"
    return ""
