"""Where values are missing: nulls of columns and tables, masks, and both inside of lists.

numpy makes NaN, 0 or whatever lies beneath of them without a word. A floating-point NaN is no null but a number like
another, in a column without a validity of its own too. Libraries are known by what they offer: none is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["is_null", "missing_in"]

_PLAIN = {bool, int, float, complex, str, bytes, type(None)}
_DEPTH_MAX = 32  # as many axes as every numpy has


def missing_in(value: Any) -> str:
    """What is missing in ``value``: "nulls", "masked elements", or nothing. Raises ValueError for a list that holds
    itself, and for lists that are nested deeper than an array has axes.

    The elements of lists are looked into, those of object arrays are not: whoever takes them out sees them.
    """
    if isinstance(value, np.ma.MaskedArray):
        return "masked elements" if np.ma.is_masked(value) else ""
    if isinstance(value, np.ndarray | np.generic):
        return ""
    if isinstance(value, list | tuple):
        return _missing_in_list(value, 1, {})
    return "nulls" if _has_nulls(value) else ""


def is_null(item: object) -> bool:
    """Whether an element of an object array stands for none: None, NaN, pandas' NA and NaT."""
    if isinstance(item, float | np.datetime64 | np.timedelta64):
        return bool(item != item)
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _missing_in_list(values: list[Any] | tuple[Any, ...], depth: int, met: dict[int, bool]) -> str:
    """``met`` has the lists of lists that were met so far, and whether their elements are still being looked into: without
    it a list would be walked once for each way that leads to it, which may be 2**32.
    """
    # Lists of a million numbers are passed over at the speed of set().
    odd = {kind for kind in set(map(type, values)) - _PLAIN if not issubclass(kind, np.generic)}
    if not odd or met.get(id(values)) is False:
        return ""
    if id(values) in met:
        raise ValueError("a list that holds itself")
    if depth > _DEPTH_MAX:
        raise ValueError(f"lists in lists, more than {_DEPTH_MAX} deep")
    met[id(values)] = True
    for value in values:
        if type(value) in odd:
            is_list = isinstance(value, list | tuple)
            if missing := _missing_in_list(value, depth + 1, met) if is_list else missing_in(value):
                return missing
    met[id(values)] = False
    return ""


def _has_nulls(value: Any) -> bool:
    count = getattr(value, "null_count", None)
    if hasattr(value, "get_columns"):  # polars' frames, whose null_count is one too
        return _any(value.get_columns())
    if callable(count):
        return bool(count()) or _has_nulls_in_polars(value)
    if isinstance(count, int):
        return count > 0 or _has_nulls_in_arrow(value)
    if hasattr(value, "isna"):
        return _has_nulls_in_pandas(value)
    if hasattr(value, "itercolumns"):  # Arrow's tables and record batches
        return _any(value.itercolumns())
    return False


def _has_nulls_in_polars(series: Any) -> bool:
    dtype = series.dtype
    if hasattr(dtype, "inner"):
        if not hasattr(dtype, "shape"):
            series = series.filter(series.list.len() > 0)  # lists without elements would become nulls
        return _has_nulls(series.explode())
    return hasattr(dtype, "fields") and _has_nulls(series.struct.unnest())


def _has_nulls_in_arrow(array: Any) -> bool:
    """Behind the array's own validity: in its parts, and in what its elements consist of or point to."""
    if hasattr(array, "chunks"):
        return _any(array.chunks)
    if hasattr(array, "storage"):
        return _has_nulls(array.storage)
    if hasattr(array, "dictionary"):
        return array.dictionary.null_count > 0 and _has_nulls(array.dictionary_decode())
    if hasattr(array, "run_ends"):
        return _has_nulls(array.values)
    if hasattr(array, "flatten"):
        inside = array.flatten()
        return _any(inside) if isinstance(inside, list) else _has_nulls(inside)
    return False


def _has_nulls_in_pandas(value: Any) -> bool:
    dtypes = getattr(value, "dtypes", None)
    if hasattr(value, "iloc") and isinstance(dtypes, Iterable):
        return _any(value.iloc[:, place] for place, dtype in enumerate(dtypes) if not _is_plain(dtype))
    dtype = getattr(value, "dtype", None)
    if dtype is None or _is_plain(dtype):
        return False
    if bool(np.any(value.isna())):
        return True
    held = getattr(value, "array", value)
    return hasattr(dtype, "pyarrow_dtype") and _has_nulls(held.__arrow_array__())


def _is_plain(dtype: Any) -> bool:
    """Whether this is a type of numpy's own numbers, which know no null."""
    return isinstance(dtype, np.dtype) and dtype.kind != "O"


def _any(columns: Iterable[Any]) -> bool:
    return any(map(_has_nulls, columns))
