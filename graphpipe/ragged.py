"""Where nested lists are ragged: the first row that is of another length than the one that all are held against."""

from __future__ import annotations

from itertools import islice
from typing import Any

from graphpipe.words import counted

__all__ = ["ragged_in"]

# A list may contain itself, once or twice.
_DEPTH_MAX = 64
_ROWS_MAX = 1 << 18


def ragged_in(value: object) -> str:
    """Which row of nested lists differs from the first one, and how; nothing if none is found.

    ``row [1] has 1 element, row [0] has 2``: a row is named by its places, outermost first.
    """
    # Axis by axis, all rows of one depth beside each other.
    rows: list[tuple[str, Any]] = [("", value)]
    for _ in range(_DEPTH_MAX):
        for place, row in rows:
            if _length(row) != _length(rows[0][1]):
                return f"row {place} {_size(row)}, row {rows[0][0]} {_size(rows[0][1])}"
        if not rows or _length(rows[0][1]) is None:
            return ""
        below = ((f"{place}[{i}]", each) for place, row in rows for i, each in enumerate(row))
        rows = list(islice(below, _ROWS_MAX))
    return ""


def _length(row: Any) -> int | None:
    """How many elements a row has; None where it is no row but an element."""
    if isinstance(row, list | tuple):
        return len(row)
    try:
        shape = getattr(row, "shape", None)
    except Exception:  # some tensors have none that can be said
        return None
    return int(shape[0]) if isinstance(shape, tuple) and shape else None


def _size(row: Any) -> str:
    length = _length(row)
    return "is one element" if length is None else f"has {counted(length, 'element')}"
